"""Patterns over a project's files: sorted and bounded matches, without unwanted files."""

import fnmatch
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from poeflow.lazy_pattern import lazy_pattern
from poeflow.project.project import LOCALE, FileProblem, Project, composed, twin_of

MAX_MATCHES: Final = 10_000
MAX_VISITED: Final = 200_000
_HIDDEN: Final = lazy_pattern(
    r"\.git|\.poeflow|node_modules|__pycache__|venv|.*\.lock\.json", re.DOTALL | re.IGNORECASE
)
"""Names that never match, besides private files."""
_LEFTOVERS: Final = {
    "*~": "the backup of an editor: Emacs, Vim, gedit, Kate",
    "#*#": "an automatic save of Emacs",
    "*.sw[klmnopx]": "a swap file of Vim",
    "4913": "a file with which Vim tests a folder",
    "*.bak": "the backup of an editor",
    "*.orig": "a file before a merge or a patch",
    "*.rej": "the rejects of a patch",
    "*.tmp": "a temporary file",
    "*___jb_*___": "a temporary file of a JetBrains IDE",
    "~$*": "a lock file of Office",
    ".ds_store": "the Finder's settings of a folder",
    "._*": "macOS metadata on a foreign disk",
    "__macosx": "the same, in an archive",
    "thumbs.db": "thumbnails of Windows",
    "ehthumbs.db": "thumbnails of Windows",
    "desktop.ini": "Windows' settings of a folder",
    "$recycle.bin": "the recycle bin of Windows",
    "system volume information": "Windows' data on a disk",
    "lost+found": "files recovered after a crash",
    "@eadir": "thumbnails of a Synology NAS",
}
"""Names, in lower case, of files that editors and systems leave beside others, and descriptions."""
_LEFTOVER: Final = lazy_pattern("|".join(map(fnmatch.translate, _LEFTOVERS)))
_ANY_FOLDERS: Final = "**"
_SEARCH: Final = 10
"""The cost of beginning a search, in visited entries."""
_ENVIRONMENT_MARK: Final = "pyvenv.cfg"

Positions = frozenset[int]


def is_pattern(path: str) -> bool:
    return any(character in path for character in "*?[")


def path_key(path: str, pattern: str) -> str:
    """Return the key of a path: what is below the folder with which its pattern begins."""
    folders = PurePosixPath(pattern).parts[:-1]
    return "/".join(PurePosixPath(path).parts[len(_literal(folders)) :])


def has_shape(pattern: str, canonical: str) -> bool:
    """Return whether a canonical path, which need not exist, has the shape of a pattern.

    What patterns never match is not looked at.
    """
    parts = PurePosixPath(pattern[2:]).parts
    if not parts:
        return False
    shape = _Shape(pattern, parts)
    positions = shape.start()
    for name in PurePosixPath(canonical[2:]).parts:
        positions = shape.after(positions, name)
    return shape.is_complete(positions)


def matches(
    project: Project, pattern: str, *, visit: Callable[[int], None] | None = None
) -> list[str]:
    """Return the regular files that match a canonical pattern (`//data/**/*.pdf`), sorted.

    `*`, `?` and `[abc]` match within one folder, `**` matches any folders. Never matched: private
    files, dot folders, dependencies, lock files, files left by editors and systems, and links that
    leave the project; links to folders are followed if the pattern names them. Letters with
    accents match in both Unicode forms. Raises `FileProblem` if too many files match, or the
    pattern begins with a folder that is never matched. `visit` is called with the number of
    visited entries, and may raise.
    """
    parts = PurePosixPath(pattern[2:]).parts
    project.searches.visit(_SEARCH, pattern)
    named = _as_on_disk(project, _literal(parts[:-1]))
    start = "//" + "/".join(named)
    _note(project, pattern, start, None)
    if not parts or not project.path_of(start).is_dir():
        _note(project, pattern, start, ())
        return []
    _check_not_hidden(project, pattern, named)
    _check_not_hidden(project, pattern, project.real_path(start).relative_to(project.root).parts)
    found: list[str] = []
    for canonical in _files(project, start, _Shape(pattern, parts[len(named) :]), visit):
        if len(found) == MAX_MATCHES:
            raise FileProblem(f"{pattern} matches over {MAX_MATCHES:,} files", hint="narrow it")
        found.append(canonical)
    found.sort()
    _note(project, pattern, start, tuple(found))
    return found


def _literal(folders: tuple[str, ...]) -> tuple[str, ...]:
    """Return the folders with which a pattern begins, before the first that is one itself."""
    return tuple(itertools.takewhile(lambda part: not is_pattern(part), folders))


