"""Folders of the state: private, durable, and never reached through a link."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from poeflow.errors import DiskError
from poeflow.files import make_folder
from poeflow.opener import UnusableFileError

PRIVATE: Final = 0o700


def make_private(folder: Path) -> None:
    """Make `folder` and what is missing above it.

    Raises `DiskError`, also where `folder` is a link: state is not written elsewhere because a
    repository says so.
    """
    if not folder.parent.exists():
        make_private(folder.parent)
    make_folder(folder, mode=PRIVATE)


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
