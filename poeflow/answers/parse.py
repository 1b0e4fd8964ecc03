"""The text of an answer becomes what its step's `output` asks for, or sentences why it cannot.

The sentences go back to the model if the step repairs, so they say what to do better.
"""

import csv
import io
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from poeflow.answers import json_text as documents
from poeflow.answers.display import MAX_FAULTS, MAX_OPTIONS, counted, one_line, quoted
from poeflow.answers.json_text import blocks, labelled
from poeflow.answers.reasoning import parted
from poeflow.answers.schemas import Schema
from poeflow.digest import Json
from poeflow.errors import StepError
from poeflow.flowfile import yaml_tree as source
from poeflow.flowfile.model import Output
from poeflow.flowfile.yaml_tree import Document

_WRAPPERS: Final = (
    *(("*", "*"), ("_", "_"), ("`", "`"), ('"', '"'), ("'", "'")),
    *(("“", "”"), ("\u2018", "\u2019"), ("„", "“"), ("«", "»"), ("(", ")"), ("[", "]")),
    *(("\u2039", "\u203a"), ("「", "」"), ("『", "』"), ("【", "】")),
)
_ENDINGS: Final = ".!,;:。"
_MAX_ANSWER: Final = 10_000
_FENCES: Final = ("```", "~~~")
_SAME_SHAPE: Final = ("<noBreak>", "<wide>", "<narrow>", "<font>", "<compat>")
"""Kinds of characters that are another one in a different dress: not ², ½ or ①."""
_ALIKE: Final = {
    **dict.fromkeys("\u2212\u2043\u02d7", "-"),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02b9\u02bc`\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
}
_INVISIBLE: Final = ("\u034f", *map(chr, range(0xFE00, 0xFE10)))


def chosen(text: str, options: Sequence[str]) -> str | None:
    """Return the option, as declared, that an answer names; None where it names none.

    Case, surrounding space, quotes, Markdown emphasis, a fence and a final period do not count.
    Nor does what the eye cannot tell apart (kinds of dashes, quotes and spaces, invisible
    characters, full width), where that leaves one option only.
    """
    if len(text) > _MAX_ANSWER:
        return None
    exact = {_folded(option): option for option in reversed(options)}
    alike: dict[str, str | None] = {}
    for option in options:
        same = alike.setdefault(_plain(option), option)
        if same is not None and _folded(same) != _folded(option):
            alike[_plain(option)] = None
    said = tuple(_said(text))
    peeled = [bare for one in said for bare in _peeled(_folded(one))]
    found = next((exact[bare] for bare in peeled if bare in exact), None)
    if found is not None:
        return found
    peeled = [bare for one in said for bare in _peeled(_plain(one))]
    return next((alike[bare] for bare in peeled if alike.get(bare) is not None), None)


def _said(text: str) -> Iterator[str]:
    """Yield an answer, and what its fence holds or its JSON spells where it is nothing else."""
    yield text
    bare = text.strip()
    if bare.startswith(_FENCES) and bare.endswith(_FENCES):
        those = blocks(bare)
        if len(those) == 1:
            bare = those[0].content.strip()
            yield bare
    if bare.startswith('"') and "\\" in bare:
        try:
            spelled = json.loads(bare)
        except ValueError:
            return
        yield str(spelled)


def _peeled(text: str) -> Iterator[str]:
    """Yield a text, and what is left of it each time a layer is taken off."""
    while text:
        yield text
        if text[-1] in _ENDINGS:
            text = text[:-1].strip()
        elif len(text) > 1 and (text[0], text[-1]) in _WRAPPERS:
            text = text[1:-1].strip()
        else:
            return


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold()).strip()


def _plain(text: str) -> str:
    """Return a text with one of each kind of characters that look the same, in small letters."""
    told = "".join(map(_plain_character, unicodedata.normalize("NFC", text)))
    return _folded(" ".join(told.split()))


def _plain_character(character: str) -> str:
    if character.isascii() and character != "`":
        return character
    category = unicodedata.category(character)
    if character in _ALIKE:
        return _ALIKE[character]
    if category == "Pd":
        return "-"
    if category == "Cf" or character in _INVISIBLE:
        return ""
    if unicodedata.decomposition(character).startswith(_SAME_SHAPE):
        return unicodedata.normalize("NFKC", character)
    return character


_SPACED_QUOTE: Final = re.compile(r'[ \t]+"')


class NotCsvError(Exception):
    """The text is no table; the message says where."""


def table(text: str) -> list[Json]:
    """Return the rows below the header. Raises `NotCsvError`."""
    rows = _rows(text.removeprefix("\ufeff").strip("\r\n"))
    header = next(rows, None)
    if header is None:
        raise NotCsvError("it is empty")
    names = [name.strip() for name in header[1]]
    divider = _divider(names)
    if divider:
        raise NotCsvError(f"its columns are divided by {divider}, not by commas")
    if "" in names:
        raise NotCsvError(f"column {names.index('') + 1} of the header has no name")
    [(name, count)] = Counter(names).most_common(1)
    if count > 1:
        raise NotCsvError(f"the header has the column {quoted(name)} twice")
    found: list[Json] = []
    for line, values in rows:
        if len(values) != len(names):
            has = counted(len(values), "value")
            raise NotCsvError(f"row {len(found) + 1} (line {line}) has {has}, not {len(names)}")
        found.append(dict(zip(names, values, strict=True)))
    return found


def _divider(names: list[str]) -> str:
    """Return what divides the columns of a header that has no comma, empty if there is one only."""
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
                told = f"in line {line} a space stands before the quote that begins a value"
                raise NotCsvError(f"{told}; remove it")
            if values:
                yield line, values
            line = reader.line_num + 1
    except csv.Error as error:
        raise NotCsvError(f"the row that begins in line {line} cannot be read: {error}") from None


def _is_quoted_late(value: str, text: str) -> bool:
    """Tell whether a value holds the quotes it stands in, as there is a space before the first."""
    if _SPACED_QUOTE.match(value) is None:
        return False
    doubled = value.replace('"', '""')
    return f'"{doubled}"' not in text


_LABELS: Final = {"json": ("json", "json5", "jsonc"), "yaml": ("yaml", "yml"), "csv": ("csv",)}
_TAIL: Final = re.compile(r"[ \t]+#[^\s#]")
"""What YAML drops as a comment, and no comment is written like."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer holds.

    `text` is the answer, or its fenced block where `extract` asks for that. `data` is there for
    the formats json, yaml and csv, and with a schema; `value` for `one_of`, as it is declared.
    `reasoning` is what the text began with, unless `output` keeps it there. An answer with
    `faults` cannot be used.
    """

    text: str
    reasoning: str = ""
    data: Json = None
    value: str | None = None
    faults: tuple[str, ...] = ()


class _UnreadableError(Exception):
    """The text is not of its format. `faults` say why."""

    def __init__(self, *faults: str) -> None:
        super().__init__(*faults)
        self.faults = faults


def read(output: Output, text: str, schema: Schema | None) -> Reading:
    """Read an answer as `output` asks. Never raises for what the text holds: see `faults`.

    A schema without a format means JSON. Data without a fence is fine where `extract` asks for
    one; an empty answer has no faults where `accept` takes it.
    """
    reasoning, answer = parted(text)
    whole = answer
    if output.reasoning == "keep":
        reasoning, whole = "", text
    if not answer.strip() and "empty" in output.accept:
        return Reading(text=whole, reasoning=reasoning)
    form = output.format or ("text" if schema is None else "json")
    if text.strip() and not whole.strip():
        told = "the answer is nothing but reasoning"
        return Reading(text=whole, reasoning=reasoning, faults=(told,))
    try:
        if output.extract == "fenced":
            whole = answer = _block(answer, form)
        data = _data(form, answer, schema)
        value = _value(output.one_of, answer) if output.one_of is not None else None
    except _UnreadableError as error:
        return Reading(text=whole, reasoning=reasoning, faults=error.faults)
    faults = () if schema is None else schema.faults(data)
    return Reading(text=whole, reasoning=reasoning, data=data, value=value, faults=faults)


def of_file(output: Output) -> Output:
    """Return how a step's text is read out of its file: without a fence, all of it the answer."""
    return msgspec.structs.replace(output, extract=None, reasoning="keep")


def json_in(text: str, schema: Schema | None = None) -> Json:
    """Return the one JSON document in a text. Raises `StepError`."""
    try:
        return _json(parted(text).answer, schema)
    except _UnreadableError as error:
        raise StepError("; ".join(error.faults), hint="ask for JSON only in the prompt") from None


def _data(form: str, text: str, schema: Schema | None) -> Json:
    match form:
        case "json":
            return _json(text, schema)
        case "yaml":
            return _yaml(text)
        case "csv":
            return _csv(text)
        case _:
            return None


def _json(text: str, schema: Schema | None) -> Json:
    try:
        return documents.found(text, lambda data: schema is None or not schema.faults(data))
    except documents.NotJsonError as error:
        raise _UnreadableError(f"the answer is not JSON: {error}") from None
    except documents.UnusableError as error:
        raise _UnreadableError(f"the answer's JSON cannot be used: {error}") from None


def _yaml(text: str) -> Json:
    """Read the whole text, and where that is no structure its fenced block."""
    try:
        return _yaml_document(text)
    except _UnreadableError:
        block = _only_block(text, "yaml")
        if block is None:
            raise
    return _yaml_document(block)


def _yaml_document(text: str) -> Json:
    if len(text.encode("utf-8", "replace")) > source.MAX_BYTES:
        raise _UnreadableError("the answer is not YAML: it is over 4 MiB")
    document = source.parse(text, "answer")
    if document.problems:
        told = [
            f"line {problem.place.line}, column {problem.place.column}: {problem.message}"
            for problem in document.problems[:MAX_FAULTS]
        ]
        raise _UnreadableError(*(f"the answer is not YAML: {one_line(each, 200)}" for each in told))
    data = None if document.root is None else document.root.data
    if data is None or isinstance(data, str):
        kind = f"the plain text {quoted(data)}" if data else "empty"
        raise _UnreadableError(f"the answer is {kind}, and no YAML mapping or list")
    try:
        documents.refuse_unusable(data)
        _refuse_changed(document)
    except documents.UnusableError as error:
        raise _UnreadableError(f"the answer's YAML cannot be used: {error}") from None
    return data


def _refuse_changed(document: Document) -> None:
    """Raise `UnusableError` for a value that is another than what is written.

    That is a number that loses digits, a text that ends before its `#1`, or one in double quotes
    that lost a backslash.
    """
    waiting = [document.root]
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        waiting += (*node.items, *node.keys.values(), *node.values.values())
        if node.style == "double":
            documents.refuse_undoubled(document.text, node.start, node.end, form="yaml")
        if node.style != "plain":
            continue
        if isinstance(node.data, float):
            documents.number(document.text[node.start : node.end].split()[-1])  # behind an anchor
        elif isinstance(node.data, str) and _TAIL.match(document.text, node.end):
            told = f"the text in line {node.line} ends before the #, which begins a comment"
            raise documents.UnusableError(f"{told}; put it in quotes")


def _csv(text: str) -> Json:
    block = _only_block(text, "csv")
    try:
        rows = table(text if block is None else block)
        documents.refuse_unusable(rows)
    except NotCsvError as error:
        raise _UnreadableError(f"the answer is not CSV: {error}") from None
    except documents.UnusableError as error:
        raise _UnreadableError(f"the answer's CSV cannot be used: {error}") from None
    return rows


def _block(text: str, form: str) -> str:
    """Return the content of the fenced block. Data may stand without a fence, text may not."""
    block = _only_block(text, form)
    if block is None and form == "text":
        raise _UnreadableError("the answer has no fenced block")
    return text if block is None else block


def _only_block(text: str, form: str) -> str | None:
    """Return what the one fenced block holds, None where there is no block."""
    contents = {block.content for block in labelled(blocks(text), *_LABELS.get(form, ()))}
    if len(contents) > 1:
        raise _UnreadableError(f"the answer has {len(contents)} fenced blocks, and one is wanted")
    return next(iter(contents), None)


def _value(options: Sequence[str], text: str) -> str:
    value = chosen(text, options)
    if value is None:
        listed = ", ".join(quoted(option) for option in options[:MAX_OPTIONS])
        raise _UnreadableError(f"the answer is none of {listed}: {quoted(text)}")
    return value
