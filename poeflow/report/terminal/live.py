"""A run on a terminal: a tree of its steps that is drawn while they work, and stays when it ends.

Events only change the tree, in constant time; a thread draws it ten times a second.
"""

import threading
from contextlib import suppress
from typing import Final, Self, TextIO

from poeflow.clock import Clock
from poeflow.events import Event
from poeflow.report.terminal.closing import closing
from poeflow.report.terminal.marks import marks_for
from poeflow.report.terminal.picture import picture
from poeflow.report.terminal.screen import Screen
from poeflow.report.terminal.step_lines import Frame
from poeflow.report.terminal.tree import Tree

TICK: Final = 0.1
"""Seconds between two drawings."""


class LiveReport:
    """Listens to events and draws the run on `stream`. Use it as a context manager.

    Where the terminal goes away, the run goes on without it.
    """

    def __init__(self, stream: TextIO, clock: Clock, *, color: bool) -> None:
        self._clock = clock
        self._marks = marks_for(stream)
        self._screen = Screen(stream, color=color)
        self._tree = Tree()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="terminal", daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._ticker.join()
        with self._lock:
            frame = self._frame()
            self._tree.end(frame.now)
        with suppress(OSError):
            self._screen.leave(list(closing(self._tree, frame)))

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._tree.hear(event, self._clock.monotonic())

    def draw(self) -> None:
        """Show the run as it stands now."""
        frame = self._frame()
        with self._lock:
            lines = picture(self._tree, frame)
        self._screen.draw(lines)

    def _frame(self) -> Frame:
        width, height = self._screen.size
        return Frame(width, height, self._marks, self._clock.monotonic())

    def _tick(self) -> None:
        with suppress(OSError):
            while not self._over.wait(TICK):
                self.draw()
