"""Folders of the state: private, durable, owned by the user, and never reached through a link."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from poeflow.errors import DiskError
from poeflow.opener import UnusableFileError, read_beneath
from poeflow.project.project import make_folder
from poeflow.project.state_folder import STATE_VARIABLE

PRIVATE: Final = 0o700
ELSEWHERE: Final = f"let it be written to, or name another folder with {STATE_VARIABLE}"


def make_private(folder: Path) -> None:
    """Make `folder` and what is missing above it.

    Raises `DiskError`, also if `folder` is a link: a repository must not redirect the state.
    """
    if not folder.parent.exists():
        make_private(folder.parent)
    try:
        make_folder(folder, mode=PRIVATE)
    except DiskError as error:
        if os.access(folder.parent, os.W_OK | os.X_OK):
            raise
        raise DiskError(error.message, hint=ELSEWHERE) from None


def owners(folder: Path) -> frozenset[int]:
    """Return the ids of the users whose files in `folder` count as the user's own.

    For root the owner of `folder` counts, too: in a container the project often belongs to another
    user.
    """
    user = os.geteuid()
    return frozenset({user} if user else {user, folder.stat().st_uid})


def check_folder(folder: Path, allowed: frozenset[int]) -> None:
    """Check that a folder of the state is missing, or real and owned by an `allowed` user.

    Raises `DiskError`.
    """
    with disk_errors(folder, "looked at"):
        try:
            status = folder.lstat()
        except FileNotFoundError:
            return
    if stat.S_ISLNK(status.st_mode):
        message = f"{folder} is a link; no state is read or written through it"
        raise DiskError(message, hint="replace the link by a folder")
    if not stat.S_ISDIR(status.st_mode):
        message = f"{folder} is a file where a folder is needed"
        raise DiskError(message, hint="move the file away")
    if status.st_uid not in allowed:
        message = f"{folder} belongs to another user"
        raise DiskError(message, hint="move it away, or make it yours with chown -R")


def check_file(path: Path, allowed: frozenset[int]) -> None:
    """Check that a file of the state is missing, or plain and owned by an `allowed` user.

    Raises `DiskError`.
    """
    with disk_errors(path, "looked at"):
        try:
            status = path.lstat()
        except FileNotFoundError:
            return
    if not stat.S_ISREG(status.st_mode):
        what = "a link" if stat.S_ISLNK(status.st_mode) else "no regular file"
        raise DiskError(f"{path} is {what}", hint="move it away")
    if status.st_uid not in allowed:
        message = f"{path} belongs to another user"
        raise DiskError(message, hint="move it away, or make it yours with chown")


def state_file(root: Path, path: Path, *, limit: int) -> bytes | None:
    """Return the bytes of the file at `path`, below `root`; None if there is none.

    Neither it nor a folder between them may be a link. Raises `DiskError`, also for more than
    `limit` bytes.
    """
    with disk_errors(path, "read"):
        try:
            return read_beneath(root, path.relative_to(root).parts, limit=limit)
        except FileNotFoundError:
            return None


@contextlib.contextmanager
def disk_errors(path: Path, failed: str) -> Iterator[None]:
    """Turn an `OSError` into a `DiskError` that says `path` cannot be `failed`."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "check its permissions and the free space"
        if isinstance(error, UnusableFileError):
            hint = "move it away"
        raise DiskError(f"{path} cannot be {failed}: {reason}", hint=hint) from None
