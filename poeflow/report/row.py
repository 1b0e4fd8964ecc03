"""An instance at work, as the live report keeps it: what it waits for, and what has arrived."""

from typing import Final

from poeflow.durations import spoken
from poeflow.events import RetryPlanned, TextArrived
from poeflow.redact import visible
from poeflow.report.lines import chopped
from poeflow.report.marks import paired

TAIL_CHARACTERS: Final = 8_000
MAX_LABEL: Final = 200


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
        return " ".join(visible(self._newest(count)).split())

    def tail(self, width: int, height: int) -> list[str]:
        """Return the last lines of the text that fit: at most `height`, of at most `width` cells.

        Lines are cut, not wrapped at words: a growing text would jump.
        """
        text = visible(self._newest(width * height)).replace("\t", "    ").rstrip("\n")
        lines: list[str] = []
        for line in text.split("\n")[-max(height, 1) :]:
            lines += chopped(line, width)
        return lines[-max(height, 1) :]

    def _newest(self, count: int) -> str:
        """Return at least `count` of the newest characters, where there are so many.

        Pieces are joined before anything is escaped: what a stream cut in two is seen as one.
        """
        found: list[str] = []
        for piece in reversed(self._pieces):
            if count <= 0:
                break
            found.append(piece[-TAIL_CHARACTERS:])
            count -= len(piece)
        return paired("".join(reversed(found))).replace("\r\n", "\n")
