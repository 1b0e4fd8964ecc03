"""Making the store of answers smaller: by age, by size, or by what locks mention."""

import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_HASH: Final = re.compile(rb'"request": ?"([0-9a-f]{64})"')


def prune_cache(
    folder: Path, *, older: float | None, max_bytes: int | None, locks: Iterable[Path] | None
) -> tuple[int, int]:
    """Drop entries below `folder`; return how many, and their bytes.

    `older` is in seconds since an entry was stored; `max_bytes` is what may stay, the newest
    first; `locks` are lock files, and what none of them mentions is dropped.
    """
    files = [path for path in folder.rglob("*") if path.is_file()]
    stats = {path: path.stat() for path in files}
    doomed: set[Path] = set()
    if older is not None:
        limit = time.time() - older
        doomed |= {path for path in files if stats[path].st_mtime < limit}
    if locks is not None:
        named = {found.decode() for lock in locks for found in _HASH.findall(lock.read_bytes())}
        doomed |= {
            p for p in files if p.suffix == ".json" and p.stem not in _with_ends(folder, named)
        }
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
    ends = {path.name: path.read_text("ascii").strip() for path in (folder / "ends").glob("*")}
    return named | {ends[name] for name in named if name in ends}
