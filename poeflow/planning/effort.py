"""How much checking one flow may take: a stranger's flow is checked in seconds or refused."""

import re
from collections.abc import Iterable
from typing import Final

MAX_CODE: Final = 512 * 1024
"""How many characters of template code the texts of one flow may have, includes counted."""
MAX_PATTERNS: Final = 200
"""How many different patterns over files one flow may have."""
_BRACES: Final = 4
_LEAST: Final = 50
"""What a template counts as that has less code: compiling any takes a third of a millisecond."""
_OPENING: Final = re.compile(r"\{[{%#]")
_CLOSING: Final = re.compile(r"[}%#]\}")
_INCLUDES: Final = re.compile(r"\{%[-+]?\s*(include|import|from)\b")


class Effort:
    """What is left of the effort for one flow."""

    def __init__(self) -> None:
        self._left = MAX_CODE
        self._patterns: set[str] = set()

    def covers(self, text: str, included: Iterable[str] = ()) -> bool:
        """Count a template and the texts it may have included; tell whether it was enough."""
        self._left -= _code(text)
        if _INCLUDES.search(text):
            self._left -= sum(map(_code, included))
        return self._left >= 0

    def covers_patterns(self, patterns: Iterable[str]) -> bool:
        self._patterns.update(patterns)
        return len(self._patterns) <= MAX_PATTERNS


def _code(text: str) -> int:
    """Return how many characters of `text` stand in braces, the braces included."""
    pieces = _OPENING.split(text)[1:]
    if not pieces:
        return 0
    total = _BRACES * len(pieces)
    for piece in pieces:
        end = _CLOSING.search(piece)
        total += end.start() if end else len(piece)
    return max(total, _LEAST)
