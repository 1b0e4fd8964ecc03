"""Messages for libyaml's errors, and plain scalars as YAML 1.2's core schema has them.

Hints write small values in YAML by it.
"""

import re
from collections.abc import Callable
from typing import Any, Final

import yaml

from poeflow.digest import Json, encode_json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Place, Problem

QUOTE: Final = "quote it, or use |"
_INDENT: Final = "give all keys of one mapping the same indentation"
_TABS: Final = ("a tab is used for indentation", "indent with spaces, not tabs")
_ALIAS: Final = "a value that begins with * is an alias to YAML"
_LONGEST: Final = 2_000
_CLOSING: Final = {"[": "]", "{": "}"}


def yaml_problem(error: yaml.YAMLError, text: str, path: str) -> Problem:
    """Return libyaml's error about `text` as a problem."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return _unreadable_character(text, path, getattr(error, "position", 0))
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem(Place(path), f"not YAML: {error.problem}")
    opening = _Position(text, error.context_mark) if error.context_mark else None
    at, message, hint = _located_message(
        str(error.problem), str(error.context), _Position(text, mark), opening
    )
    return Problem(Place(path, at.line, at.column), f"not YAML: {message}", hint)


def alias_hint(name: str) -> str:
    """Return a hint for an alias without an anchor, which is usually not meant as an alias."""
    return f"to write a text that begins with *: {QUOTE}; else add the anchor &{name}"


class _Position:
    """A position in a text, from 1, with the text before and after it in its line."""

    def __init__(self, text: str, mark: yaml.Mark) -> None:
        lines = text.count("\n") + 1
        is_past_the_end = mark.line >= lines
        self.line = lines if is_past_the_end else mark.line + 1
        self.column = len(text) - text.rfind("\n") if is_past_the_end else mark.column + 1
        self.character = text[mark.index : mark.index + 1]
        self.after = text[mark.index : mark.index + _LONGEST].split("\n", 1)[0]
        start = max(text.rfind("\n", 0, mark.index) + 1, mark.index - _LONGEST)
        self.before = text[start : mark.index]


def _located_message(
    problem: str, context: str, at: _Position, opening: _Position | None
) -> tuple[_Position, str, str]:
    """Return the position to show, the message and the hint."""
    start = opening or at
    match problem:
        case "did not find expected key":
            return at, *_no_key(at)
        case "did not find expected ',' or ']'" | "did not find expected ',' or '}'":
            return start, *_unclosed(start, at)
        case "found unexpected end of stream" if "quoted scalar" in context:
            return start, "this quote is never closed", "close it, or use |"
        case "mapping values are not allowed in this context":
            return at, *_colon(at)
        case "found character that cannot start any token":
            if at.character == "\t":
                return at, *_TABS
            if at.before.endswith("{"):
                at.column -= 1
                return at, f"a value cannot begin with {{{at.character}", QUOTE
            return at, f"a value cannot begin with {at.character}", QUOTE
        case "did not find expected alphabetic or numeric character" if "alias" in context:
            return start, _ALIAS, QUOTE
        case "did not find expected alphabetic or numeric character":
            return start, "a value that begins with & is an anchor to YAML", QUOTE
        case "did not find expected comment or line break" if "block scalar" in context:
            return at, f"text follows {start.character}", "begin the text in the next line"
        case "found unknown escape character":
            hint = r"write \\ for a backslash, or take 'single quotes'"
            return at, f"the escape {at.after[:2]} is unknown", hint
        case "did not find expected '-' indicator":
            return at, "this is not an item of the list above", "begin it with -, or indent it"
        case "did not find expected node content" if not at.character:
            return at, "the file ends where a value is expected", "close what is open"
        case "did not find expected node content":
            return at, f"a value is missing before {at.character}", QUOTE
        case other if "tab character" in other:
            return at, *_TABS
        case other:
            return at, other, ""


def _no_key(at: _Position) -> tuple[str, str]:
    before = at.before.rstrip()
    if not before:
        return "this line is not indented like those around it", _INDENT
    if before[-1] in "\"'":
        return "text follows the closing quote", "quote all of it, or use |"
    return "this is not allowed here", QUOTE


def _unclosed(opening: _Position, at: _Position) -> tuple[str, str]:
    message = f"this {opening.character} is not closed"
    if opening.line != at.line:
        message += f" before line {at.line}"
    if "{{" in opening.after or "{%" in opening.after:
        return message, "quote texts with braces in them"
    if " #" in opening.after:
        return message, "a # after a space begins a comment: quote the text"
    return message, f"add {_CLOSING.get(opening.character, 'it')}, or quote the texts in it"


def _colon(at: _Position) -> tuple[str, str]:
    if re.fullmatch(r"\s*(- )?[\w.-]+", at.before):
        return "a key is not allowed here: the line above already has a value", _INDENT
    return "the text holds a colon", QUOTE


def _unreadable_character(text: str, path: str, offset: int) -> Problem:
    """Return a problem for the character libyaml refused; its offset is in bytes."""
    at = len(text.encode()[:offset].decode(errors="ignore"))
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    code = ord(text[at]) if at < len(text) else 0
    message = f"the control character U+{code:04X} is not allowed"
    return Problem(Place(path, line, column), message, "remove it")


_CONSTANTS: Final[dict[str, Json]] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_INTEGER: Final = lazy_pattern(r"[-+]?(0|[1-9][0-9]{0,4000})")
_BASED: Final = lazy_pattern(r"0o[0-7]{1,64}|0x[0-9a-fA-F]{1,64}")
_FLOAT: Final = lazy_pattern(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL: Final = lazy_pattern(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_NUMBERS: Final[tuple[tuple[re.Pattern[str], Callable[[str], Json]], ...]] = (
    (_INTEGER, int),
    (_BASED, lambda text: int(text, 0)),
    (_FLOAT, float),
    (_SPECIAL, lambda text: float(text.replace(".", "", 1))),
)


def core_value(text: str) -> Json:
    """Return the value of a plain scalar: null, boolean, integer, float, else the text itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "-+.0123456789":
        return text
    return next((read(text) for shape, read in _NUMBERS if shape.fullmatch(text)), text)


_UNPLAIN: Final = lazy_pattern(r"^['\"*&!%@`|>?{\[]|: | #|\s$")
"""What a text may not begin with, or hold, if it is written without quotes."""
_UNPLAIN_INSIDE: Final = lazy_pattern(r"[\[\]{},]")
"""What it may not hold besides if it stands in brackets."""
_PLAIN: Final = lazy_pattern(r"[\w./=+-]+")


def yaml_word(word: str) -> str:
    """Return a word as an item of a YAML list."""
    is_text = _PLAIN.fullmatch(word) is not None and isinstance(core_value(word), str)
    return word if is_text else encode_json(word).decode()


def one_line_yaml(value: Any, *, is_inside: bool = False) -> str:
    """Return a small value as YAML in one line."""
    if isinstance(value, dict):
        parts = (
            f"{yaml_word(key)}: {one_line_yaml(part, is_inside=True)}"
            for key, part in value.items()
        )
        return "{" + ", ".join(parts) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(one_line_yaml(part, is_inside=True) for part in value) + "]"
    if isinstance(value, str) and (
        _UNPLAIN.search(value)
        or (is_inside and _UNPLAIN_INSIDE.search(value))
        or not isinstance(core_value(value), str)
    ):
        return encode_json(value).decode()
    return str(value).lower() if isinstance(value, bool) else str(value)
