"""How much work a server's bytes may make: counts, beside the limits of size.

What a model really says stays far below all of them; what is above would keep a core busy.
"""

from typing import Final

from poeflow.errors import AnswerTooLargeError

MAX_INTERIM: Final = 100
"""Responses 1xx before the one that counts."""
MAX_TRAILERS: Final = 100
MAX_LINES: Final = 2_000_000
"""Lines of a stream, comments and blank ones too."""
MAX_EVENTS: Final = 500_000
MAX_IDLE_EVENTS: Final = 20_000
"""Events in a row that add nothing to the answer."""
MAX_CALLS: Final = 1_000
"""Tool calls of one choice."""
MAX_CHOICES: Final = 128
MAX_KEYS: Final = 1_000
"""Different keys of an answer that its pieces bring beside its text."""
MAX_WEIGHT: Final = 384 * 1024 * 1024
"""Bytes of memory that the values of an answer take, as `weight_of` estimates them."""
_TOO_HEAVY: Final = "the values of the answer take too many bytes of memory"
_FREE_PIECES: Final = 10_000
_SMALLEST: Final = 16
"""Bytes that the pieces of a body hold on average, once there are many."""


class Count:
    """Counts up to a limit. Raises `AnswerTooLargeError` above it, with what is `told`."""

    def __init__(self, limit: int, told: str) -> None:
        self._limit = limit
        self._told = told
        self._count = 0

    def add(self, more: int = 1) -> None:
        self._count += more
        if self._count > self._limit:
            raise too_much(f"{self._told} ({self._limit:,} are read)")

    def reset(self) -> None:
        self._count = 0


class Pieces:
    """Counts the pieces a body comes in: many are fine, and tiny ones, but not many tiny ones."""

    def __init__(self) -> None:
        self._count = 0
        self._size = 0

    def add(self, size: int) -> None:
        """Take note of a piece of `size` bytes. Raises `AnswerTooLargeError`."""
        self._count += 1
        self._size += size
        if self._count > _FREE_PIECES and self._size < _SMALLEST * self._count:
            raise too_much(f"the answer comes in too many pieces of fewer than {_SMALLEST} bytes")


class Effort:
    """What the events of a stream cost, and whether the answer grows meanwhile."""

    def __init__(self) -> None:
        self._events = Count(MAX_EVENTS, "the stream has too many events")
        self._idle = Count(MAX_IDLE_EVENTS, "the stream goes on and the answer does not")
        self._weight = Count(MAX_WEIGHT, _TOO_HEAVY)
        self._progress = 0

    def event(self, data: bytes, progress: int) -> None:
        """Take note of an event; `progress` grows with the answer. Raises `AnswerTooLargeError`."""
        self._events.add()
        self._weight.add(weight_of(data))
        if progress != self._progress:
            self._progress = progress
            self._idle.reset()
        self._idle.add()


def weight_of(data: bytes) -> int:
    """Return how many bytes of memory the values in a JSON text take, estimated from above.

    Nothing is decoded. What a text value holds counts too, so prose weighs a little more than it
    takes.
    """
    containers = 128 * data.count(b"{") + 64 * data.count(b"[")
    return containers + 96 * data.count(b":") + 64 * data.count(b",")


def check_weight(data: bytes) -> None:
    """Raise `AnswerTooLargeError` where a JSON text holds more values than are read."""
    Count(MAX_WEIGHT, _TOO_HEAVY).add(weight_of(data))


def too_much(message: str) -> AnswerTooLargeError:
    """Return the error of a server that makes more work than an answer is."""
    return AnswerTooLargeError(message, hint="ask another model or server, or for less at once")
