"""The file of a cassette: read whole, and written by adding to its end, each recording durably."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from poeflow.cassettes.recordings import (
    CassetteText,
    RecordedExchange,
    parse_cassette,
    recording_text,
)
from poeflow.errors import BusyError, DiskError, InvalidFlowError, UsageError
from poeflow.opener import UnusableFileError, file_content, read_named, regular_status
from poeflow.project.atomic_write import sync_folder

MAX_CASSETTE_BYTES: Final = 512 * 1024 * 1024
_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK


def read_cassette(path: Path) -> CassetteText:
    """Read a cassette. Raises `UsageError`, and `InvalidFlowError` with every problem in it."""
    try:
        data = read_named(path, limit=MAX_CASSETTE_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from None
    return _sound(parse_cassette(data, str(path)))


def _sound(text: CassetteText) -> CassetteText:
    if text.problems:
        raise InvalidFlowError(tuple(sorted(text.problems)))
    return text


def _unreadable(path: Path, error: OSError) -> UsageError:
    hint = error.hint if isinstance(error, UnusableFileError) else "check the path of the cassette"
    return UsageError(f"{path}: {(error.strerror or 'cannot be read').lower()}", hint=hint)


class CassetteWriter:
    """Adds recordings to the end of a cassette; `text` is what was in it before."""

    def __init__(self, handle: int, path: Path, text: CassetteText) -> None:
        self.text = text
        self._handle = handle
        self._path = path

    def add(self, recording: RecordedExchange) -> None:
        """Write a recording; it is on the disk when this returns.

        Raises `DiskError`; the file then ends as it did before.
        """
        data = recording_text(recording)
        size = os.fstat(self._handle).st_size
        if size + len(data) > MAX_CASSETTE_BYTES:
            message = f"{self._path}: a cassette has at most {MAX_CASSETTE_BYTES:,} bytes"
            raise DiskError(message, hint="record to another file")
        try:
            _write(self._handle, data)
            os.fsync(self._handle)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, size)
            raise _failed(self._path, error) from None


@contextlib.contextmanager
def open_cassette(path: Path) -> Iterator[CassetteWriter]:
    """Open a cassette to add to it; half a recording at its end is cut off.

    Raises `UsageError`, `InvalidFlowError`, `DiskError`, and `BusyError` if another process adds
    to it.
    """
    try:
        handle = os.open(path, _NEW, 0o666)
    except FileNotFoundError:
        message = f"{path.parent}: no such folder"
        raise UsageError(message, hint="make the folder of the cassette first") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        yield CassetteWriter(handle, path, _prepared(handle, path))
    finally:
        os.close(handle)


def _prepared(handle: int, path: Path) -> CassetteText:
    """Lock and read the file, and make its end one that can be added to."""
    try:
        status = regular_status(handle)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        text = _sound(parse_cassette(file_content(handle, status, MAX_CASSETTE_BYTES), str(path)))
    except BlockingIOError:
        message = f"{path}: another process records to it"
        raise BusyError(message, hint="end that one, or record to another file") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    try:
        if text.is_torn:
            os.ftruncate(handle, text.size)
        if text.size and os.pread(handle, 1, text.size - 1) != b"\n":
            _write(handle, b"\n")
        os.fsync(handle)
        sync_folder(path.absolute().parent)
    except OSError as error:
        raise _failed(path, error) from None
    return text


def _write(handle: int, data: bytes) -> None:
    """Write all of `data`. Raises `OSError`."""
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def _failed(path: Path, error: OSError) -> DiskError:
    reason = os.strerror(error.errno or errno.EIO).lower()
    return DiskError(f"{path}: {reason}", hint="the recordings before it are in the file")
