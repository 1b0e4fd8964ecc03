"""The files of a project: paths inside it, safe reading, and atomic writing."""

import contextlib
import itertools
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Final, Self

import msgspec

from poeflow.digest import sha256_of
from poeflow.errors import DiskError, PoeflowError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import (
    NotTextError,
    UnusableFileError,
    file_content,
    open_regular,
    open_straight,
    read_packaged,
    really,
    text_of,
)
from poeflow.project.atomic_write import draft, holds, sync_folder, write_errors
from poeflow.project.conflicts import has_merge_under_way, refuse_unfinished
from poeflow.project.pinned_file import PinnedFile
from poeflow.project.private_files import Access
from poeflow.project.read_log import ReadLog

MAX_TEXT_BYTES: Final = 4 * 1024 * 1024
MAX_PATH: Final = 4096
_SETTINGS_FILE: Final = "poeflow.toml"
_PYPROJECT: Final = "pyproject.toml"
_PYPROJECT_MARK: Final = lazy_pattern(
    rb"^[ \t]*\[\[?[ \t]*tool[ \t]*\.[ \t]*poeflow\b", re.MULTILINE
)
_NEVER_READ: Final = frozenset({".git", ".poeflow"})
_NOT_PLAIN: Final = _NEVER_READ | {"..", "/", "//"}
"""Parts of a path that may lead out of the project, or to where nothing is read."""
_SIBLINGS: Final = 1000
_LONGEST_NEAR: Final = 100
_COMPARED: Final = 200
"""How many names are compared with a missing one, and how long it may be."""
MAX_NEAR: Final = 20
"""For how many missing files a similar name is searched."""
MAX_ENTRIES: Final = 500_000
"""How many entries of folders all patterns of a command may visit."""
LOCALE: Final = "set PYTHONUTF8=1, or LC_ALL=C.UTF-8"
"""The hint for names of files that are not ASCII in an ASCII locale."""
TWIN: Final = "a file's name differs from it in Unicode form only"
"""The message for a missing name if another one looks the same."""
_DRIVE: Final = lazy_pattern(r"[A-Za-z]:/")
_ADDRESS: Final = lazy_pattern(r"/(https?):/(.+)")

OR_ATTACHED: Final = ", or attach it"
"""Ends the hint for a file that is not text."""


class FileProblem(PoeflowError):  # noqa: N818 - it becomes a Problem at the place that names the file
    """A file cannot be used: missing, a folder, outside the project, too large, not UTF-8."""

    exit_code = 3


class Searches:
    """How many more folder entries a command may visit, for patterns and for similar names.

    All copies of a project share one; it does not affect equality.
    """

    __slots__ = ("_entries", "_is_unlimited", "_names")

    def __init__(self) -> None:
        self._entries = MAX_ENTRIES
        self._names = MAX_NEAR
        self._is_unlimited = False

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Searches)

    def __hash__(self) -> int:
        return hash(Searches)

    def visit(self, count: int, pattern: str) -> None:
        """Count visited entries for `pattern`. Raises `FileProblem`."""
        self._entries -= count
        if self._entries < 0 and not self._is_unlimited:
            message = f"{pattern}: all patterns together look at over {MAX_ENTRIES:,} files"
            raise FileProblem(message, hint="begin patterns with a folder, or use fewer")

    def lift_limit(self) -> None:
        """Lift the limit for patterns, as a run has begun."""
        self._is_unlimited = True

    def may_look_for_names(self) -> bool:
        """Return whether a similar name may be searched again, which is limited."""
        self._names -= 1
        return self._names >= 0


