"""What is wrong with a template's text, in words: syntax, and habits from other tools."""

import re
from collections.abc import Iterator
from typing import Final

from jinja2 import TemplateSyntaxError

from poeflow.problems import Problem
from poeflow.templates.lexer import OffsetLexer
from poeflow.templates.origin import Origin

_NO_ELSE: Final = re.compile(r"^the inline if-expression on line .* no else section was defined\.$")
_IMPORTED_AT: Final = re.compile(r" \(imported on line \d+( in '.*?')?\)")
_CHARACTERS: Final = {
    "&": ("&& is no operator here", 'write "and"'),
    "!": ("! is no operator here", 'write "not", or "!=" between two values'),
    "?": ("? is no operator here", 'write "a if condition else b"'),
    "$": ("$ has no meaning here", "write names without it"),
}
_RAW: Final = "to show braces as they are, write {% raw %} ... {% endraw %}"
_MISSING: Final = (
    "Expected an expression, got 'end of print statement'",
    "unexpected 'end of print statement'",
)
_HINTS: Final = {
    "got ':'": _RAW,
    "expected token 'end of print statement'": "close it with }}",
    "expected 'end of print statement'": "close it with }}",
    "expected token 'end of statement block'": "close it with %}",
    "unexpected '}'": "close it with }}",
    "unexpected char": _RAW,
    "Missing end of comment": _RAW,
    "Missing end of raw": "add {% endraw %}",
    "Tag name expected": _RAW,
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


def syntax_problem(error: TemplateSyntaxError, text: str, origin: Origin) -> Problem:
    """Turn Jinja's syntax error, whose line number is an offset, into a problem."""
    offset = min(max(error.lineno - 1, 0), len(text))
    message, hint = _words(error.message or "the template cannot be read", text, offset)
    return Problem(origin.locate(offset), message[:1].lower() + message[1:], hint)


def no_else(text: str) -> str:
    """Return Jinja's message at run time without the line numbers that are offsets here."""
    text = _NO_ELSE.sub("this if has no else, and its condition is false; add: else ''", text)
    return _IMPORTED_AT.sub("", text)


def _words(message: str, text: str, offset: int) -> tuple[str, str]:
    message = message.rstrip(".")
    character = text[offset : offset + 1]
    if message.startswith("unexpected char") and character in _CHARACTERS:
        return _CHARACTERS[character]
    if "||" in text[max(offset - 1, 0) : offset + 2]:
        return "|| is no operator here", 'write "or"'
    if "got '='" in message:
        return "= does not compare", 'write "=="'
    if message.startswith(_MISSING):
        return "an expression is missing here", _RAW
    missing = re.match(r"No (filter|test) named '(.*)'", message)
    if missing:
        return f'unknown {missing[1]} "{missing[2]}"', ""
    unknown = re.match(r"Encountered unknown tag '(\w+)'", message)
    if unknown:
        return f'unknown tag "{unknown[1]}"', _tag_hint(unknown[1])
    ended = re.match(r"Unexpected end of template.*following tags: (.*?)\. The innermost", message)
    if ended:
        return f"the template ends where {ended[1]} is needed", "close what is open"
    return message, next((hint for part, hint in _HINTS.items() if part in message), "")


def _tag_hint(tag: str) -> str:
    if tag.startswith("end"):
        return "nothing of that kind is open here"
    tags = "if, for, set, macro, call, with, filter, include, import, from, raw"
    return f"known: {tags}; {_RAW}"
