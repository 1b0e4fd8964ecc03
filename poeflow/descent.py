"""Opening a file below a folder step by step: no link that appears meanwhile is followed."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_STEP: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
_LAST: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextlib.contextmanager
def opened(root: Path, parts: tuple[str, ...]) -> Iterator[int]:
    """Yield a descriptor of the entry that `parts` lead to below `root`, which may be a link.

    Never waits, not even for a pipe without a writer. Raises `OSError`.
    """
    handle = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for position, part in enumerate(parts, start=1):
            flags = _LAST if position == len(parts) else _STEP
            deeper = os.open(part, flags, dir_fd=handle)
            os.close(handle)
            handle = deeper
        yield handle
    finally:
        os.close(handle)
