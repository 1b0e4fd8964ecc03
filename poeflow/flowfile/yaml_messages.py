"""What libyaml cannot read, in words, and what a plain scalar means (YAML 1.2's core schema)."""

import re
from collections.abc import Callable
from typing import Final

import yaml

from poeflow.digest import Json
from poeflow.problems import Place, Problem

QUOTE: Final = "quote it, or use |"
_INDENT: Final = "give all keys of one mapping the same indentation"
_TABS: Final = ("a tab stands where spaces must", "indent with spaces, not tabs")
_ALIAS: Final = "a value that begins with * is an alias to YAML"
_LONGEST: Final = 2_000
_CLOSING: Final = {"[": "]", "{": "}"}


def syntax_problem(error: yaml.YAMLError, text: str, path: str) -> Problem:
    """Turn libyaml's error about `text` into a problem."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return _unreadable_character(text, path, getattr(error, "position", 0))
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Problem(Place(path), f"not YAML: {error.problem}")
    opening = _Spot(text, error.context_mark) if error.context_mark else None
    spot, message, hint = _words(str(error.problem), str(error.context), _Spot(text, mark), opening)
    return Problem(Place(path, spot.line, spot.column), f"not YAML: {message}", hint)


def alias_hint(name: str) -> str:
    """Return what to do about an alias to nothing: few people mean one."""
    return f"to write a text that begins with *: {QUOTE}; else add the anchor &{name}"


class _Spot:
    """A place in a text, from 1, with what stands before it in its line."""

    def __init__(self, text: str, mark: yaml.Mark) -> None:
        lines = text.count("\n") + 1
        is_past_the_end = mark.line >= lines
        self.line = lines if is_past_the_end else mark.line + 1
        self.column = len(text) - text.rfind("\n") if is_past_the_end else mark.column + 1
        self.character = text[mark.index : mark.index + 1]
        self.after = text[mark.index : mark.index + _LONGEST].split("\n", 1)[0]
        start = max(text.rfind("\n", 0, mark.index) + 1, mark.index - _LONGEST)
        self.before = text[start : mark.index]


def _words(
    problem: str, context: str, spot: _Spot, opening: _Spot | None
) -> tuple[_Spot, str, str]:
    """Return where a person would look, what is wrong there and what to do."""
    began = opening or spot
    match problem:
        case "did not find expected key":
            return spot, *_no_key(spot)
        case "did not find expected ',' or ']'" | "did not find expected ',' or '}'":
            return began, *_unclosed(began, spot)
        case "found unexpected end of stream" if "quoted scalar" in context:
            return began, "this quote is never closed", "close it, or use |"
        case "mapping values are not allowed in this context":
            return spot, *_colon(spot)
        case "found character that cannot start any token":
            if spot.character == "\t":
                return spot, *_TABS
            if spot.before.endswith("{"):
                spot.column -= 1
                return spot, f"a value cannot begin with {{{spot.character}", QUOTE
            return spot, f"a value cannot begin with {spot.character}", QUOTE
        case "did not find expected alphabetic or numeric character" if "alias" in context:
            return began, _ALIAS, QUOTE
        case "did not find expected alphabetic or numeric character":
            return began, "a value that begins with & is an anchor to YAML", QUOTE
        case "did not find expected comment or line break" if "block scalar" in context:
            return spot, f"text follows {began.character}", "begin the text in the next line"
        case "found unknown escape character":
            hint = r"write \\ for a backslash, or take 'single quotes'"
            return spot, f"the escape {spot.after[:2]} is unknown", hint
        case "did not find expected '-' indicator":
            return spot, "this is no item of the list above it", "begin it with -, or indent it"
        case "did not find expected node content" if not spot.character:
            return spot, "the file ends where a value is needed", "close what is open"
        case "did not find expected node content":
            return spot, f"a value is missing before {spot.character}", QUOTE
        case other if "tab character" in other:
            return spot, *_TABS
        case other:
            return spot, other, ""


def _no_key(spot: _Spot) -> tuple[str, str]:
    before = spot.before.rstrip()
    if not before:
        return "this line is indented unlike those it belongs to", _INDENT
    if before[-1] in "\"'":
        return "text follows the closing quote", "quote all of it, or use |"
    return "this cannot stand here", QUOTE


def _unclosed(opening: _Spot, spot: _Spot) -> tuple[str, str]:
    message = f"this {opening.character} is not closed"
    if opening.line != spot.line:
        message += f" before line {spot.line}"
    if "{{" in opening.after or "{%" in opening.after:
        return message, "quote texts with braces in them"
    if " #" in opening.after:
        return message, "a # behind a space begins a comment: quote the text"
    return message, f"add {_CLOSING.get(opening.character, 'it')}, or quote the texts in it"


def _colon(spot: _Spot) -> tuple[str, str]:
    if re.fullmatch(r"\s*(- )?[\w.-]+", spot.before):
        return "a key cannot stand here: the line above has a value already", _INDENT
    return "the text holds a colon", QUOTE


def _unreadable_character(text: str, path: str, offset: int) -> Problem:
    """Say which character libyaml refused; it counts in bytes."""
    position = len(text.encode()[:offset].decode(errors="ignore"))
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    code = ord(text[position]) if position < len(text) else 0
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
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,4000})")
_BASED: Final = re.compile(r"0o[0-7]{1,64}|0x[0-9a-fA-F]{1,64}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
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
