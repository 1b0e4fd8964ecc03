"""Tables of text: columns aligned, words to the left and numbers to the right."""

from collections.abc import Sequence
from typing import Final

_GAP: Final = "  "


def aligned(rows: Sequence[tuple[str, ...]], *, words: int) -> list[str]:
    """Return a line for each row, cells as wide as their column; `words` columns hold words."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_line(row, widths, words) for row in rows]


def _line(row: tuple[str, ...], widths: list[int], words: int) -> str:
    left = (cell.ljust(width) for cell, width in zip(row[:words], widths, strict=False))
    right = (cell.rjust(width) for cell, width in zip(row[words:], widths[words:], strict=True))
    return _GAP.join([*left, *right]).rstrip()
