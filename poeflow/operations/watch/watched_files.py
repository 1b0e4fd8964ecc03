"""The files a flow was read from, and how they differ from those on disk now.

Content counts, not time: a file saved with the same content has not changed. Neither has a file
that poeflow itself wrote.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from poeflow.digest import sha256_of
from poeflow.opener import file_content, followed, read_followed
from poeflow.project.globs import matches
from poeflow.project.project import FileProblem, Project
from poeflow.project.read_log import FileSnapshot, ReadLog, stamp_at

ChangeKind = Literal["changed", "new", "gone"]
_MAX_BYTES: Final = 64 * 1024 * 1024
"""Larger files are not compared."""


class FileChange(msgspec.Struct, frozen=True, order=True):
    """A file that differs from what was read."""

    path: Path
    kind: ChangeKind


class WatchedFiles:
    """The files and patterns that a run read, by its `log`, in the project at `root`."""

    def __init__(self, log: ReadLog, root: Path) -> None:
        self.log = merged_log(log)
        self._root = root
        self._found: dict[Path, FileSnapshot] = {}
        self._matched: dict[str, tuple[str, ...] | None] = {}
        self._real = dict(_moved(self.log.files))
        self._above = {one for path in self._places() for one in path.parents}

    def folders(self) -> frozenset[Path]:
        """Return the folders to watch; for one that is gone, the nearest that exists.

        Watching a folder reports changes of its entries and of itself.
        """
        wanted = {path.parent for path in (*self.log.files, *self._real)} | self.log.folders
        return frozenset(_nearest(folder) for folder in wanted)

    def concerns(self, path: Path) -> bool:
        """Return whether a change of `path` may matter to the flow."""
        return path in self.log.files or path in self._real or self._is_around(path)

    def changes(self, touched: Collection[Path] = (), *, sweeps: bool = True) -> list[FileChange]:
        """Return the files that differ from what was read, sorted.

        Files that were `touched` are read whatever their time says. Patterns are searched again
        if something in their folders was touched, or if it `sweeps`.
        """
        named = {self._real.get(path, path) for path in touched}
        found = {
            path: FileChange(path, kind)
            for path, snapshot in list(self.log.files.items())
            if (kind := self._kind(path, snapshot, is_touched=path in named)) is not None
        }
        if sweeps or any(map(self._is_around, named)):
            self._search()
        for change in self._otherwise_matched():
            found.setdefault(change.path, change)
        return sorted(found.values())

    def mark_as_read(self) -> None:
        """Treat the last changes as read: they have been acted upon."""
        self.log.files.update(self._found)
        self.log.patterns.update(self._matched)
        self._found.clear()

    def _is_around(self, path: Path) -> bool:
        """Return whether `path` is above an input, or in a folder that a pattern searched."""
        return path in self._above or path.parent in self.log.folders

    def _kind(self, path: Path, snapshot: FileSnapshot, *, is_touched: bool) -> ChangeKind | None:
        stamp = stamp_at(path)
        if (
            stamp == snapshot.stamp
            and snapshot.digest != ""
            and not (is_touched and snapshot.digest)
        ):
            return None
        own, digest = self.log.written.get(path), None
        if stamp is not None and (snapshot.digest is not None or own is not None):
            digest = _digest_at(path)
        if digest is not None and digest in (snapshot.digest, own):
            self.log.files[path] = FileSnapshot(stamp, digest)
            return None
        self._found[path] = FileSnapshot(stamp, digest)
        if stamp is None:
            return "gone"
        return "new" if snapshot.stamp is None else "changed"

    def _search(self) -> None:
        log = ReadLog()
        for pattern in self.log.patterns:
            with contextlib.suppress(FileProblem):
                matches(Project(self._root, log), pattern)
        self._matched = log.patterns
        self.log.folders |= log.folders

    def _otherwise_matched(self) -> Iterator[FileChange]:
        """Yield the files that patterns newly match, and those they do not match any more."""
        project = Project(self._root)
        for pattern, found in self._matched.items():
            now, before = set(found or ()), set(self.log.patterns[pattern] or ())
            for path in map(project.path_of, now - before):
                if not self._is_own(path):
                    yield FileChange(path, "new")
            yield from (FileChange(path, "gone") for path in map(project.path_of, before - now))

    def _is_own(self, path: Path) -> bool:
        return path in self.log.written and _digest_at(path) == self.log.written[path]

    def _places(self) -> Iterator[Path]:
        yield from self.log.files
        yield from self._real
        for folder in self.log.folders:
            yield folder / "_"


def merged_log(log: ReadLog, earlier: ReadLog | None = None) -> ReadLog:
    """Return a log merged with an earlier one; for the same file or pattern the later one wins."""
    whole = ReadLog()
    for one in (log,) if earlier is None else (earlier, log):
        whole.files.update(one.files)
        whole.patterns.update(one.patterns)
        whole.folders |= one.folders
        whole.written = {p: d for p, d in whole.written.items() if p not in one.files}
        whole.written.update(one.written)
    return whole


def note_outside_file(log: ReadLog, path: Path) -> None:
    """Add a file outside of the project to the log, as it is now."""
    log.look(path)
    try:
        with followed(path) as (handle, status):
            log.read(path, status, sha256_of(file_content(handle, status, _MAX_BYTES)))
    except OSError:
        return


def _moved(paths: Iterable[Path]) -> Iterator[tuple[Path, Path]]:
    """Yield the real paths of files that are reached through links, with the paths they have."""
    folders: dict[Path, Path] = {}
    for path in paths:
        folder = path.parent
        if folder not in folders:
            folders[folder] = folder.resolve()
        real = folders[folder] / path.name
        if path.is_symlink():
            try:
                real = path.resolve()
            except RuntimeError:  # a link loop, before Python 3.13
                continue
        if real != path:
            yield real, path


def _nearest(folder: Path) -> Path:
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder


def _digest_at(path: Path) -> str | None:
    try:
        return sha256_of(read_followed(path, limit=_MAX_BYTES))
    except OSError:
        return None
