"""The one place that opens files to read: regular ones, of bounded size, each read once.

What a repository holds is read without following a link and without waiting, so that a device, a
pipe or a file that grows in a file's place is an error like any other. What the user names, or what
is poeflow's own, may be a link; what the user names may also be a pipe.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

MAX_PACKAGED_BYTES: Final = 16 * 1024 * 1024
_STEP: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
_LAST: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_OPENABLE: Final = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)
"""What is opened at all: to open a device may already do something, and a link is an error."""


class UnusableFileError(OSError):
    """What is there is not read. `strerror` says why, `hint` what to do."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(errno.EINVAL, reason)
        self.hint = hint


class NotTextError(ValueError):
    """Bytes are not UTF-8. `line` and `column` count from 1; `reason` says what is there."""

    def __init__(self, reason: str, hint: str, line: int = 1, column: int = 1) -> None:
        super().__init__(reason)
        self.reason, self.hint, self.line, self.column = reason, hint, line, column


@contextlib.contextmanager
def opened(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """Yield a descriptor of the file or folder that `parts` lead to below `root`, maybe a link.

    No link below it is followed, not even one that appears meanwhile. Never waits, and opens
    neither devices nor pipes. Raises `OSError`.
    """
    handle = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for position, part in enumerate(parts, start=1):
            is_last = position == len(parts)
            if is_last:
                _check_kind(os.stat(part, dir_fd=handle, follow_symlinks=False).st_mode)
            deeper = os.open(part, _LAST if is_last else _STEP, dir_fd=handle)
            os.close(handle)
            handle = deeper
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def regular(root: Path, parts: tuple[str, ...]) -> Iterator[tuple[int, os.stat_result]]:
    """Yield a descriptor of a regular file, as `opened` does, and what the system says of it."""
    with contextlib.ExitStack() as stack:
        try:
            handle = stack.enter_context(opened(root, parts))
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise UnusableFileError("is a link", "put the file itself in its place") from None
            raise
        yield handle, regular_status(handle)


def regular_status(handle: int) -> os.stat_result:
    """Return what the system says of an open file. Raises `UnusableFileError` if not regular."""
    status = os.fstat(handle)
    if stat.S_ISDIR(status.st_mode):
        raise UnusableFileError("is a folder", "name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise _irregular()
    return status


def content(handle: int, status: os.stat_result, limit: int) -> bytes:
    """Return all that the regular file behind a descriptor holds. Raises `UnusableFileError`.

    So it does where the file has more than `limit` bytes, or others than `status` says.
    """
    size = status.st_size
    if size > limit:
        reason = f"has {size:,} bytes; the limit is {limit:,}"
        raise UnusableFileError(reason, "make it smaller or split it")
    data = head(handle, size + 1)
    if len(data) != size:
        raise UnusableFileError("changed while it was read", "run again")
    return data


def head(handle: int, size: int) -> bytes:
    """Return what comes next behind a descriptor, so many bytes at most."""
    with os.fdopen(handle, "rb", closefd=False) as file:
        return file.read(size)


def read_beneath(root: Path, parts: tuple[str, ...], *, limit: int) -> bytes:
    """Read a regular file below `root`, through no link. Raises `OSError`."""
    with regular(root, parts) as (handle, status):
        return content(handle, status, limit)


def read_plain(path: Path, *, limit: int) -> bytes:
    """Read a regular file that is no link itself; its folder may be one. Raises `OSError`."""
    return read_beneath(path.parent, (path.name,), limit=limit)


@contextlib.contextmanager
def followed(path: Path) -> Iterator[tuple[int, os.stat_result]]:
    """Yield a descriptor of a regular file, maybe behind links, and its status, as `regular`."""
    real = really(path)
    with regular(real.parent, (real.name,)) as found:
        yield found


def read_followed(path: Path, *, limit: int) -> bytes:
    """Read a regular file, maybe behind links. Never waits. Raises `OSError`."""
    with followed(path) as (handle, status):
        return content(handle, status, limit)


def read_named(path: Path, *, limit: int) -> bytes:
    """Read what the user names: a file anywhere, behind links, a pipe; waits for who writes it.

    Raises `OSError`, also where there is more than `limit` bytes.
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
    """Yield a regular file that is no link, to be read piece by piece. Raises `OSError`."""
    with (
        regular(path.parent, (path.name,)) as (handle, _),
        os.fdopen(handle, "rb", closefd=False) as file,
    ):
        yield file


def really(path: Path) -> Path:
    """Return where a path leads, links followed. Raises `OSError` where a link goes round."""
    try:
        return path.resolve()
    except RuntimeError:  # what Python before 3.13 makes of a link that goes round
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None


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
    if not any(is_kind(mode) for is_kind in _OPENABLE):
        raise _irregular()


def _irregular() -> UnusableFileError:
    return UnusableFileError("is not a regular file", "copy it to one")
