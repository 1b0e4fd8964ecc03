"""A step at work, as the live report keeps it: what it waits for and what has arrived so far."""

from typing import Final

from rich.cells import chop_cells

from poeflow.durations import spoken
from poeflow.events import RetryPlanned, TextArrived
from poeflow.redact import visible

TAIL_CHARACTERS: Final = 20_000


class Row:
    """Grows with the events of one step. Everything it gives is harmless to a terminal."""

    __slots__ = ("_note", "_size", "_text", "model", "started")

    def __init__(self, model: str, started: float) -> None:
        self.model = visible(model)
        self.started = started
        self._note = ""
        self._size = 0
        self._text = ""

    def grow(self, event: TextArrived) -> None:
        if event.kind == "reasoning":
            self._note = "thinking"
            return
        self._note = ""
        self._size += len(event.text)
        self._text = (self._text + event.text)[-TAIL_CHARACTERS:]

    def start_over(self, event: RetryPlanned) -> None:
        """Drop what arrived: another attempt will answer from the beginning."""
        self._text, self._size = "", 0
        self._note = f"{event.reason}, waiting {spoken(event.wait)}"

    def note(self) -> str:
        """Say in a line what the step is doing; empty where nothing has happened yet."""
        told = visible(self._note).replace("\n", " ").replace("\t", " ")
        return told or (f"{self._size:,} characters" if self._size else "")

    def tail(self, width: int, height: int) -> str:
        """Return the last lines of the text that fit: at least one, of at least two cells.

        Lines are cut, not wrapped at words: a growing text would jump.
        """
        height = max(height, 1)
        lines: list[str] = []
        for line in visible(self._text).split("\n")[-height:]:
            lines += chop_cells(line.expandtabs(), max(width, 2)) or [""]
        return "\n".join(lines[-height:])
