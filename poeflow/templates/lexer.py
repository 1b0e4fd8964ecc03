"""Jinja's lexer with character offsets where line numbers are, so that every node knows its place.

Offsets count from 1, as line numbers do: the node of the text's first character has `lineno` 1.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from jinja2 import TemplateSyntaxError
from jinja2.lexer import Lexer, newline_re

MAX_TOKENS: Final = 50_000
MAX_BRACKETS: Final = 40
MAX_DIGITS: Final = 100
_POSITION: Final = re.compile(r" at \d+$")
_CRLF: Final = re.compile(r"\r\n")


class OffsetLexer(Lexer):
    """Emits the tokens of Jinja's own lexer, each with its offset; bounded in number and depth."""

    def tokeniter(
        self,
        source: str,
        name: str | None,
        filename: str | None = None,
        state: str | None = None,
    ) -> Iterator[tuple[int, str, str]]:
        text = newline_re.sub("\n", source)
        offsets = _Offsets(source)
        position = depth = last = 0
        try:
            tokens = super().tokeniter(text, name, filename, state)
            for count, (_line, kind, value) in enumerate(tokens):
                # White space Jinja strips lies between tokens, so the next one may stand further.
                last = position = max(text.find(value, position), position)
                if kind == "operator":
                    depth += (value in "([{") - (value in ")]}")
                _check(kind, value, count, depth)
                yield offsets.original(position) + 1, kind, value
                position += len(value)
        except TemplateSyntaxError as error:
            message = _POSITION.sub("", error.message or "")
            start = last if message.startswith("Missing end") else position
            place = offsets.original(start) + 1
            raise TemplateSyntaxError(message, place, name, filename) from None


class _Offsets:
    """Leads from offsets in a text with Jinja's line ends back to the text as written."""

    def __init__(self, source: str) -> None:
        found = _CRLF.finditer(source) if "\r" in source else ()
        self._shortened = [match.start() - index for index, match in enumerate(found)]

    def original(self, offset: int) -> int:
        return offset + bisect_left(self._shortened, offset)


def _check(kind: str, value: str, count: int, depth: int) -> None:
    """Refuse what would make the parser or the compiler fall over."""
    if count == MAX_TOKENS:
        raise TemplateSyntaxError(f"the template has over {MAX_TOKENS:,} words", 1)
    if depth > MAX_BRACKETS:
        raise TemplateSyntaxError(f"brackets are nested over {MAX_BRACKETS} deep", 1)
    if kind in ("integer", "float") and len(value) > MAX_DIGITS:
        raise TemplateSyntaxError(f"a number has over {MAX_DIGITS} digits", 1)
    if kind == "float" and math.isinf(float(value.replace("_", ""))):
        raise TemplateSyntaxError(f"the number {value} is too large", 1)