def _as_on_disk(project: Project, folders: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of folders as on disk, if they differ in Unicode form."""
    if "".join(folders).isascii():
        return folders
    found = project.root
    for name in folders:
        found /= name
        if not found.exists():
            twin = twin_of(found)
            found = found if twin is None else found.with_name(twin)
    return found.relative_to(project.root).parts


def _note(project: Project, pattern: str, start: str, found: tuple[str, ...] | None) -> None:
    if project.log is not None:
        project.log.folders.add(project.path_of(start))
        project.log.patterns[pattern] = found


def _check_not_hidden(project: Project, pattern: str, folders: tuple[str, ...]) -> None:
    for count, folder in enumerate(folders, 1):
        message = f"{pattern}: patterns match nothing in {folder}"
        if _HIDDEN.fullmatch(folder):
            raise FileProblem(message, hint="name the files one by one")
        if _is_private_folder(project, folders[:count]):
            hint = f"name the folder on the command line: --allow-file {folder}"
            raise FileProblem(message, hint=hint)


def _is_private_folder(project: Project, folders: tuple[str, ...]) -> bool:
    """Return whether a folder begins with a dot and the user did not allow it."""
    is_dotted = folders[-1].startswith(".")
    return is_dotted and bool(project.access.why_private(project.root, folders))


class _Shape:
    """A pattern as positions of parts to match next; a walk visits only what may match."""

    def __init__(self, pattern: str, parts: tuple[str, ...]) -> None:
        self.text = pattern
        self._parts: list[re.Pattern[str] | None] = []
        for part in (*parts, "*") if parts[-1] == _ANY_FOLDERS else parts:
            if part != _ANY_FOLDERS:
                self._parts.append(re.compile(fnmatch.translate(composed(part))))
            elif not self._parts or self._parts[-1] is not None:
                self._parts.append(None)

    def start(self) -> Positions:
        return self._with_skipped(0)

    def after(self, positions: Positions, name: str) -> Positions:
        """Return the positions after `name` has matched at one of `positions`."""
        found: set[int] = set()
        name = composed(name)
        for position in positions:
            part = self._parts[position] if position < len(self._parts) else _NOTHING
            if part is None:
                found |= self._with_skipped(position)
            elif part.match(name):
                found |= self._with_skipped(position + 1)
        return frozenset(found)

    def is_complete(self, positions: Positions) -> bool:
        return len(self._parts) in positions

    def _with_skipped(self, position: int) -> Positions:
        """Return a position and the one after it if it is `**`, which also matches no folder."""
        is_open = position < len(self._parts) and self._parts[position] is None
        return frozenset({position, position + 1} if is_open else {position})


_NOTHING: Final = lazy_pattern(r"(?!)")


def _files(
    project: Project, start: str, shape: _Shape, visit: Callable[[int], None] | None
) -> Iterator[str]:
    stack = [(start, shape.start())]
    visited = 0
    while stack:
        folder, positions = stack.pop()
        entries, above = _entries(project, folder), PurePosixPath(folder[2:]).parts
        project.searches.visit(1 + len(entries), shape.text)
        if visit is not None:
            visit(1 + len(entries))
        for entry in entries:
            visited += 1
            if visited > MAX_VISITED:
                message = f"{shape.text}: over {MAX_VISITED:,} files to look at"
                raise FileProblem(message, hint="begin the pattern with a folder")
            following = shape.after(positions, entry.name)
            if not following or _HIDDEN.fullmatch(entry.name):
                continue
            parts = (*above, entry.name)
            canonical = "//" + "/".join(parts)
            if entry.is_dir(follow_symlinks=False):
                if not _is_private_folder(project, parts):
                    stack.append((canonical, following))
            elif shape.is_complete(following) and _may_match(project, entry, parts):
                yield _nameable(canonical)


def _entries(project: Project, folder: str) -> list[os.DirEntry[str]]:
    if project.log is not None:
        project.log.folders.add(project.path_of(folder))
    try:
        with os.scandir(project.path_of(folder)) as entries:
            found = list(itertools.islice(entries, MAX_VISITED + 1))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "change its permissions, or narrow the pattern"
        raise FileProblem(f"{folder} cannot be searched: {reason}", hint=hint) from None
    is_environment = any(entry.name == _ENVIRONMENT_MARK for entry in found)
    return [] if is_environment else [e for e in found if not _LEFTOVER.match(e.name.lower())]


def _may_match(project: Project, entry: os.DirEntry[str], parts: tuple[str, ...]) -> bool:
    """Return whether an entry is a regular file, or a link to one that may match."""
    if project.access.why_private(project.root, parts):
        return False
    if not entry.is_symlink():
        return entry.is_file()
    try:
        real = Path(entry.path).resolve()
    except RuntimeError:  # a cycle of links, before Python 3.13
        return False
    if not real.is_file() or not real.is_relative_to(project.root):
        return False
    inside = real.relative_to(project.root).parts
    if project.access.why_private(project.root, inside):
        return False
    return not any(_HIDDEN.fullmatch(part) for part in inside)


def _nameable(canonical: str) -> str:
    try:
        canonical.encode()
    except UnicodeEncodeError:
        shown = canonical.encode(errors="backslashreplace").decode()
        hint = "rename it" if sys.getfilesystemencoding() == "utf-8" else f"{LOCALE}, or rename it"
        raise FileProblem(f"{shown}: the name is not UTF-8", hint=hint) from None
    return canonical
