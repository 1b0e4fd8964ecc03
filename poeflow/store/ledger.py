"""Which bytes poeflow wrote where, so that it knows its own files from edited ones."""

import errno
import fcntl
import os
import threading
from pathlib import Path
from typing import Final

import msgspec

from poeflow.opener import head, regular, regular_status
from poeflow.project.atomic_write import sync_folder
from poeflow.store.folders import disk_errors, make_private

MAX_BYTES: Final = 64 * 1024 * 1024
"""How much is taken in at once: a row has about 150 bytes."""
_APPEND: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class Row(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`path` is a project path, `sha256` the hash of the bytes written there.

    `place` names the checkout that they were written in.
    """

    path: str
    sha256: str
    place: str = ""


class Ledger:
    """An append-only file of JSON rows, safe with several threads and processes.

    A row is committed before its file is replaced: a crash between the two never makes our own
    file look edited. A torn line, left by a crash, is ignored, and so is a row of another `place`:
    what was written elsewhere says nothing of a file here. None counts where it is not `is_used`.
    """

    def __init__(self, path: Path, *, place: str = "", is_used: bool = True) -> None:
        self._is_used = is_used
        self._path = path
        self._place = place
        self._rows: dict[str, set[str]] = {}
        self._inode = 0
        self._read = 0
        self._lock = threading.Lock()

    def record(self, path: str, sha256: str) -> None:
        """Commit a row, durable when this returns. Raises `DiskError`."""
        row = Row(path=path, sha256=sha256, place=self._place)
        make_private(self._path.parent)
        with self._lock, disk_errors(self._path, "written"):
            handle = os.open(self._path, _APPEND, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                self._catch_up(handle)
                is_first = os.fstat(handle).st_size == 0
                if sha256 in self._rows.get(path, ()):
                    return  # whoever wrote it made it durable
                _append(handle, msgspec.json.encode(row) + b"\n")
                if is_first:
                    sync_folder(self._path.parent)
                os.fsync(handle)
            finally:
                os.close(handle)

    def written(self, path: str) -> frozenset[str]:
        """Return the hashes of all that poeflow ever wrote to a path. Raises `DiskError`."""
        if not self._is_used:
            return frozenset()
        with self._lock, disk_errors(self._path, "read"):
            try:
                with regular(self._path.parent, (self._path.name,)) as (handle, _):
                    self._catch_up(handle)
            except FileNotFoundError:
                return frozenset()
            return frozenset(self._rows.get(path, ()))

    def _catch_up(self, handle: int) -> None:
        """Take in the complete lines that were added since the last look."""
        status = regular_status(handle)
        if status.st_ino != self._inode or status.st_size < self._read:
            self._rows, self._inode, self._read = {}, status.st_ino, 0
        os.lseek(handle, self._read, os.SEEK_SET)
        data = head(handle, MAX_BYTES)
        complete = data[: data.rfind(b"\n") + 1]
        self._read += len(complete)
        for line in complete.split(b"\n"):
            try:
                row = msgspec.json.decode(line, type=Row)
            except (ValueError, RecursionError):
                continue
            if row.place == self._place:
                self._rows.setdefault(row.path, set()).add(row.sha256)


def _append(handle: int, line: bytes) -> None:
    """Append a line, beginning a new one where a crash tore the last."""
    size = os.fstat(handle).st_size
    is_torn = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
    data = b"\n" + line if is_torn else line
    if os.write(handle, data) < len(data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
