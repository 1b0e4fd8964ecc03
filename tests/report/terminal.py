"""A terminal to draw on: a real size behind its file number, and what is on its screen."""

import fcntl
import io
import os
import struct
import termios

import pyte


class Terminal(io.StringIO):
    """Takes what is written as a terminal does, and keeps it all in `getvalue()` as well."""

    encoding = "utf-8"

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self._ends = os.openpty()
        self._screen = pyte.HistoryScreen(width, height, history=5_000)
        self._screen.set_mode(pyte.modes.LNM)
        self._input = pyte.Stream(self._screen)
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        self._screen.resize(height, width)
        fcntl.ioctl(self._ends[1], termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._ends[1]

    def write(self, text: str) -> int:
        self._input.feed(text)
        return super().write(text)

    def close(self) -> None:
        for end in self._ends:
            os.close(end)
        super().close()

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without empty rows at the bottom."""
        rows = [row.rstrip() for row in self._screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    @property
    def above(self) -> list[str]:
        """What has scrolled away."""
        return [
            "".join(row[column].data for column in range(self._screen.columns)).rstrip()
            for row in self._screen.history.top
        ]

    @property
    def has_cursor(self) -> bool:
        return not self._screen.cursor.hidden
