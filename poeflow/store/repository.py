"""The place of a repository, and its current commit, read from its files without git.

Only names and hashes are taken from the files; all else is untrusted.
"""

import os
import re
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

import msgspec

from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import read_followed
from poeflow.project.conflicts import MERGE_SIGNS

MAX_SETTINGS: Final = 1024 * 1024
"""Maximum bytes of a configuration file; a larger one is ignored."""
_COMMIT: Final = lazy_pattern(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF: Final = lazy_pattern(rb"ref:[ \t]*(refs/[^\x00-\x20~^:?*\[\\\x7f]+)")
_STARTS: Final = ("refs/", "refs/tags/", "refs/heads/", "refs/remotes/")
"""Where a name is looked for, in git's order (https://git-scm.com/docs/gitrevisions)."""
_OWN_HEAD: Final = lazy_pattern(r"[A-Z]+_HEAD")
_MERGING: Final = ("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD")
"""The files with such a commit (https://git-scm.com/docs/gitrevisions)."""
_REBASED: Final = "REBASE_HEAD"
"""The same of a rebase: git leaves it behind when that has ended."""
_REBASING: Final = ("rebase-merge", "rebase-apply")
"""The folders of a rebase that is under way."""
_DEEPEST: Final = 5
_MAX_LINE: Final = 8 * 1024
_MAX_REFS: Final = 64 * 1024 * 1024
_MAX_INDEX: Final = 256 * 1024 * 1024
_PACKED_NAMES: Final = b"\0\0\0\4"
"""The version of an index in which a name is written as what differs from the one before."""
_HASHES: Final = (20, 32)
_HEAD: Final = 12
_FILE_MODES: Final = (0o100644, 0o100755)


class Repository(msgspec.Struct, frozen=True):
    """The folders of a repository: the `tree` of its files, its git `folder`, and the `common` one.

    The last two differ in a linked work tree, which has a HEAD and an index of its own.
    """

    tree: Path
    folder: Path
    common: Path

    @classmethod
    def find(cls, start: Path) -> Self | None:
        """Return the repository that `start` is in, None if there is none.

        Only `.git` is considered, in `start` and the folders above: a bare repository does not
        count. If `.git` is a file, it names the folder. Any user may own them, as only data is
        read from them.
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
        """Return the repository with this git folder, None if it is not one."""
        common = _named_in(folder / "commondir", b"") or folder
        has_folders = all(is_kind(stat.S_ISDIR, common / name) for name in ("objects", "refs"))
        is_whole = has_folders and is_kind(stat.S_ISREG, folder / "HEAD")
        return cls(tree, folder, common) if is_whole else None

    @property
    def commit(self) -> str | None:
        """The commit of HEAD, None before the first one. Read without git."""
        return self._commit_in(data_of(self.folder / "HEAD", _MAX_LINE))

    @property
    def merging(self) -> tuple[str, ...]:
        """The commits that are being merged into HEAD, or picked for it. Read without git."""
        rebases = any(is_kind(stat.S_ISDIR, self.folder / name) for name in _REBASING)
        names = (*_MERGING, _REBASED) if rebases else _MERGING
        lines = (data_of(self.folder / name, _MAX_LINE) or b"" for name in names)
        return tuple(line.strip().decode() for line in lines if _COMMIT.fullmatch(line.strip()))

    @property
    def has_merged(self) -> bool:
        """Whether git left conflicts that are not committed: also of a squash merge, or a stash."""
        return any(os.path.lexists(self.folder / sign) for sign in MERGE_SIGNS)

    def revision(self, name: str) -> str | None:
        """Return the hash that a name stands for: HEAD, a branch, a tag or a remote branch.

        A full hash stands for itself. None if there is no such name; nothing is computed.
        """
        if name in ("HEAD", "@"):
            return self.commit
        if _COMMIT.fullmatch(os.fsencode(name)):
            return name
        starts = ("", *_STARTS) if name.startswith("refs/") else _STARTS
        places = [*(f"{start}{name}" for start in starts), f"refs/remotes/{name}/HEAD"]
        sound = [one for one in places if _REF.fullmatch(b"ref: " + os.fsencode(one))]
        if _OWN_HEAD.fullmatch(name):
            sound.insert(0, name)
        lines = (self._line(one) for one in sound if ".." not in one)
        return next((found for line in lines if (found := self._commit_in(line))), None)

    def _line(self, ref: str) -> bytes | None:
        """Return the first words of a ref's file, or its hash among the packed ones."""
        found = (data_of(folder / ref, _MAX_LINE) for folder in (self.folder, self.common))
        line = next((one for one in found if one), None)
        return line.split(b"\t")[0] if line else self._packed(os.fsencode(ref))

    def _commit_in(self, line: bytes | None) -> str | None:
        """Return the hash in the line of a ref, or of the ref that it names."""
        for _ in range(_DEEPEST):
            if line is not None and _COMMIT.fullmatch(line.strip()):
                return line.strip().decode()
            named = _REF.match(line or b"")
            if named is None or b".." in named[1]:
                return None
            line = self._line(os.fsdecode(named[1]))
        return None

    def _packed(self, ref: bytes) -> bytes | None:
        packed = data_of(self.common / "packed-refs", _MAX_REFS) or b""
        found = re.search(rb"^([0-9a-f]{40,64}) " + re.escape(ref) + rb"$", packed, re.MULTILINE)
        return found[1] if found is not None else None

    def staged_if_different(self, path: Path) -> str | None:
        """Return the name of a file's content in the index, if the file on disk is another.

        As for git, it is the same if its size and time are those in the index. None, too, if the
        index does not have it. Of an index that is not read here, the name is `:` and a path.
        """
        try:
            status, name = path.lstat(), path.relative_to(self.tree).as_posix()
        except (OSError, ValueError):
            return None
        data = data_of(self.folder / "index", _MAX_INDEX) or b""
        if data[:4] == b"DIRC" and data[4:8] == _PACKED_NAMES:
            return f":{name}"
        for length in _HASHES:
            entry = _index_entry(data, os.fsencode(name), length)
            if entry is not None:
                seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
                found = (seconds % 2**32, status.st_size % 2**32)
                is_same = found == (entry.seconds, entry.size)
                is_same = is_same and entry.nanoseconds in (0, nanoseconds)
                return None if is_same else entry.content
        return None

    def loose(self, content: str, limit: int) -> bytes | None:
        """Return a content that git keeps in a file of its own, None if it has none such."""
        data = data_of(self.common / "objects" / content[:2] / content[2:], limit)
        unpacking = zlib.decompressobj()
        try:
            text = unpacking.decompress(data or b"", limit)
        except zlib.error:
            return None
        head, end, body = text.partition(b"\0")
        return body if end and head == b"blob %d" % len(body) else None

    def seen_in_index(self, start: Path, paths: list[str]) -> list[str]:
        """Return the files in the index among `paths` and below, `paths` if it cannot be read.

        They are relative to the folder `start`, in upper or lower case.
        """
        names = _names_in(data_of(self.folder / "index", _MAX_INDEX) or b"")
        if names is None:
            return paths
        top = start.relative_to(self.tree)
        beneath = b"" if top == Path() else os.fsencode(top) + b"/"
        wanted = tuple(os.fsencode(path).lower() for path in paths)
        found = [name[len(beneath) :] for name in names if name.startswith(beneath)]
        folders = tuple(path + b"/" for path in wanted)
        return [
            os.fsdecode(name)
            for name in found
            if name.lower() in wanted or name.lower().startswith(folders)
        ]

    @property
    def settings(self) -> bytes:
        """The text of its configuration, which has no effect here."""
        return data_of(self.common / "config", MAX_SETTINGS) or b""

    @property
    def core_settings(self) -> dict[str, str]:
        """The plain values of the section `core` of its configuration."""
        found: dict[str, str] = {}
        section = b""
        for line in self.settings.splitlines():
            head = re.match(rb"\s*\[(.*)\]\s*$", line)
            section = head[1].strip().lower() if head is not None else section
            value = re.fullmatch(rb"\s*([A-Za-z0-9-]+)\s*(?:=\s*\"?([A-Za-z0-9]+)\"?\s*)?", line)
            if section == b"core" and value is not None:
                found[f"core.{value[1].decode().lower()}"] = (value[2] or b"true").decode()
        return found


def _named_in(file: Path, lead: bytes) -> Path | None:
    """Return the folder that a file names after the word `lead`, None if it names none."""
    data = data_of(file, _MAX_LINE)
    if data is None or not data.startswith(lead) or b"\0" in data:
        return None
    return file.parent / os.fsdecode(data.removeprefix(lead).strip())


def is_kind(kind: Callable[[int], bool], path: Path) -> bool:
    """Return whether a file of that kind is there, links followed; false if it cannot be read."""
    try:
        return kind(path.stat().st_mode)
    except OSError:
        return False


def data_of(path: Path, limit: int) -> bytes | None:
    """Return a regular file's bytes, None if it is missing or larger than `limit`."""
    try:
        return read_followed(path, limit=limit)
    except OSError:
        return None


class _IndexEntry(msgspec.Struct, frozen=True):
    seconds: int
    nanoseconds: int
    size: int
    content: str


def _index_entry(data: bytes, name: bytes, length: int) -> _IndexEntry | None:
    """Return the entry of a file that is not in conflict, in an index that spells names out.

    Before its name are ten numbers of four bytes, a hash of so many bytes, and the flags, which
    end with the length of the name (https://git-scm.com/docs/index-format).
    """
    at = data.find(name + b"\0")
    while at >= 0:
        begin = at - 42 - length
        flags = int.from_bytes(data[at - 2 : at])
        if begin >= _HEAD and flags & 0x7FFF == min(len(name), 0xFFF):
            numbers = struct.unpack(">10I", data[begin : begin + 40])
            if numbers[6] in _FILE_MODES:
                content = data[begin + 40 : at - 2].hex()
                return _IndexEntry(numbers[2], numbers[3], numbers[9], content)
        at = data.find(name + b"\0", at + 1)
    return None


def _names_in(data: bytes) -> list[bytes] | None:
    """Return the names of all files in a git index, None if any of them cannot be read.

    Versions 2 and 3 spell names out (https://git-scm.com/docs/index-format). SHA-1 and SHA-256 are
    both tried; the right one makes the entries end at the end of the file.
    """
    if data[:4] != b"DIRC" or data[4:8] not in (b"\0\0\0\2", b"\0\0\0\3"):
        return None
    found = (_index_names(data, length) for length in (20, 32))
    return next((names for names in found if names is not None), None)


def _index_names(data: bytes, length: int) -> list[bytes] | None:
    """Return the names in an index whose hashes have so many bytes, None if it is another."""
    names, at, last = [], 12, len(data) - length
    for _ in range(int.from_bytes(data[8:12])):
        flags = at + 40 + length  # after ten numbers of four bytes, and a hash
        start = flags + (4 if data[flags : flags + 1] and data[flags] & 0x40 else 2)
        end = data.find(b"\0", start, last)
        if end <= start:
            return None
        names.append(data[start:end])
        at += (end - at) // 8 * 8 + 8
    while at < last:
        if data[at : at + 4] == b"link":  # other names are in another file
            return None
        at += 8 + int.from_bytes(data[at + 4 : at + 8])
    return names if at == last else None
