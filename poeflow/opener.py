"""Opens files for reading: only regular files, of bounded size, each read once.

Files of a repository are opened without following links and without blocking, so that a device,
a pipe or a growing file is an error. Files that the user names, and poeflow's own, may be links;
those that the user names may also be pipes.
"""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

MAX_PACKAGED_BYTES: Final = 16 * 1024 * 1024
_STEP: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
_LAST: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_OPENABLE: Final = frozenset({stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK})
"""The kinds that are opened: opening a device may have effects, and a link is an error."""


class UnusableFileError(OSError):
    """The file cannot be used. `strerror` says why, `hint` what to do."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(errno.EINVAL, reason)
        self.hint = hint


class NotTextError(ValueError):
    """Bytes are not UTF-8. `line` and `column` count from 1; `reason` describes the bytes."""

    def __init__(self, reason: str, hint: str, line: int = 1, column: int = 1) -> None:
        super().__init__(reason)
        self.reason, self.hint, self.line, self.column = reason, hint, line, column


@contextlib.contextmanager
def opened(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """Yield a descriptor of the file or folder that `parts` lead to below `root`, maybe a link.

    No link below it is followed, not even one that appears meanwhile. Never waits, and opens
    neither devices nor pipes. Raises `OSError`.
    """
    handle = _descriptor(root, parts)
    try:
        yield handle
    finally:
        os.close(handle)


def _descriptor(root: Path, parts: tuple[str, ...]) -> int:
    """Return what `opened` yields; the caller closes it."""
    handle = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for position, part in enumerate(parts, start=1):
            is_last = position == len(parts)
            if is_last:
                _check_kind(os.stat(part, dir_fd=handle, follow_symlinks=False).st_mode)
            deeper = os.open(part, _LAST if is_last else _STEP, dir_fd=handle)
            os.close(handle)
            handle = deeper
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextlib.contextmanager
def regular(root: Path, parts: tuple[str, ...]) -> Iterator[tuple[int, os.stat_result]]:
    """Yield a descriptor of a regular file, as `opened` does, and its status."""
    handle, status = open_regular(root, parts)
    try:
        yield handle, status
    finally:
        os.close(handle)


def open_regular(root: Path, parts: tuple[str, ...]) -> tuple[int, os.stat_result]:
    """Return what `regular` yields; the caller closes the descriptor. Raises `OSError`."""
    try:
        handle = _descriptor(root, parts)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UnusableFileError("is a link", "put the file itself in its place") from None
        raise
    return _with_status(handle)


def open_straight(path: str) -> tuple[int, os.stat_result]:
    """Open a regular file by its absolute path, as `open_regular` does from the top.

    Linux knows the real path of an open file: there it takes one step, else one for each folder.
    """
    handle = _opened_at_once(path) if sys.platform == "linux" else None
    if handle is None:
        top, *parts = Path(path).parts
        return open_regular(Path(top), tuple(parts))
    return _with_status(handle)


def _opened_at_once(path: str) -> int | None:
    """Return a descriptor of a file, None if it is not regular, or not known to be at `path`."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        return None
    handle = os.open(path, _LAST)
    with contextlib.suppress(OSError):  # there may be no /proc
        if os.readlink(f"/proc/self/fd/{handle}") == path:  # noqa: PTH115 - for each file
            return handle
    os.close(handle)
    return None


def _with_status(handle: int) -> tuple[int, os.stat_result]:
    """Return a descriptor and the status of its file. Closes it and raises if it is not regular."""
    try:
        return handle, regular_status(handle)
    except BaseException:
        os.close(handle)
        raise


def regular_status(handle: int) -> os.stat_result:
    """Return the status of an open file. Raises `UnusableFileError` if it is not regular."""
    status = os.fstat(handle)
    if stat.S_ISDIR(status.st_mode):
        raise UnusableFileError("is a folder", "name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise _irregular()
    return status


def file_content(handle: int, status: os.stat_result, limit: int) -> bytes:
    """Return the content of the regular file of a descriptor. Raises `UnusableFileError`.

    It also raises if the file has more than `limit` bytes, or other than in `status`.
    """
    size = status.st_size
    check_size(status, limit)
    data = head(handle, size + 1)
    if len(data) != size:
        raise UnusableFileError("changed while it was read", "run again")
    return data


def check_size(status: os.stat_result, limit: int) -> None:
    """Raise `UnusableFileError` if a file has more than `limit` bytes."""
    if status.st_size > limit:
        reason = f"has {status.st_size:,} bytes; the limit is {limit:,}"
        raise UnusableFileError(reason, "make it smaller or split it")


def head(handle: int, size: int) -> bytes:
    """Return at most `size` bytes from the current position of a descriptor."""
    data = piece = os.read(handle, size)
    while piece and len(data) < size:
        piece = os.read(handle, size - len(data))
        data += piece
    return data


def read_beneath(root: Path, parts: tuple[str, ...], *, limit: int) -> bytes:
    """Read a regular file below `root` without following links. Raises `OSError`."""
    with regular(root, parts) as (handle, status):
        return file_content(handle, status, limit)


def read_plain(path: Path, *, limit: int) -> bytes:
    """Read a regular file that is not a link; its folder may be one. Raises `OSError`."""
    return read_beneath(path.parent, (path.name,), limit=limit)


def regular_file(path: Path) -> contextlib.AbstractContextManager[tuple[int, os.stat_result]]:
    """Open a regular file that is not a link, as `regular` does; its folder may be one."""
    return regular(path.parent, (path.name,))


def followed(path: Path) -> contextlib.AbstractContextManager[tuple[int, os.stat_result]]:
    """Open a regular file as `regular` does, following links."""
    return regular_file(really(path))


def read_followed(path: Path, *, limit: int) -> bytes:
    """Read a regular file, following links. Never blocks. Raises `OSError`."""
    with followed(path) as (handle, status):
        return file_content(handle, status, limit)


def read_named(path: Path, *, limit: int) -> bytes:
    """Read a file that the user names, following links, or a pipe, waiting for its writer.

    Raises `OSError`, also for more than `limit` bytes.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UnusableFileError(f"holds over {limit:,} bytes", "make it smaller or split it")
    return data


def read_packaged(path: Path) -> bytes:
    """Read a file of the package itself, which an installer may have linked. Raises `OSError`."""
    return read_named(path, limit=MAX_PACKAGED_BYTES)


@contextlib.contextmanager
def plain_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a regular file that is not a link, to be read in pieces. Raises `OSError`."""
    with (
        regular_file(path) as (handle, _),
        os.fdopen(handle, "rb", closefd=False) as file,
    ):
        yield file


def really(path: Path) -> Path:
    """Return a path with links resolved. Raises `OSError` if links have a cycle."""
    try:
        found = path.resolve()
        is_cycle = found.is_symlink()  # which Python 3.13 leaves as it is
    except RuntimeError:  # raised by older ones
        is_cycle = True
    if is_cycle:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return found


def text_of(data: bytes) -> str:
    """Return the text that a file's bytes are: UTF-8, BOM dropped, line ends as LF.

    Raises `NotTextError`.
    """
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise NotTextError("the file is UTF-16", "save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = len(data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode()) + 1
        reason = f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise NotTextError(reason, "save the file as UTF-8", line, column) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _check_kind(mode: int) -> None:
    if stat.S_IFMT(mode) not in _OPENABLE:
        raise _irregular()


def _irregular() -> UnusableFileError:
    return UnusableFileError("is not a regular file", "copy it to one")