class Project(msgspec.Struct, frozen=True):
    """A folder with everything a flow may read and write. `root` is resolved.

    Paths in it are canonical: `//flows/notes.yaml` is `flows/notes.yaml` below the root. If there
    is a `log`, reads and writes are recorded in it. Private files are read only if `access` allows
    it. `searches` limits the search of folders.
    """

    root: Path
    log: ReadLog | None = None
    access: Access = Access()
    searches: Searches = msgspec.field(default_factory=Searches)

    @classmethod
    def find(cls, start: Path) -> Self:
        """Return the project `start` (a folder) is in.

        The nearest folder upward with `poeflow.toml` or `[tool.poeflow]` in `pyproject.toml`, else
        the git root, else `start` itself.
        """
        folder = start.resolve()
        return cls(marked_root(folder) or folder)

    def canonical(self, path: str, *, relative_to: str) -> str:
        """Return the canonical form of `path` as written in the file `relative_to`.

        `//x` is `x` below the root, anything else is relative to the folder of `relative_to`.
        Nothing is expanded. Raises `FileProblem` for paths that leave the project.
        """
        if "\0" in path or not path.strip() or len(path) > MAX_PATH:
            reason = f"empty, has a NUL byte or is longer than {MAX_PATH} characters"
            raise FileProblem(f"a path is {reason}", hint="name a file of the project")
        check_name(path)
        is_from_root = path.startswith("//")
        is_foreign = path.startswith(("/", "~")) and not is_from_root
        if is_foreign or "\\" in path or _DRIVE.match(path):
            hint = "write it relative to the file that names it, with / between folders"
            raise FileProblem(f"{path}: not a path inside the project", hint=hint)
        parts = [] if is_from_root else relative_to[2:].split("/")[:-1]
        for part in path.split("/"):
            if part == ".." and not parts:
                hint = f"move the file into the project ({self.root})"
                raise FileProblem(f"{path}: the path leaves the project", hint=hint)
            if part == "..":
                parts.pop()
            elif part not in ("", "."):
                parts.append(part)
        return "//" + "/".join(parts)

    def path_of(self, canonical: str) -> Path:
        return self.root / canonical[2:]

    def shown(self, canonical: str, folder: Path) -> str:
        """Return the path relative to `folder`, for messages."""
        return Path(os.path.relpath(self.path_of(canonical), folder)).as_posix()

    def has(self, canonical: str) -> bool:
        """Return whether a file exists that a flow may use, or a broken link."""
        self._look(canonical)
        return os.path.lexists(self.path_of(canonical))

    def size_of(self, canonical: str) -> int:
        """Return the size in bytes of a regular file that may be read. Raises `FileProblem`."""
        self._look(canonical)
        with self._opened(canonical, checks=True) as (_, status):
            return status.st_size

    def read_bytes(self, canonical: str, *, limit: int) -> bytes:
        """Read a regular file once. Raises `FileProblem`, also for more than `limit` bytes."""
        self._look(canonical)
        data, status = self._content(canonical, limit, checks=True)
        with _file_problems(canonical):
            refuse_unfinished(data, self.root)
        if self.log is not None:
            self.log.read(self.path_of(canonical), status, sha256_of(data))
        return data

    @property
    def is_merging(self) -> bool:
        """Whether git has a merge under way, so that files may have conflict marks."""
        return has_merge_under_way(self.root)

    def pinned(self, canonical: str, *, limit: int) -> PinnedFile:
        """Return a file that is read in pieces, with the same bytes each time.

        Raises `FileProblem` when it is read, as `read_bytes` does, and if it has changed.
        """
        self._look(canonical)

        def noted(status: os.stat_result, digest: str) -> None:
            if self.log is not None:
                self.log.read(self.path_of(canonical), status, digest)

        opened = partial(self._opened, canonical, checks=True)
        return PinnedFile(opened, limit=limit, noted=noted)

    def peek(self, canonical: str, *, limit: int) -> bytes:
        """Read a file that poeflow wrote to check its state, without recording the read."""
        return self._content(canonical, limit, checks=False)[0]

    def read_text(self, canonical: str) -> str:
        """Read UTF-8 text without BOM, line ends as LF. Raises `FileProblem`."""
        data = self.read_bytes(canonical, limit=MAX_TEXT_BYTES)
        try:
            return text_of(data)
        except NotTextError as error:
            message = f"{canonical} is not UTF-8 text (line {error.line})"
            raise FileProblem(message, hint=f"save it as UTF-8{OR_ATTACHED}") from None

    def real_path(self, canonical: str) -> Path:
        """Return the real path of a file, links followed.

        Raises `FileProblem` if it is outside, missing, or in the state of git or poeflow.
        """
        path = self.path_of(canonical)
        with _file_problems(canonical):
            real = really(path)
            if not real.is_relative_to(self.root):
                hint = "copy the file into the project"
                raise FileProblem(f"{canonical} is a link that leaves the project", hint=hint)
            for part in real.relative_to(self.root).parts:
                if part.lower() in _NEVER_READ:
                    hint = "copy the file to another folder"
                    raise FileProblem(f"{canonical}: nothing in {part} is ever read", hint=hint)
            try:
                real.stat()
            except FileNotFoundError:
                raise MissingFile(canonical, path, self.searches) from None
        return real

    def write(self, canonical: str, data: bytes) -> None:
        """Write an output atomically, and create its folders. Raises `DiskError`.

        Its folders must not be links: nothing is written through a link.
        """
        target = self.path_of(canonical)
        with write_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        folder = self.root
        for part in target.relative_to(self.root).parts[:-1]:
            folder /= part
            make_folder(folder)
        if self.log is not None:
            self.log.write(target, data)
        atomic_write(target, data)

    def remove(self, canonical: str) -> None:
        """Remove an output and folders that become empty. Raises `DiskError`."""
        target = self.path_of(canonical)
        with write_errors(target):
            target.unlink(missing_ok=True)
        for folder in target.relative_to(self.root).parents:
            if folder.parts and not any((self.root / folder).iterdir()):
                with write_errors(self.root / folder):
                    (self.root / folder).rmdir()

    def _check_private(self, canonical: str, parts: tuple[str, ...]) -> None:
        why = self.access.why_private(self.root, parts)
        if why and _NEVER_READ.isdisjoint(map(str.lower, parts)):  # those `real_path` refuses
            hint = "if a model may see it, name it on the command line: --allow-file PATH"
            raise FileProblem(f"{canonical} is private: {why}", hint=hint)

    def _look(self, canonical: str) -> None:
        if self.log is not None:
            self.log.look(self.path_of(canonical))

    def _content(self, canonical: str, limit: int, *, checks: bool) -> tuple[bytes, os.stat_result]:
        with self._opened(canonical, checks=checks) as (handle, status):
            return file_content(handle, status, limit), status

    @contextlib.contextmanager
    def _opened(self, canonical: str, *, checks: bool) -> Iterator[tuple[int, os.stat_result]]:
        """Yield a descriptor of the regular file and its status.

        With `checks` a private file is refused, by its name or by that of its link's target.
        """
        with _file_problems(canonical):
            handle, status = self._open(canonical, checks=checks)
            try:
                yield handle, status
            finally:
                os.close(handle)

    def _open(self, canonical: str, *, checks: bool) -> tuple[int, os.stat_result]:
        """Open a file as it is named; its real path is needed only if a link is on the way."""
        named = PurePosixPath(canonical[2:]).parts
        if checks:
            self._check_private(canonical, named)
        if _NOT_PLAIN.isdisjoint(map(str.lower, named)) and self.root.is_absolute():
            with contextlib.suppress(OSError):  # from the top, as the root itself may be a link
                return open_straight("/".join((str(self.root), *named)))
        parts = self.real_path(canonical).relative_to(self.root).parts
        if checks and parts != named:
            self._check_private(canonical, parts)
        return open_regular(self.root, parts)


