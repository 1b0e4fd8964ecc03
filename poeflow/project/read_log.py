"""What was read of a project and written to it, noted on the way by `Project` and `globs`."""

import os
from pathlib import Path

import msgspec

from poeflow.digest import sha256_of


class FileStat(msgspec.Struct, frozen=True):
    """A stamp of a file, from the file system: if two stamps differ, the content may differ."""

    inode: int
    size: int
    modified: int
    changed: int


class FileSnapshot(msgspec.Struct, frozen=True):
    """How a path was found: `stamp` is None if nothing was there, `digest` is set if it was read.

    An empty digest is that of a file that changed while it was looked at.
    """

    stamp: FileStat | None = None
    digest: str | None = None


class ReadLog:
    """Collects what is read: `files` by path as found, and what `patterns` matched, by themselves.

    A pattern that cannot be searched has None. `folders` are those looked into on the way,
    `written` the hashes of what poeflow itself wrote.
    """

    def __init__(self) -> None:
        self.files: dict[Path, FileSnapshot] = {}
        self.patterns: dict[str, tuple[str, ...] | None] = {}
        self.folders: set[Path] = set()
        self.written: dict[Path, str] = {}

    def look(self, path: Path) -> None:
        """Note that `path` was looked for, whether or not it is there."""
        if path not in self.files:
            self.files[path] = FileSnapshot(stamp_at(path))

    def read(self, path: Path, status: os.stat_result, digest: str) -> None:
        """Note the hash of what a file held. `status` is from before it was read."""
        new, old = FileSnapshot(stamp_of(status), digest), self.files.get(path)
        is_own = new.digest == self.written.get(path)
        if old is None or is_own or (old.digest is None and old.stamp == new.stamp):
            self.files[path] = new
        elif old.digest != new.digest:
            self.files[path] = FileSnapshot(new.stamp, "")

    def take(self, other: "ReadLog") -> None:
        """Note what is in another log as if it had been read for this one."""
        for path, new in other.files.items():
            old = self.files.get(path)
            if old is None or (old.digest is None and old.stamp == new.stamp):
                self.files[path] = new

    def write(self, path: Path, data: bytes) -> None:
        """Note what is about to be written."""
        self.written[path] = sha256_of(data)


def stamp_at(path: Path) -> FileStat | None:
    """Return the stamp of the file at `path`, links followed; None if there is none."""
    try:
        return stamp_of(path.stat())
    except (OSError, ValueError):
        return None


def stamp_of(status: os.stat_result) -> FileStat:
    return FileStat(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
