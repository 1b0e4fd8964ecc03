"""What git has of files: as committed, the sides of a merge, and what it leaves of a conflict.

The merge is under way, or was the last thing that was committed here. A rebase, `cherry-pick`,
`revert`, `merge --squash` and `stash pop` are merges, too.
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
_BASE, _OURS, _THEIRS = "1", "2", "3"
_Stages = dict[str, str]
"""The hashes of a file in conflict, by stage of the index: the base, our side, and theirs."""


def unresolved_sides(git: Git, path: str) -> list[bytes]:
    """Return both sides of the file at `path` if the index has it, or had it, in conflict."""
    stages = _stages(git, f":(literal){path}").get(path, {})
    sides = (git.ask("cat-file", "blob", stages[one]) for one in (_OURS, _THEIRS) if stages)
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


def committed_in(
    git: Git | None, paths: Callable[[], Iterable[str]]
) -> Callable[[str], bytes | None]:
    """Return a function for what HEAD has of a file that is missing, one of some project `paths`.

    Git and `paths` are asked when it is called.
    """

    @functools.cache
    def committed() -> Mapping[str, bytes | None]:
        if git is None:
            return {}
        found = [path for path in sorted(paths()) if "\n" not in path and not git.has(path[2:])]
        given = "".join(f"HEAD:./{path[2:]}\n" for path in found)
        printed = git.ask("cat-file", "--batch", given=os.fsencode(given), most=MAX_BYTES)
        return dict(zip(found, _contents(printed or b""), strict=False))

    return lambda path: committed().get(path)


def conflicts_of(git: Git, paths: Container[str]) -> dict[str, Conflict]:
    """Return those of `paths` that a merge leaves in conflict: what git makes of them, by path.

    The index says what was merged, by whatever command. Without it, it is two branches. Git merges
    again, and writes nothing to the repository. Empty if there is no merge, its files are too
    large, or git is older than 2.38.
    """
    with tempfile.TemporaryDirectory(prefix="poeflow-") as folder:
        merging = git.making_objects_in(Path(folder))
        stages = {path: one for path, one in _stages(git).items() if path in paths}
        if stages:
            return _conflicts_in_index(merging, stages)
        others = git.merging
        sides = ("HEAD", others[0]) if others else ("HEAD^1", "HEAD^2")
        tree, names = _merged_again(merging, *sides)
        found = [path for path in names if path in paths and "\n" not in path]
        contents = [f"{commit}:./{path}" for path in found for commit in (tree, *sides)]
        return _conflicts(merging, found, contents)


def _conflicts_in_index(merging: Git, stages: Mapping[str, _Stages]) -> dict[str, Conflict]:
    """Return what git makes of the `stages` of some files: it merges commits of these alone."""
    names = {str(number): path for number, path in enumerate(sorted(stages))}
    history = [
        f"commit refs/heads/{mark}\nmark :{mark}\ncommitter poeflow <poeflow> 0 +0000\ndata 0\n"
        + ("" if mark == _BASE else f"from :{_BASE}\n")
        + "".join(
            f"M 100644 {stages[path][mark]} {name}\n"
            for name, path in names.items()
            if mark in stages[path]
        )
        for mark in (_BASE, _OURS, _THEIRS)
    ]
    wanted = f"get-mark :{_OURS}\nget-mark :{_THEIRS}\n"
    made = merging.ask("fast-import", "--quiet", given="".join((*history, wanted)).encode())
    tree, printed = _merged_again(merging, *(made or b"").decode().split())
    found = [name.rpartition("/")[2] for name in printed]  # git prints paths from its folder
    contents = [
        content
        for name in found
        for content in (f"{tree}:{name}", *(stages[names[name]][one] for one in (_OURS, _THEIRS)))
    ]
    return _conflicts(merging, map(names.__getitem__, found), contents)


def _merged_again(merging: Git, *commits: str) -> tuple[str, list[str]]:
    """Return the tree that git makes of two commits, and the paths of files in conflict."""
    printed = merging.ask(*_MERGE, *commits, exit_codes=(0, 1)) or b""
    tree, *names = map(os.fsdecode, printed.split(b"\0"))
    return tree, [name for name in names if name]


def _conflicts(merging: Git, paths: Iterable[str], contents: Iterable[str]) -> dict[str, Conflict]:
    """Return the conflicts of files, of each of which three `contents` are named."""
    given = "".join(f"{one}\n" for one in contents)
    printed = merging.ask("cat-file", "--batch", given=os.fsencode(given), most=MAX_BYTES)
    texts = list(_contents(printed or b""))
    whole = zip(paths, texts[::3], texts[1::3], texts[2::3], strict=False)
    return {
        path: Conflict(marked, ours, theirs)
        for path, marked, ours, theirs in whole
        if marked is not None and ours is not None and theirs is not None
    }


def _stages(git: Git, *paths: str) -> dict[str, _Stages]:
    """Return the files that the index has, or had, in conflict: the hash of each side, by path.

    Git remembers the sides of a file that was added since, until another commit is checked out.
    """
    found: dict[str, _Stages] = {}
    printed = git.ask("ls-files", "--unmerged", "--resolve-undo", "-z", "--", *paths) or b""
    for line in printed.split(b"\0")[:-1]:
        about, _, path = line.partition(b"\t")
        _, content, stage = about.decode().split()
        found.setdefault(os.fsdecode(path), {}).setdefault(stage, content)
    return {path: one for path, one in found.items() if {_OURS, _THEIRS} <= one.keys()}


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
