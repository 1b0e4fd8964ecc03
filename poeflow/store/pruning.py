"""Making the store of answers smaller: by age, by size, or by what locks mention."""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from poeflow.errors import DiskError
from poeflow.opener import read_plain
from poeflow.store.lockfile import MAX_BYTES

_MAX_POINTER: Final = 1024
_HASH: Final = re.compile(rb'"request": ?"([0-9a-f]{64})"')


def prune_cache(
    folder: Path, *, older: float | None, max_bytes: int | None, locks: Iterable[Path] | None
) -> tuple[int, int]:
    """Drop entries below `folder`; return how many, and their bytes.

    `older` is in seconds since an entry was stored; `max_bytes` is what may stay, the newest
    first; `locks` are lock files, and what none of them mentions is dropped. Raises `DiskError`,
    also if a lock cannot be read: what it mentions would be lost.
    """
    if folder.is_symlink():
        hint = "replace the link by a folder"
        raise DiskError(f"{folder} is a link; nothing is dropped through it", hint=hint)
    files = [path for path in folder.rglob("*") if path.is_file()]
    stats = {path: path.stat() for path in files}
    doomed: set[Path] = set()
    if older is not None:
        limit = time.time() - older
        doomed |= {path for path in files if stats[path].st_mtime < limit}
    if locks is not None:
        named = _with_ends(folder, {name for lock in locks for name in _named_in(lock)})
        doomed |= {p for p in files if p.suffix == ".json" and p.stem not in named}
    if max_bytes is not None:
        size = 0
        for path in sorted(files, key=lambda one: stats[one].st_mtime, reverse=True):
            size += stats[path].st_size
            if size > max_bytes:
                doomed.add(path)
    for path in doomed:
        path.unlink(missing_ok=True)
    return len(doomed), sum(stats[path].st_size for path in doomed)


def _with_ends(folder: Path, named: set[str]) -> set[str]:
    """Return the named requests with those their conversations ended with."""
    ends = {path.name: _end(path) for path in (folder / "ends").glob("*")}
    return named | {ends[name] for name in named if name in ends}


def _named_in(lock: Path) -> set[str]:
    """Return the requests that a lock mentions, whatever else it holds. Raises `DiskError`."""
    try:
        found = _HASH.findall(read_plain(lock, limit=MAX_BYTES))
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        hint = "mend or remove it: what it mentions would be dropped"
        raise DiskError(f"{lock}: {reason}", hint=hint) from None
    return {name.decode() for name in found}


def _end(path: Path) -> str:
    """Return the request that a conversation ended with; nothing where that is damaged."""
    try:
        return read_plain(path, limit=_MAX_POINTER).decode("ascii", "replace").strip()
    except OSError:
        return ""