def marked_root(folder: Path) -> Path | None:
    """Return the root of the project of a resolved folder, None if there is no mark of one.

    The nearest settings upward, else the nearest `.git`.
    """
    upward = (folder, *folder.parents)
    for candidate in upward:
        if (candidate / _SETTINGS_FILE).is_file() or _has_settings(candidate):
            return candidate
    return next((one for one in upward if (one / ".git").exists()), None)


def check_name(path: str) -> None:
    """Check that this machine's locale allows a file name. Raises `FileProblem`.

    In an ASCII locale, as in minimal containers, Python cannot use other names.
    """
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        shown = path.encode(errors="replace").decode()
        message = f"{shown}: this locale has no such file names"
        raise FileProblem(message, hint=LOCALE) from None


def atomic_write(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o644) -> None:
    """Replace `path` by `data` atomically, durable on return.

    Data in pieces is iterated once if it is an iterator, else maybe twice. A file with the same
    bytes is not changed, nor is its time; a link is replaced, never written through. After a
    failure nothing remains. Raises `DiskError`.
    """
    with write_errors(path):
        if not isinstance(data, Iterator) and holds(path, data):
            return
        with draft(path, mode=mode) as file:
            file.writelines([data] if isinstance(data, bytes) else data)


def make_folder(folder: Path, *, mode: int = 0o777) -> None:
    """Make one folder, durable on return, if it does not exist.

    Raises `DiskError`, also if there is a link: nothing is written through a link.
    """
    with write_errors(folder):
        if not folder.is_dir():
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=mode)
                sync_folder(folder.parent)
        kind = folder.lstat().st_mode
    if stat.S_ISLNK(kind):
        message = f"{folder} is a link; nothing is written through it"
        raise DiskError(message, hint="replace the link by a folder")
    if not stat.S_ISDIR(kind):
        message = f"{folder} is a file where a folder is needed"
        raise DiskError(message, hint="move the file away")


