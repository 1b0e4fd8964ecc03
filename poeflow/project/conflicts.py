"""Files with the marks of a merge that git could not make: found, and taken apart into sides."""

import re
from typing import Final

_MARKS: Final = re.compile(
    rb"^<{7}(?: [^\n]*)?\n.*?^={7}\r?\n.*?^>{7}(?: [^\n]*)?$", re.MULTILINE | re.DOTALL
)


def has_marks(data: bytes) -> bool:
    """Tell whether a file holds at least one whole conflict: its three marks, in order."""
    return _MARKS.search(data) is not None


def sides(data: bytes) -> tuple[bytes, bytes]:
    """Return a file as either side of the merge has it; what git merged by itself is in both.

    The base, which git writes between them if asked to, is left out.
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
                ours += [line] * (at in ("both", "ours"))
                theirs += [line] * (at in ("both", "theirs"))
    return b"".join(ours), b"".join(theirs)
