"""Patterns and folders of the command line become paths: counted, and through no link in between.

A pattern means what `glob.glob(pattern, recursive=True)` means, but `**` enters no linked folder.
"""

import fnmatch
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from poeflow.errors import UsageError
from poeflow.project.globs import MAX_VISITED

_MAGIC: Final = re.compile(r"[*?[]")
_ANY_FOLDERS: Final = "**"


def has_magic(pattern: str) -> bool:
    return _MAGIC.search(pattern) is not None


def matching(pattern: str, *, most: int = MAX_VISITED) -> list[Path]:
    """Return what a pattern matches, sorted; absolute ones, too. Hidden names need their dot.

    Raises `UsageError` where over `most` files have to be looked at.
    """
    whole = Path(pattern)
    start = Path(whole.anchor)
    parts = whole.parts[1:] if whole.anchor else whole.parts
    walk = _Walk(pattern, most)
    found: set[Path] = set()
    waiting = [(start, parts)]
    seen: set[tuple[Path, int]] = set()
    while waiting:
        path, left = waiting.pop()
        if not left:
            found.add(path)
        elif (path, len(left)) not in seen:
            seen.add((path, len(left)))
            waiting += walk.after(path, left)
    return sorted(found)


def below(folder: Path, *, most: int = MAX_VISITED) -> list[Path]:
    """Return all files below a folder that are not hidden, sorted; no linked folder is entered.

    Raises `UsageError` where over `most` have to be looked at.
    """
    walk = _Walk(str(folder), most)
    waiting, found = [folder], []
    while waiting:
        for entry in walk.entries(waiting.pop()):
            if entry.is_dir(follow_symlinks=False):
                waiting += [] if entry.name.startswith(".") else [Path(entry.path)]
            elif not entry.name.startswith(".") and _is_file(entry):
                found.append(Path(entry.path))
    return sorted(found)


class _Walk:
    """Looks into folders for what is `named`, and counts what it sees."""

    def __init__(self, named: str, most: int) -> None:
        self._named = named
        self._most = most
        self._visited = 0

    def after(self, path: Path, parts: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Yield where the first of `parts` leads from the folder `path`, each with those left."""
        part, left = parts[0], parts[1:]
        if part == _ANY_FOLDERS:
            yield from self._any(path, parts)
        elif not has_magic(part):
            if left or os.path.lexists(path / part):
                yield path / part, left
        else:
            match = re.compile(fnmatch.translate(part)).match
            for entry in self.entries(path):
                is_shown = not entry.name.startswith(".") or part.startswith(".")
                if is_shown and match(entry.name) and (not left or _is_folder(entry)):
                    yield path / entry.name, left

    def _any(self, path: Path, parts: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
        yield path, parts[1:]
        for entry in self.entries(path):
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield path / entry.name, parts
            elif len(parts) == 1:
                yield path / entry.name, ()

    def entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """Return what is in a folder; nothing where it cannot be looked into."""
        found: list[os.DirEntry[str]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._count()
                    found.append(entry)
        except OSError:
            return []
        return found

    def _count(self) -> None:
        self._visited += 1
        if self._visited > self._most:
            message = f"{self._named}: over {self._most:,} files to look at"
            raise UsageError(message, hint="begin with a folder further down")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that goes round
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
