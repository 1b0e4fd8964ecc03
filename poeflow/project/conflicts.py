"""Finds merge conflicts in files, and splits them into sides."""

import re
from typing import Final, NamedTuple

from poeflow.lazy_pattern import lazy_pattern

_MARKS: Final = lazy_pattern(
    rb"^<{7}(?: [^\n]*)?\n.*?^={7}\r?\n.*?^>{7}(?: [^\n]*)?$", re.MULTILINE | re.DOTALL
)


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
