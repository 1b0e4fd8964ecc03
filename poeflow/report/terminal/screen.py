"""A region of a terminal that is redrawn in place, and lines that stay above it.

It never scrolls: its lines fit the height of the terminal. A new size is noticed at the next draw.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Final, TextIO

from rich.console import Console
from rich.segment import ControlType, Segment, Segments
from rich.style import Style

from poeflow.report.terminal.text import Line, cells

_RETURN: Final = (ControlType.CARRIAGE_RETURN,)
_UP: Final = (ControlType.CURSOR_UP, 1)
_ERASE: Final = Segment("\x1b[K", None, [(ControlType.ERASE_IN_LINE, 0)])
_NEWLINE: Final = Segment("\n")
_WRAP_OFF: Final = Segment("\x1b[?7l", None, [_RETURN])
_WRAP_ON: Final = Segment("\x1b[?7h", None, [_RETURN])
"""A terminal that measures a text as wider than we do must not wrap a line."""


class Screen:
    """Draws on `stream`. Lines must hold no control characters: nothing is escaped here."""

    def __init__(self, stream: TextIO, *, color: bool) -> None:
        self._console = Console(file=stream, no_color=not color, highlight=False)
        self._stream = stream
        self._drawn: tuple[int, ...] = ()
        self._width = self._room()[0]

    @property
    def size(self) -> tuple[int, int]:
        """The width in cells and the height in rows that may be drawn.

        One column is left free: terminals disagree on the cursor after the last one.
        """
        width, height = self._room()
        return max(width - 1, 1), height

    def draw(self, lines: Sequence[Line]) -> None:
        """Draw `lines` over those drawn before."""
        self._write([_WRAP_OFF, *self._over(lines), _WRAP_ON], is_cursor_shown=False)
        self._drawn = tuple(map(cells, lines))
        self._width = self._room()[0]

    def leave(self, lines: Sequence[Line]) -> None:
        """Write `lines` that stay over those drawn before, and show the cursor."""
        end = [_NEWLINE] if lines else []
        self._write([*self._over(lines), *end], is_cursor_shown=True)
        self._drawn = ()

    def _room(self) -> tuple[int, int]:
        """Return the size of the terminal behind the stream, in cells and rows."""
        try:
            width, height = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            width, height = self._console.size
        return width or 80, height or 24

    def _over(self, lines: Sequence[Line]) -> Iterator[Segment]:
        """Yield the segments that draw `lines` over those before, cursor in the last line."""
        rows = self._rows()
        yield Segment("\r" + "\x1b[A" * (rows - 1), None, [_RETURN, *[_UP] * (rows - 1)])
        for number, line in enumerate(lines):
            if number:
                yield _NEWLINE
            for text, style in line:
                yield Segment(text, Style.parse(style))
            yield _ERASE
        below = max(rows - max(len(lines), 1), 0)
        if not lines:
            yield _ERASE
        for _ in range(below):
            yield _NEWLINE
            yield _ERASE
        yield Segment("\x1b[A" * below, None, [_UP] * below)

    def _rows(self) -> int:
        """Return how many rows the drawn lines take now.

        A terminal that was made narrower has wrapped the longer ones.
        """
        width, height = self._room()
        if width >= self._width:
            return max(len(self._drawn), 1)
        return min(max(sum(-(-size // width) or 1 for size in self._drawn), 1), height)

    def _write(self, segments: list[Segment], *, is_cursor_shown: bool) -> None:
        """Write everything at once, so that no half-drawn state is visible."""
        with self._console:
            self._console.show_cursor(is_cursor_shown)
            self._console.print(Segments(segments), end="", crop=False)
