"""Limits on the work that a server's response may cause, besides limits on its size.

Real answers stay far below them; a response above would keep a CPU core busy.
"""

from typing import Final

from poeflow.client.http.piece_counts import Count

MAX_LINES: Final = 2_000_000
"""Lines of a stream, including comments and blank ones."""
MAX_EVENTS: Final = 500_000
MAX_IDLE_EVENTS: Final = 20_000
"""Events in a row that add nothing to the answer."""
MAX_CALLS: Final = 1_000
"""Tool calls of one choice."""
MAX_CHOICES: Final = 128
MAX_KEYS: Final = 1_000
"""Different keys in the chunks of an answer besides its text."""
MAX_WEIGHT: Final = 384 * 1024 * 1024
"""Bytes of memory that the values of an answer use, as estimated by `weight_of`."""
_TOO_HEAVY: Final = "the values of the answer take too many bytes of memory"


class StreamWork:
    """Counts the events of a stream, and those that do not extend the answer."""

    def __init__(self) -> None:
        self._events = 0
        self._idle = 0
        self._weight = 0
        self._progress = 0

    def event(self, data: bytes, progress: int) -> None:
        """Count an event; `progress` grows with the answer. Raises `AnswerTooLargeError`."""
        self._events += 1
        self._weight += weight_of(data)
        self._idle = self._idle + 1 if progress == self._progress else 1
        self._progress = progress
        if self._events > MAX_EVENTS or self._weight > MAX_WEIGHT or self._idle > MAX_IDLE_EVENTS:
            self._refuse()

    def texts(self, count: int) -> None:
        """Count events that extend the answer, and of which nothing but text is held."""
        self._events += count
        if self._events > MAX_EVENTS:
            self._refuse()

    def _refuse(self) -> None:
        """Raise `AnswerTooLargeError` for the first limit that is exceeded."""
        Count(MAX_EVENTS, "the stream has too many events").add(self._events)
        Count(MAX_WEIGHT, _TOO_HEAVY).add(self._weight)
        Count(MAX_IDLE_EVENTS, "the stream goes on and the answer does not").add(self._idle)


def weight_of(data: bytes) -> int:
    """Return an upper estimate of the memory in bytes that the values of a JSON text use.

    Nothing is decoded. Characters inside text values count like structure, so the estimate for
    prose is a little too high.
    """
    containers = 128 * data.count(b"{") + 64 * data.count(b"[")
    return containers + 96 * data.count(b":") + 64 * data.count(b",")


def check_weight(data: bytes) -> None:
    """Raise `AnswerTooLargeError` if the values of a JSON text use too much memory."""
    Count(MAX_WEIGHT, _TOO_HEAVY).add(weight_of(data))
