"""Replaces a file atomically: the new content is a draft beside it until it is durable."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from poeflow.digest import sha256_of
from poeflow.errors import DiskError
from poeflow.opener import plain_file

_CHUNK: Final = 1024 * 1024
_DISK_HINTS: Final = {
    errno.EACCES: "change the folder's permissions",
    errno.EDQUOT: "free some space and run again",
    errno.EISDIR: "a folder has this name; save to another path",
    errno.ENOENT: "make the folder first",
    errno.ENOSPC: "free some space and run again",
    errno.EROFS: "run it where files can be written",
}


@contextlib.contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn an error from writing to `path` into a `DiskError`."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = _DISK_HINTS.get(error.errno or 0, "")
        raise DiskError(f"{path} cannot be written: {reason}", hint=hint) from None


@contextlib.contextmanager
def draft(path: Path, *, mode: int) -> Iterator[BinaryIO]:
    """Yield a file that replaces `path`, durably, if the block succeeds; otherwise it is removed.

    The draft's name depends on the target's, so the next write of the same file reuses a draft
    left by a killed process. Equal content leaves `path` unchanged. Raises `OSError`.
    """
    name = path.parent / f".poeflow-{sha256_of(os.fsencode(path.name))[:16]}.tmp"
    with _locked(name) as file:
        try:
            yield file
            file.flush()
            if _is_same(file, path):
                name.unlink()
                return
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
            name.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                name.unlink()
            raise
    sync_folder(path.parent)


def holds(path: Path, data: bytes | Iterable[bytes]) -> bool:
    """Return whether `path` is a regular file, not a link, with exactly these bytes."""
    pieces = [data] if isinstance(data, bytes) else data
    views = (memoryview(one) for one in pieces)
    parts = (view[at : at + _CHUNK] for view in views for at in range(0, len(view), _CHUNK))
    try:
        with plain_file(path) as file:
            return all(file.read(len(part)) == part for part in parts) and not file.read(1)
    except OSError:
        return False


def sync_folder(folder: Path) -> None:
    """Make created and renamed entries of `folder` durable. Raises `OSError`."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _locked(name: Path) -> Iterator[BinaryIO]:
    """Yield the empty file `name`, locked until the block ends."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600), "w+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file, name):
                continue  # the process that had the lock has renamed the file
            file.truncate()
            yield file
            return


def _is_at(file: BinaryIO, name: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), name.lstat())
    except FileNotFoundError:
        return False


def _is_same(file: BinaryIO, path: Path) -> bool:
    """Return whether the written content equals that of `path`."""
    try:
        if path.lstat().st_size != file.tell():
            return False
        file.seek(0)
        with plain_file(path) as other:
            return all(ours == other.read(_CHUNK) for ours in iter(lambda: file.read(_CHUNK), b""))
    except OSError:
        return False
