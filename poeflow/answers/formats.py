"""The formats of answers: how a prompt asks for each, and how a text is read.

`FORMATS` at the end has them by name. The requests, the readers, the schema of flow files and the
table on the page of the flow format use it.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from poeflow.answers import json_text
from poeflow.answers.display import MAX_FAULTS, counted, one_line, quoted
from poeflow.answers.json_text import blocks, labelled
from poeflow.answers.schemas import Schema
from poeflow.digest import Json
from poeflow.flowfile import yaml_tree
from poeflow.flowfile.model import Format
from poeflow.flowfile.yaml_tree import Document
from poeflow.lazy_pattern import lazy_pattern


class UnreadableError(Exception):
    """The text is not of its format. `faults` say why."""

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)
        self.faults = faults


class FormatReader(Protocol):
    """Reads a text as data. Raises `UnreadableError`.

    If the text has several documents, the one that fits `schema` is used.
    """

    def __call__(self, text: str, schema: Schema | None, /) -> Json: ...


class AnswerFormat(msgspec.Struct, frozen=True, kw_only=True):
    """One format of answers.

    `about` is its line on that page, `fences` are the labels of its fenced blocks. `document` is
    its name in the first request, `content` the part that a schema describes; `again` is its name
    in a correction, empty if none can be requested.
    """

    about: str
    read: FormatReader
    fences: tuple[str, ...] = ()
    document: str = ""
    content: str = "It"
    again: str = ""

    @property
    def is_data(self) -> bool:
        """Whether an answer becomes `.data`; a text does not."""
        return bool(self.document)


def only_block(text: str, fences: Sequence[str]) -> str | None:
    """Return the content of the one fenced block, None if there is no block.

    Blocks with a label of `fences` come before all others. Raises `UnreadableError` if there are
    several.
    """
    contents = {block.content for block in labelled(blocks(text), *fences)}
    if len(contents) > 1:
        raise UnreadableError(f"the answer has {len(contents)} fenced blocks, and one is wanted")
    return next(iter(contents), None)


def _text(_text: str, _schema: Schema | None) -> Json:
    return None


def _json(text: str, schema: Schema | None) -> Json:
    try:
        return json_text.find_document(text, lambda data: schema is None or not schema.faults(data))
    except json_text.NotJsonError as error:
        raise UnreadableError(f"the answer is not JSON: {error}") from None
    except json_text.UnusableError as error:
        raise UnreadableError(f"the answer's JSON cannot be used: {error}") from None


_YAML_FENCES: Final = ("yaml", "yml")
_TAIL: Final = lazy_pattern(r"[ \t]+#[^\s#]")
"""A text that YAML drops as a comment, although it is hardly one."""


def _yaml(text: str, _schema: Schema | None) -> Json:
    """Read the whole text, or its fenced block if the text is neither a mapping nor a list."""
    try:
        return _yaml_document(text)
    except UnreadableError:
        block = only_block(text, _YAML_FENCES)
        if block is None:
            raise
    return _yaml_document(block)


def _yaml_document(text: str) -> Json:
    if len(text.encode("utf-8", "replace")) > yaml_tree.MAX_BYTES:
        raise UnreadableError("the answer is not YAML: it is over 4 MiB")
    document = yaml_tree.parse(text, "answer")
    if document.problems:
        problems = [
            f"line {problem.place.line}, column {problem.place.column}: {problem.message}"
            for problem in document.problems[:MAX_FAULTS]
        ]
        raise UnreadableError(
            *(f"the answer is not YAML: {one_line(each, 200)}" for each in problems)
        )
    data = None if document.root is None else document.root.data
    if data is None or isinstance(data, str):
        kind = f"the plain text {quoted(data)}" if data else "empty"
        raise UnreadableError(f"the answer is {kind}, not a YAML mapping or list")
    try:
        json_text.refuse_unusable(data)
        _refuse_changed(document)
    except json_text.UnusableError as error:
        raise UnreadableError(f"the answer's YAML cannot be used: {error}") from None
    return data


def _refuse_changed(document: Document) -> None:
    """Raise `UnusableError` if YAML reads a value differently from how it is written.

    Such are a number that loses digits, a text that ends before its `#1`, and a text in double
    quotes that loses a backslash.
    """
    waiting = [document.root]
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        waiting += (*node.items, *node.keys.values(), *node.values.values())
        if node.style == "double":
            json_text.refuse_undoubled(document.text, node.start, node.end, form="yaml")
        if node.style != "plain":
            continue
        if isinstance(node.data, float):
            json_text.number(document.text[node.start : node.end].split()[-1])  # behind an anchor
        elif isinstance(node.data, str) and _TAIL.match(document.text, node.end):
            message = f"the text in line {node.line} ends before the #, which begins a comment"
            raise json_text.UnusableError(f"{message}; put it in quotes")


_CSV_FENCES: Final = ("csv",)
_SPACED_QUOTE: Final = lazy_pattern(r'[ \t]+"')


def _csv(text: str, _schema: Schema | None) -> Json:
    block = only_block(text, _CSV_FENCES)
    try:
        rows = _table(text if block is None else block)
        json_text.refuse_unusable(rows)
    except _NotCsvError as error:
        raise UnreadableError(f"the answer is not CSV: {error}") from None
    except json_text.UnusableError as error:
        raise UnreadableError(f"the answer's CSV cannot be used: {error}") from None
    return rows


class _NotCsvError(Exception):
    """The text cannot be read as a table; the message says why."""


def _table(text: str) -> list[Json]:
    """Return the rows below the header. Raises `_NotCsvError`."""
    rows = _rows(text.removeprefix("\ufeff").strip("\r\n"))
    header = next(rows, None)
    if header is None:
        raise _NotCsvError("it is empty")
    names = [name.strip() for name in header[1]]
    divider = _divider(names)
    if divider:
        raise _NotCsvError(f"its columns are divided by {divider}, not by commas")
    if "" in names:
        raise _NotCsvError(f"column {names.index('') + 1} of the header has no name")
    [(name, count)] = Counter(names).most_common(1)
    if count > 1:
        raise _NotCsvError(f"the header has the column {quoted(name)} twice")
    found: list[Json] = []
    for line, values in rows:
        if len(values) != len(names):
            has = counted(len(values), "value")
            raise _NotCsvError(f"row {len(found) + 1} (line {line}) has {has}, not {len(names)}")
        found.append(dict(zip(names, values, strict=True)))
    return found


def _divider(names: list[str]) -> str:
    """Return the separator of a header without commas, empty if it has only one column."""
    [name, *others] = names
    if others:
        return ""
    if name.lower().startswith("sep=") or ";" in name:
        return ";"
    return "|" if "|" in name else "tabs" if "\t" in name else ""


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with the line it begins in."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for values in reader:
            if any(_is_quoted_late(value, text) for value in values):
                message = f"line {line} has a space before the quote that begins a value"
                raise _NotCsvError(f"{message}; remove it")
            if values:
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise _NotCsvError(f"the row that begins in line {line} cannot be read: {error}") from None


def _is_quoted_late(value: str, text: str) -> bool:
    """Whether a value holds its own quotes, because a space comes before the first."""
    if _SPACED_QUOTE.match(value) is None:
        return False
    doubled = value.replace('"', '""')
    return f'"{doubled}"' not in text


FORMATS: Final[Mapping[Format, AnswerFormat]] = {
    "text": AnswerFormat(about="any text, unchanged, without `.data`", read=_text),
    "json": AnswerFormat(
        about="one JSON document: alone, in a fence, or among words; JSON5 is accepted",
        read=_json,
        fences=json_text.FENCES,
        document="JSON document",
        again="one JSON document only",
    ),
    "yaml": AnswerFormat(
        about="one YAML mapping or list: alone, or in a fence",
        read=_yaml,
        fences=_YAML_FENCES,
        document="YAML document",
        again="one YAML document only",
    ),
    "csv": AnswerFormat(
        about="a table with commas and a header: a list of rows, each by the names of columns",
        read=_csv,
        fences=_CSV_FENCES,
        document="CSV table with a header row",
        content="Its rows, as objects,",
        again="CSV only, with a header row and as many values in each row",
    ),
}
