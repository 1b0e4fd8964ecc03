"""Where a repository is, and the commit it is at, read from its files without git.

What is found is data: nothing is believed of it but names and hashes.
"""

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import msgspec

from poeflow.opener import read_followed

MAX_SETTINGS: Final = 1024 * 1024
"""Bytes that a file of settings may have; a larger one is as if it were not there."""
_COMMIT: Final = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF: Final = re.compile(rb"ref:[ \t]*(refs/[^\x00-\x20~^:?*\[\\\x7f]+)")
_DEEPEST: Final = 5
_MAX_LINE: Final = 8 * 1024
_MAX_REFS: Final = 64 * 1024 * 1024


class Repository(msgspec.Struct, frozen=True):
    """Where a repository is: the `tree` of its files, its git `folder`, and what is `common`.

    The last two differ in a linked work tree, which has a HEAD and an index of its own.
    """

    tree: Path
    folder: Path
    common: Path

    @classmethod
    def find(cls, start: Path) -> Self | None:
        """Return the repository that `start` is in, None where there is none.

        Only what is called `.git` is looked at, upward from `start`: a folder that merely looks
        like a repository is none. A `.git` that is a file names the folder. Whose they are does not
        matter, as nothing in them is believed but data.
        """
        folder = start.resolve()
        for tree in (folder, *folder.parents):
            entry = tree / ".git"
            if is_kind(stat.S_ISREG, entry):
                target = _named_in(entry, b"gitdir:")
                return cls._of(tree, target) if target is not None else None
            if is_kind(stat.S_ISDIR, entry) and (found := cls._of(tree, entry)) is not None:
                return found
        return None

    @classmethod
    def _of(cls, tree: Path, folder: Path) -> Self | None:
        """Return the repository with that git folder, None where it is not one."""
        common = _named_in(folder / "commondir", b"") or folder
        has_folders = all(is_kind(stat.S_ISDIR, common / name) for name in ("objects", "refs"))
        is_whole = has_folders and is_kind(stat.S_ISREG, folder / "HEAD")
        return cls(tree, folder, common) if is_whole else None

    @property
    def commit(self) -> str | None:
        """The commit HEAD is at, None before the first one. Read without git."""
        line = data_of(self.folder / "HEAD", _MAX_LINE)
        for _ in range(_DEEPEST):
            if line is not None and _COMMIT.fullmatch(line.strip()):
                return line.strip().decode()
            named = _REF.match(line or b"")
            if named is None or b".." in named[1]:
                return None
            ref = os.fsdecode(named[1])
            line = data_of(self.folder / ref, _MAX_LINE) or data_of(self.common / ref, _MAX_LINE)
            line = line or self._packed(named[1])
        return None

    def _packed(self, ref: bytes) -> bytes | None:
        packed = data_of(self.common / "packed-refs", _MAX_REFS) or b""
        found = re.search(rb"^([0-9a-f]{40,64}) " + re.escape(ref) + rb"$", packed, re.MULTILINE)
        return found[1] if found is not None else None

    @property
    def settings(self) -> bytes:
        """The text of its configuration, which nothing acts on."""
        return data_of(self.common / "config", MAX_SETTINGS) or b""


def _named_in(file: Path, lead: bytes) -> Path | None:
    """Return the folder that a file of git names after `lead`, None where it names none."""
    data = data_of(file, _MAX_LINE)
    if data is None or not data.startswith(lead) or b"\0" in data:
        return None
    return file.parent / os.fsdecode(data.removeprefix(lead).strip())


def is_kind(kind: Callable[[int], bool], path: Path) -> bool:
    """Tell whether something of that kind is there, links followed; not where nobody can see."""
    try:
        return kind(path.stat().st_mode)
    except OSError:
        return False


def data_of(path: Path, limit: int) -> bytes | None:
    """Return a regular file's bytes, None where there is none, or one larger than `limit`."""
    try:
        return read_followed(path, limit=limit)
    except OSError:
        return None


def index_names(data: bytes) -> list[bytes] | None:
    """Return the names of all files in a git index, None where they cannot all be seen.

    Versions 2 and 3 spell names out (https://git-scm.com/docs/index-format); of SHA-1 and SHA-256
    the one is taken by which the file ends where it should.
    """
    if data[:4] != b"DIRC" or data[4:8] not in (b"\0\0\0\2", b"\0\0\0\3"):
        return None
    found = (_index_names(data, length) for length in (20, 32))
    return next((names for names in found if names is not None), None)


def _index_names(data: bytes, length: int) -> list[bytes] | None:
    """Return the names in an index whose hashes have so many bytes, None if it is none of these."""
    names, at, last = [], 12, len(data) - length
    for _ in range(int.from_bytes(data[8:12])):
        flags = at + 40 + length  # behind ten numbers of four bytes, and a hash
        start = flags + (4 if data[flags : flags + 1] and data[flags] & 0x40 else 2)
        end = data.find(b"\0", start, last)
        if end <= start:
            return None
        names.append(data[start:end])
        at += (end - at) // 8 * 8 + 8
    while at < last:
        if data[at : at + 4] == b"link":  # other names stand in another file
            return None
        at += 8 + int.from_bytes(data[at + 4 : at + 8])
    return names if at == last else None
