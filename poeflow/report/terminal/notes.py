"""Messages about instances for the end of a run, those of one cause together."""

from collections.abc import Iterable
from typing import Final

import msgspec

from poeflow.lazy_pattern import lazy_pattern

MAX_NOTES: Final = 20_000
"""How many failures, and how many warnings, are stored for the end of a run."""
NAMED: Final = 3
"""How many instances of one cause are named."""
_COUNT: Final = lazy_pattern(r"\A\d+ of (?=\d+ samples passed)")
_EXPECTED: Final = lazy_pattern(r"\bexpected\b")
_FOUND: Final = ", found "
_TO_FOUND: Final = lazy_pattern(r'(?:[^"]|"[^"]*")*?(?=, found )')
"""What comes before that, texts in quotes taken whole."""


class Note(msgspec.Struct, frozen=True):
    """A message about an instance, for the end of the run; about the run if `step` is empty."""

    step: str
    message: str


class Told(msgspec.Struct, frozen=True):
    """The notes of one cause. `message` is that of the first, `is_same` if it is that of all."""

    steps: tuple[str, ...]
    message: str
    is_same: bool

    @property
    def who(self) -> str:
        """The names of the first instances, and how many more there are; empty for the run."""
        named = ", ".join(step for step in self.steps[:NAMED] if step)
        more = len(self.steps) - NAMED
        return f"{named}{f' and {more:,} more' if more > 0 else ''}" if named else ""

    @property
    def said(self) -> str:
        return self.message if self.is_same else f"the first: {self.message}"

    def line(self, word: str) -> str:
        """Say who has the message, and that it is a `word`: `failed` or `warning`."""
        who = f"{self.who}: " if self.who else ""
        return f"{who}{word}{': ' if self.is_same else ', '}{self.said}"


def by_cause(notes: Iterable[Note]) -> list[Told]:
    """Return the notes by cause, in the order in which the causes came up."""
    causes: dict[str, str] = {}
    found: dict[str, list[Note]] = {}
    for note in notes:
        if (cause := causes.get(note.message)) is None:
            cause = causes[note.message] = cause_of(note.message)
        found.setdefault(cause, []).append(note)
    return [
        Told(
            steps=tuple(note.step for note in those),
            message=those[0].message,
            is_same=all(note.message == those[0].message for note in those),
        )
        for those in found.values()
    ]


def cause_of(message: str) -> str:
    """Return what messages of one cause have in common.

    Rows that miss one expectation differ in what was found, and in how many samples passed.
    """
    return _COUNT.sub("", without_finding(message))


def without_finding(message: str) -> str:
    """Return what was expected, without what was found instead and all that follows.

    A text in quotes belongs to what was expected, whatever it says.
    """
    begin = _EXPECTED.search(message)
    if begin is None:
        return message
    found = _TO_FOUND.match(message, begin.end())
    end = message.find(_FOUND, begin.end()) if found is None else found.end()
    return message if end < 0 else message[:end]
