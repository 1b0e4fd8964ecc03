"""Lines of a terminal as pieces of text with a style each: measured in cells, cut and wrapped."""

import re
from collections.abc import Iterator
from typing import Final, TypeAlias

from rich.cells import cell_len, chop_cells, set_cell_size

Piece: TypeAlias = tuple[str, str]
"""A text that is harmless and on one line, and its style."""
Line: TypeAlias = tuple[Piece, ...]

_WORD: Final = re.compile(r" *[^ ]+| +\Z")


def cells(line: Line) -> int:
    """Return how many cells of a terminal a line takes."""
    return sum(cell_len(text) for text, _ in line)


def plain(line: Line) -> str:
    return "".join(text for text, _ in line).rstrip()


def padded(text: str, width: int) -> str:
    """Return `text` in exactly `width` cells, cut where it is longer."""
    return set_cell_size(text, width)


def cropped(line: Line, width: int, more: str) -> Line:
    """Return as much of a line as fits `width` cells, with `more` at its end where it was cut."""
    if sum(len(text) for text, _ in line) * 2 <= width or cells(line) <= width:
        return line
    kept: list[Piece] = []
    room = max(width - cell_len(more), 0)
    for text, style in line:
        size = cell_len(text)
        if size > room:
            kept.append((set_cell_size(text, room).rstrip() + more[:width], style))
            break
        kept.append((text, style))
        room -= size
    return tuple(kept)


def ending(text: str, width: int) -> str:
    """Return the end of `text`, at most `width` cells of it."""
    if width <= 0:
        return ""
    end = text[-width:]
    while cell_len(end) > width:
        end = end[1:]
    return end


def chopped(text: str, width: int) -> list[str]:
    """Return `text` cut into lines of at most `width` cells, and of at least two: one at least."""
    return chop_cells(text, max(width, 2)) or [""]


def wrapped(text: str, width: int) -> Iterator[str]:
    """Yield `text` in lines of at most `width` cells, broken between words where it can be."""
    line = ""
    for word in _WORD.findall(text):
        if cell_len(line) + cell_len(word) <= width:
            line += word
            continue
        if line:
            yield line
        *full, line = chopped(word.lstrip(" ") if line else word, width)
        yield from full
    yield line
