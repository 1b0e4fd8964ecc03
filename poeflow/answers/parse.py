"""An answer's text becomes what its step's `output` asks for, or sentences saying why it cannot.

The sentences go back to the model where a step repairs, so they tell what to do better.
"""

import re
from collections.abc import Sequence
from typing import Final

import msgspec

from poeflow.answers import json_text as documents
from poeflow.answers.choices import chosen
from poeflow.answers.display import one_line, quoted
from poeflow.answers.fences import blocks, labelled
from poeflow.answers.reasoning import parted
from poeflow.answers.schemas import Schema
from poeflow.answers.tables import NotCsvError, table
from poeflow.digest import Json
from poeflow.errors import StepError
from poeflow.flowfile import yaml_tree as source
from poeflow.flowfile.model import Output
from poeflow.flowfile.tree import Document

_LABELS: Final = {"json": ("json", "json5", "jsonc"), "yaml": ("yaml", "yml"), "csv": ("csv",)}
_TAIL: Final = re.compile(r"[ \t]+#[^\s#]")
"""What YAML drops as a comment, and no comment is written like."""
_MAX_FAULTS: Final = 3
_MAX_OPTIONS: Final = 20


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
            for problem in document.problems[:_MAX_FAULTS]
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
        listed = ", ".join(quoted(option) for option in options[:_MAX_OPTIONS])
        raise _UnreadableError(f"the answer is none of {listed}: {quoted(text)}")
    return value
