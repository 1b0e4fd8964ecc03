"""What git leaves in place of a file: one with merge conflicts, or a pointer of git-lfs."""

import os
import re
from pathlib import Path
from typing import Final, NamedTuple

from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import UnusableFileError, read_followed

_MARKS: Final = lazy_pattern(
    rb"^<{7}(?: [^\n]*)?\n.*?^={7}\r?\n.*?^>{7}(?: [^\n]*)?$", re.MULTILINE | re.DOTALL
)
_POINTER: Final = lazy_pattern(
    rb"version https://git-lfs\.github\.com/spec/v1\r?\n(?:.*\n)*?oid sha256:([0-9a-f]{64})\r?\n"
)
MAX_POINTER: Final = 1024
"""Bytes that a pointer of git-lfs may have (https://github.com/git-lfs/git-lfs, docs/spec.md)."""
MERGE_SIGNS: Final = (
    *("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "AUTO_MERGE"),
    *("rebase-merge", "rebase-apply"),
)
"""Entries of git's folder while a merge is not committed: the fourth also of a squash merge."""
_MAX_LINE: Final = 8 * 1024


class Conflict(NamedTuple):
    """A file as git leaves it in a merge, with marks, and as both sides of the merge have it."""

    marked: bytes
    ours: bytes
    theirs: bytes


def has_marks(data: bytes) -> bool:
    """Return whether a file has at least one complete conflict: three marks, in order."""
    return _MARKS.search(data) is not None


def sides(data: bytes) -> tuple[bytes, bytes]:
    """Return a file as in each side of the merge; parts that git has merged are in both.

    The base, which git can write between them, is left out.
    """
    ours: list[bytes] = []
    theirs: list[bytes] = []
    at = "both"
    for line in data.splitlines(keepends=True):
        match at, line[:7]:
            case "both", b"<<<<<<<":
                at = "ours"
            case "ours", b"|||||||":
                at = "base"
            case "ours" | "base", b"=======":
                at = "theirs"
            case "theirs", b">>>>>>>":
                at = "both"
            case _:
                if at in ("both", "ours"):
                    ours.append(line)
                if at in ("both", "theirs"):
                    theirs.append(line)
    return b"".join(ours), b"".join(theirs)


def refuse_unfinished(data: bytes, root: Path) -> None:
    """Raise `UnusableFileError` if a file of the project at `root` is not what a person meant.

    It is a pointer of git-lfs, or has conflict marks while a merge is under way.
    """
    if lfs_digest(data) is not None:
        raise UnusableFileError("is a pointer of git-lfs, not the file", "run `git lfs pull`")
    if b"<<<<<<< " in data and has_marks(data) and has_merge_under_way(root):
        line = data.count(b"\n", 0, data.index(b"<<<<<<< ")) + 1
        raise UnusableFileError(f"has conflict marks of a merge (line {line})", "resolve them")


def lfs_digest(data: bytes) -> str | None:
    """Return the SHA-256 of the file that a pointer of git-lfs stands for; None of another file."""
    if data[:8] != b"version " or len(data) > MAX_POINTER:
        return None
    found = _POINTER.match(data)
    return None if found is None else found[1].decode()


def has_merge_under_way(root: Path) -> bool:
    """Whether git has a merge under way in the repository of a folder."""
    for folder in (root, *root.parents):
        place = folder / ".git"
        try:
            if place.is_file():  # in a linked work tree and in a submodule it names the folder
                named = read_followed(place, limit=_MAX_LINE).removeprefix(b"gitdir:").strip()
                place = folder / os.fsdecode(named)
            if place.is_dir():
                return any(os.path.lexists(place / sign) for sign in MERGE_SIGNS)
        except (OSError, ValueError):
            return False
    return False
