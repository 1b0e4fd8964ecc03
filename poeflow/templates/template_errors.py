"""What is wrong with a template's text, in words: syntax, and habits from other tools."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from jinja2 import TemplateSyntaxError

from poeflow.problems import Problem
from poeflow.templates.environment import OffsetLexer
from poeflow.templates.reader import Origin
from poeflow.templates.scopes import Loss

_NO_ELSE: Final = re.compile(r"^the inline if-expression on line .* no else section was defined\.$")
_IMPORTED_AT: Final = re.compile(r" \(imported on line \d+( in '.*?')?\)")
_CHARACTERS: Final = {
    "&": ("&& is no operator here", 'write "and"'),
    "!": ("! is no operator here", 'write "not", or "!=" between two values'),
    "?": ("? is no operator here", 'write "a if condition else b"'),
    "$": ("$ has no meaning here", "write names without it"),
}
RAW: Final = "to show braces as they are, write {% raw %} ... {% endraw %}"
_CLOSE: Final = "close it with }}"
_OPERATORS: Final = {
    "contains": "write 'x' in text",
    "includes": "write 'x' in text",
    "startswith": "write text.startswith('x')",
    "starts_with": "write text.startswith('x')",
    "endswith": "write text.endswith('x')",
    "ends_with": "write text.endswith('x')",
    "matches": "use expect: {matches: ...}, or 'x' in text",
    "AND": 'write "and"',
    "OR": 'write "or"',
    "eq": 'write "=="',
    "equals": 'write "=="',
    "ne": 'write "!="',
}
"""Operators of other languages, and what to write here."""
_KINDS: Final = {"string": "a text", "integer": "a number", "float": "a number"}
_MISSING: Final = (
    "Expected an expression, got 'end of print statement'",
    "unexpected 'end of print statement'",
)
_OPENED: Final = re.compile(r"\{\{[-+]?\s*$")
_NEAR: Final = 20
_INNERMOST: Final = re.compile(r"innermost block that needs to be closed is '(\w+)'")
_STRAY: Final = re.compile(r"^expected token 'end of print statement', got '(\w+)'$")
_HINTS: Final = {
    "got ':'": RAW,
    "expected token ':', got '}'": RAW,
    "expected token 'end of print statement'": _CLOSE,
    "expected 'end of print statement'": _CLOSE,
    "expected token 'end of statement block'": "close it with %}",
    "unexpected '}'": _CLOSE,
    "unexpected char": RAW,
    "Missing end of comment": RAW,
    "Missing end of raw": "add {% endraw %}",
    "Tag name expected": RAW,
}


def habits(text: str, origin: Origin, lexer: OffsetLexer) -> Iterator[Problem]:
    """Yield warnings for what Jinja takes and its writer hardly means: `${{`, long comments."""
    if "${{" not in text and "{#" not in text:
        return
    before = ""
    try:
        for position, kind, value in lexer.tokeniter(text, None):
            if kind == "variable_begin" and before.endswith("$"):
                place = origin.locate(position - 2)
                hint = "write {{ ... }} alone, or {{ '$' }} before it where you mean the sign"
                yield Problem(place, "the $ before {{ stays in the text", hint, "warning")
            if kind == "comment" and "\n" in value:
                place = origin.locate(position - 3)
                message = "a {# comment #} over several lines is left out of the text"
                hint = "check that nothing you need is in it"
                yield Problem(place, message, hint, "warning")
            before = value if kind == "data" else ""
    except TemplateSyntaxError:
        return


def lost(losses: Iterable[Loss], origin: Origin) -> Iterator[Problem]:
    """Yield a warning for each name that is set in a loop or block and read when it is over."""
    for loss in losses:
        where = "each turn of the loop" if loss.in_loop else "the block"
        message = f'what "{loss.name}" is set to here is lost at the end of {where}'
        hint = (
            f"write {{% set ns = namespace({loss.name}=...) %}} before, "
            f"{{% set ns.{loss.name} = ... %}} here, and read ns.{loss.name}"
        )
        yield Problem(origin.locate(loss.offset), message, hint, "warning")


def syntax_problem(
    error: TemplateSyntaxError, text: str, origin: Origin, *, is_bare: bool = False
) -> Problem:
    """Turn Jinja's syntax error, whose line number is an offset, into a problem.

    `is_bare` tells that the text is an expression whose braces its writer does not see.
    """
    offset = min(max(error.lineno - 1, 0), len(text))
    message, hint = _words(error.message or "the template cannot be read", text, offset)
    if is_bare and hint == _CLOSE:
        hint = "write an operator before it"
    elif is_bare and hint == RAW:
        hint = "write the value that is meant"
    return Problem(origin.locate(offset), message[:1].lower() + message[1:], hint)


def no_else(text: str) -> str:
    """Return Jinja's message at run time without the line numbers that are offsets here."""
    text = _NO_ELSE.sub("this if has no else, and its condition is false; add: else ''", text)
    return _IMPORTED_AT.sub("", text)


def _words(message: str, text: str, offset: int) -> tuple[str, str]:
    message = message.rstrip(".")
    character = text[offset : offset + 1]
    if message.startswith("unexpected") and _is_foreign(text, offset):
        return message, RAW
    if message.startswith("unexpected char") and character in _CHARACTERS:
        return _CHARACTERS[character]
    if "||" in text[max(offset - 1, 0) : offset + 2]:
        return "|| is no operator here", 'write "or"'
    if text[offset - 2 : offset + 1] in ("===", "!=="):
        return "= is one too many here", 'write "==" or "!="'
    if text[offset - 1 : offset + 1] == "<>":
        return "<> is no operator here", 'write "!="'
    if "got '='" in message:
        return "= does not compare", 'write "=="'
    if message.startswith(_MISSING):
        return "an expression is missing here", RAW
    missing = re.match(r"No (filter|test) named '(.*)'", message)
    if missing:
        return f'unknown {missing[1]} "{missing[2]}"', ""
    unknown = re.match(r"Encountered unknown tag '(\w+)'", message)
    if unknown:
        return f'unknown tag "{unknown[1]}"', _tag_hint(unknown[1])
    ended = re.match(r"Unexpected end of template.*following tags: (.*?)\. The innermost", message)
    if ended:
        innermost = _INNERMOST.search(message)
        if innermost:
            tag = innermost[1]
            return f"the template ends, and its {tag} is not closed", f"add {{% end{tag} %}}"
        return f"the template ends where {ended[1]} is needed", "close what is open"
    stray = _STRAY.search(message)
    if stray:
        found = _KINDS.get(stray[1], f'"{stray[1]}"')
        return f"{found} is not expected here", _OPERATORS.get(stray[1], _CLOSE)
    return message, next((hint for part, hint in _HINTS.items() if part in message), "")


def _is_foreign(text: str, offset: int) -> bool:
    """Tell whether braces begin as those of another language: `{{> x }}`, `{{! x }}`."""
    before = text[max(offset - _NEAR, 0) : offset]
    is_alone = text[offset : offset + 1] in _CHARACTERS and before[-1:].isspace()
    return bool(_OPENED.search(before)) and not is_alone


def _tag_hint(tag: str) -> str:
    if tag.startswith("end"):
        return "nothing of that kind is open here"
    tags = "if, for, set, macro, call, with, filter, include, import, from, raw"
    return f"known: {tags}; {RAW}"
