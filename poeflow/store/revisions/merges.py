"""What a merge makes of files: the sides of each, and what git leaves of those in conflict.

The merge is under way, or HEAD is the commit of one.
"""

import functools
import os
import tempfile
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from poeflow.project.conflicts import Conflict
from poeflow.store.git import Git

MAX_BYTES: Final = 64 * 1024 * 1024
"""Bytes of all files in conflict, with their sides, that are read of a merge."""
_MERGE: Final = ("merge-tree", "--write-tree", "--name-only", "--no-messages", "-z")


def unresolved_sides(git: Git, path: str) -> list[bytes]:
    """Return both sides of the file at `path` while the index has it in conflict."""
    sides = (git.ask("cat-file", "blob", f":{stage}:./{path}") for stage in (2, 3))
    return [side for side in sides if side is not None]


def conflicts_in(
    git: Git | None, paths: Callable[[], Iterable[str]]
) -> Callable[[str], Conflict | None]:
    """Return a function for what git leaves of a file in conflict, one of some project `paths`.

    Git and `paths` are asked when it is called.
    """

    @functools.cache
    def conflicts() -> Mapping[str, Conflict]:
        return {} if git is None else conflicts_of(git, {path[2:] for path in paths()})

    return lambda path: conflicts().get(path[2:])


def conflicts_of(git: Git, paths: Container[str]) -> dict[str, Conflict]:
    """Return those of `paths` that a merge leaves in conflict: what git makes of them, by path.

    Git merges again, and writes nothing to the repository. Empty if there is no merge, it was none
    of two branches, its files are too large, or git is older than 2.38.
    """
    others = git.merging
    sides = ("HEAD", others[0]) if others else ("HEAD^1", "HEAD^2")
    with tempfile.TemporaryDirectory(prefix="poeflow-") as folder:
        merging = git.making_objects_in(Path(folder))
        tree, *names = (merging.ask(*_MERGE, *sides, exit_codes=(0, 1)) or b"").split(b"\0")
        found = [path for path in map(os.fsdecode, names) if path in paths and "\n" not in path]
        commits = (tree.decode(), *sides)
        given = "".join(f"{commit}:./{path}\n" for path in found for commit in commits)
        printed = merging.ask("cat-file", "--batch", given=os.fsencode(given), most=MAX_BYTES)
    texts = list(_contents(printed or b""))
    whole = zip(found, texts[::3], texts[1::3], texts[2::3], strict=False)
    return {
        path: Conflict(marked, ours, theirs)
        for path, marked, ours, theirs in whole
        if marked is not None and ours is not None and theirs is not None
    }


def _contents(printed: bytes) -> Iterator[bytes | None]:
    """Yield the files in the output of `git cat-file --batch`, None for one that is missing."""
    at = 0
    while at < len(printed):
        end = printed.index(b"\n", at)
        size = printed[at:end].rpartition(b" ")[2]
        at = end + 1
        if size.isdigit():
            yield printed[at : at + int(size)]
            at += int(size) + 1
        else:
            yield None
