"""A large file that is read in pieces whenever it is needed, and each time has the same bytes."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

from poeflow.opener import UnusableFileError, check_size

PIECE: Final = 192 * 1024
"""Bytes of a piece: three of them are four characters of base64."""


class PinnedFile:
    """The bytes of a file as it was when it was first read whole; none of them are held.

    Each reading compares every piece with the first one by hashes, before it is yielded. `opened`
    opens the file and raises what fits; `noted` gets its status and hash after the first reading.
    """

    def __init__(
        self,
        opened: Callable[[], AbstractContextManager[tuple[int, os.stat_result]]],
        *,
        limit: int,
        noted: Callable[[os.stat_result, str], None],
    ) -> None:
        self._opened = opened
        self._limit = limit
        self._noted = noted
        self._hashes: list[bytes] = []
        """The hash of the file up to the end of each piece."""
        self._whole: tuple[int, str] | None = None
        """Its length and hash, once it was read whole."""

    def __len__(self) -> int:
        return self._read()[0]

    @property
    def sha256(self) -> str:
        return self._read()[1]

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes in pieces. Raises if the file has changed, or has more than `limit`."""
        made, size, count = hashlib.sha256(), 0, 0
        with self._opened() as (handle, status):
            check_size(status, self._limit)
            with os.fdopen(handle, "rb", closefd=False) as file:
                while piece := file.read(PIECE):
                    made.update(piece)
                    size += len(piece)
                    self._compare(count, size, made.copy().digest())
                    count += 1
                    yield piece
            if self._whole is None and size == status.st_size:
                self._whole = size, made.hexdigest()
                self._noted(status, made.hexdigest())
            if self._whole is None or size != self._whole[0]:
                raise _changed()

    def _read(self) -> tuple[int, str]:
        if self._whole is None:
            for _ in self:
                pass
        if self._whole is None:
            raise AssertionError("a file that was read has a hash")
        return self._whole

    def _compare(self, count: int, size: int, digest: bytes) -> None:
        """Compare the hash up to the end of a piece with the first one, or remember it."""
        if count < len(self._hashes):
            if self._hashes[count] != digest:
                raise _changed()
        elif self._whole is not None or size > self._limit:
            raise _changed()
        else:
            self._hashes.append(digest)


def _changed() -> UnusableFileError:
    return UnusableFileError("changed while it was read", "run again")
