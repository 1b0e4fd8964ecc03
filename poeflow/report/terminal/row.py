"""An instance at work, as the live report keeps it: what it waits for, and what has arrived."""

from collections.abc import Iterable
from typing import Final

from poeflow.durations import spoken
from poeflow.events import RequestSent, RetryPlanned, TextArrived
from poeflow.redact import visible
from poeflow.report.terminal.marks import paired
from poeflow.report.terminal.text import wrapped

TAIL_CHARACTERS: Final = 4_000
MAX_LABEL: Final = 200
_AT_WORK: Final = {"judge": "judging", "repair": "repairing", "tools": "going on"}
"""What is told of a request that is not the first of its instance."""


class Row:
    """Grows with the events of one instance, each in constant time.

    `label` tells it from others of its step, `began` is a time of the report's clock.
    """

    __slots__ = ("_kept", "_note", "_pieces", "_size", "_until", "began", "label", "model")

    def __init__(self, label: str, model: str, began: float) -> None:
        self.label = label[:MAX_LABEL]
        self.model = model[:MAX_LABEL]
        self.began = began
        self._note = ""
        self._until = 0.0
        self._size = 0
        self._pieces: list[str] = []
        self._kept = 0

    def grow(self, event: TextArrived) -> None:
        if event.kind == "reasoning":
            self._note = "thinking"
            return
        self._note = ""
        self._size += len(event.text)
        self._kept += len(event.text)
        self._pieces.append(event.text)
        if self._kept > 2 * TAIL_CHARACTERS or len(self._pieces) > TAIL_CHARACTERS:
            self._pieces = ["".join(self._pieces)[-TAIL_CHARACTERS:]]
            self._kept = len(self._pieces[0])

    def begin(self, event: RequestSent) -> None:
        """Note that a request was sent: what arrives from now on is the answer to it."""
        self._pieces, self._kept, self._size = [], 0, 0
        self.model = event.model[:MAX_LABEL]
        if event.purpose in _AT_WORK:
            self.say(_AT_WORK[event.purpose])

    def start_over(self, event: RetryPlanned, now: float) -> None:
        """Drop what arrived: another attempt will answer from the beginning."""
        self._pieces, self._kept, self._size = [], 0, 0
        self._note = event.reason if event.status is None else str(event.status)
        self._until = now + event.wait

    def say(self, note: str) -> None:
        """Tell of something until text arrives."""
        self._note, self._until = note, 0.0

    @property
    def has_text(self) -> bool:
        return self._size > 0

    @property
    def is_waiting(self) -> bool:
        """Whether an attempt failed and nothing has come of the next one yet."""
        return bool(self._note) and self._until > 0

    def note(self, now: float) -> str:
        """Say what the instance is doing; empty where nothing has happened yet."""
        if self.is_waiting:
            left = self._until - now
            return f"{self._note}, {f'waiting {spoken(left)}' if left > 0 else 'asking again'}"
        return self._note or (f"{self._size:,} characters" if self._size else "")

    def words(self, count: int) -> str:
        """Return the newest text on one line: about `count` characters, harmless."""
        found: list[str] = []
        for piece in reversed(self._pieces):
            if count <= 0:
                break
            found.append(piece[-TAIL_CHARACTERS:])
            count -= len(piece)
        return " ".join(_harmless(found[::-1]).split())

    def tail(self, width: int, height: int) -> list[str]:
        """Return the last lines of the text that fit: at most `height`, of at most `width` cells.

        Lines are wrapped from where the text kept begins, so that they stand still as it grows.
        """
        text = _harmless(self._pieces).rstrip("\n").replace("\t", "    ")
        paragraphs = text.split("\n")[-max(height, 1) :]
        lines = [line for paragraph in paragraphs for line in wrapped(paragraph, max(width, 2))]
        return lines[-max(height, 1) :]


def _harmless(pieces: Iterable[str]) -> str:
    """Return a text with its control characters escaped, but line breaks and tabs.

    Pieces are joined first: what a stream cut in two is seen as one.
    """
    return visible(paired("".join(pieces)).replace("\r\n", "\n"))
