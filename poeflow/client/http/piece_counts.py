"""Limits on the number of parts that a response comes in, besides limits on its size."""

from typing import Final

from poeflow.errors import AnswerTooLargeError

MAX_INTERIM: Final = 100
"""Interim responses (1xx) before the final one."""
MAX_TRAILERS: Final = 100
_FREE_PIECES: Final = 10_000
_SMALLEST: Final = 6
"""The least average size in bytes of the pieces of a body, once there are many.

A server that packs a stream sends each event of a long answer as 7 to 13 bytes.
"""


class Count:
    """Counts up to a limit. Raises `AnswerTooLargeError` with `message` above it."""

    def __init__(self, limit: int, message: str) -> None:
        self._limit = limit
        self._message = message
        self._count = 0

    def add(self, more: int = 1) -> None:
        self._count += more
        if self._count > self._limit:
            raise too_much(f"{self._message} ({self._limit:,} are read)")


class PieceCount:
    """Counts the pieces of a body: many pieces are allowed, but not many tiny ones."""

    def __init__(self) -> None:
        self._count = 0
        self._size = 0

    def add(self, size: int, count: int = 1) -> None:
        """Count a piece, or several, of `size` bytes. Raises `AnswerTooLargeError`."""
        self._count += count
        self._size += size
        if self._count > _FREE_PIECES and self._size < _SMALLEST * self._count:
            raise too_much(f"the answer comes in too many pieces of fewer than {_SMALLEST} bytes")


def too_much(message: str) -> AnswerTooLargeError:
    """Return the error for a response that causes too much work."""
    return AnswerTooLargeError(message, hint="ask another model or server, or for less at once")