def composed(name: str) -> str:
    """Return a name with each letter and its accents as one, whichever way it spells them."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def taken_apart(name: str) -> str:
    """Return a name with each letter apart from its accents, as macOS writes it."""
    return unicodedata.normalize("NFD", name)


def twin_of(path: Path) -> str | None:
    """Return the name beside `path` that looks like it and differs in its Unicode form only."""
    name = composed(path.name)
    if name.isascii() or not path.parent.is_dir():
        return None
    others = (other for other in _siblings(path) if other != path.name)
    return next((other for other in others if composed(other) == name), None)


def schemas_folder() -> Path:
    """Return the folder of the bundled schemas: in the package, or in a checkout beside it."""
    return _bundled("schemas", "schemas")


def action_folder() -> Path:
    """Return the folder of the action for GitHub, as `schemas_folder` does."""
    return _bundled("action", ".github/actions/poeflow")


def _bundled(installed: str, in_checkout: str) -> Path:
    package = Path(__file__).parents[1]
    folder = package / installed
    return folder if folder.is_dir() else package.parent / in_checkout


def packaged(path: Path) -> bytes:
    """Return a bundled file, as `schemas_folder() / "flow.schema.json"`. Raises `DiskError`."""
    try:
        return read_packaged(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DiskError(f"{path}: {reason}", hint="reinstall poeflow") from None


def _has_settings(folder: Path) -> bool:
    """Whether the `pyproject.toml` of a folder has settings; what cannot be read has none."""
    if not (folder / _PYPROJECT).is_file():
        return False
    try:
        data = Project(folder).peek(f"//{_PYPROJECT}", limit=MAX_TEXT_BYTES)
    except FileProblem:
        return False
    return _PYPROJECT_MARK.search(data) is not None


@contextlib.contextmanager
def _file_problems(canonical: str) -> Iterator[None]:
    """Turn an error from reading a file into a `FileProblem` that names it."""
    try:
        yield
    except UnusableFileError as error:
        raise FileProblem(f"{canonical} {error.strerror}", hint=error.hint) from None
    except PermissionError:
        hint = "change its permissions"
        raise FileProblem(f"{canonical} cannot be read: permission denied", hint=hint) from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise FileProblem(f"{canonical} cannot be read: {reason}", hint="check the path") from None


class MissingFile(FileProblem):
    """A file is missing. The reason is searched only for messages, as templates may catch it."""

    def __init__(self, canonical: str, path: Path, searches: Searches) -> None:
        Exception.__init__(self, canonical)
        self.path = canonical
        self._about = (canonical, path, searches)

    def __getattr__(self, name: str) -> str:
        if name not in ("message", "hint"):
            raise AttributeError(name)
        self.message, self.hint = _missing(*self._about)
        return self.message if name == "message" else self.hint


def _missing(canonical: str, path: Path, searches: Searches) -> tuple[str, str]:
    """Return what to say of a file that is not there, and what to do."""
    if path.is_symlink():
        return f"{canonical} is a link to nothing", "point it at a file of the project"
    if (found := _ADDRESS.search(canonical)) is not None:
        url = f"{found[1]}://{found[2]}"
        return f"{url} is an address, not a file", f"attach it as {{url: {url}}}, or download it"
    message = f"{canonical} does not exist"
    if not searches.may_look_for_names():
        return message, "check the path"
    if not path.parent.is_dir():
        if _differs_on_the_way(path):
            message = f"{message}; a folder's name differs in Unicode form only"
            return message, "rename that folder, or copy its name into the flow"
        return message, "its folder does not exist either"
    if twin_of(path) is not None:
        return f"{message}; {TWIN}", "rename that file, or copy its name into the flow"
    near = _near(path.name, _siblings(path))
    return message, f'did you mean "{near}"?' if near else "check the path"


def _near(name: str, siblings: Iterable[str]) -> str | None:
    """Return the one of `siblings` most like `name`. Of long names none is looked for."""
    from difflib import get_close_matches

    if len(name) > _LONGEST_NEAR:
        return None
    like = [one for one in siblings if abs(len(one) - len(name)) <= len(name) // 2]
    like.sort(key=lambda one: (one[:1] != name[:1], abs(len(one) - len(name))))
    return next(iter(get_close_matches(name, like[:_COMPARED], n=1)), None)


def _differs_on_the_way(path: Path) -> bool:
    """Tell whether the first folder of a path that is not there has a twin."""
    missing = [folder for folder in path.parents if not folder.exists()]
    return bool(missing) and twin_of(missing[-1]) is not None


def _siblings(path: Path) -> list[str]:
    try:
        return [entry.name for entry in itertools.islice(path.parent.iterdir(), _SIBLINGS)]
    except OSError:
        return []
