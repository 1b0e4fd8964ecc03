"""Reads the files that templates use, only as far as the project's rules allow."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol, Self

import msgspec

from poeflow.digest import Json, sha256_of, sha256_of_json
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.yaml_tree import MAX_BYTES, decode, parse_value
from poeflow.problems import Place, Problem
from poeflow.project.globs import matches
from poeflow.project.project import FileProblem, Project


def _uncounted(_count: int) -> None:
    pass


class Reader(Protocol):
    """Reads files for templates. `source` and `glob` raise `FileProblem`."""

    def source(self, path: str, *, relative_to: str) -> tuple[str, str]:
        """Return the canonical path and the text of `path`, written in the file `relative_to`."""

    def glob(
        self, pattern: str, *, relative_to: str, visit: Callable[[int], None] = _uncounted
    ) -> list[str]:
        """Return the matching canonical paths, sorted; `visit` counts the visited entries."""

    def stop_caching_patterns(self) -> None:
        """Search for each pattern anew from now on, as a run may write files."""

    def shown(self, path: str) -> str:
        """Return the canonical path `path` as shown to the user."""

    def recording(self, reads: "Reads") -> AbstractContextManager[None]:
        """Record in `reads` what is read inside the block."""

    def note(self, canonical: str, data: bytes) -> None:
        """Record that a file was read by its bytes, which are `data`."""


class Reads:
    """Hashes of what was read while recording: texts by canonical path, lists by pattern.

    `contents` are the hashes of the files that a command says it reads, and of tables that are no
    text, `code` of the modules with functions that judge or are tools.
    """

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.contents: dict[str, str] = {}
        self.code: dict[str, str] = {}
        self.globs: dict[str, str] = {}

    @property
    def is_empty(self) -> bool:
        return not (self.texts or self.contents or self.code or self.globs)

    def add(self, other: "Reads") -> None:
        """Add all that `other` has."""
        self.texts |= other.texts
        self.contents |= other.contents
        self.code |= other.code
        self.globs |= other.globs


MAX_TEXT: Final = 64 * 1024 * 1024
"""How many characters of text are cached; the oldest texts are read again."""
MAX_PATHS: Final = 100_000
"""How many paths found by patterns are cached."""


class ProjectReader:
    """Reads each text of a project once, so that the checked text is the rendered one.

    `folder` is the working folder, which shown paths are relative to. Matches of patterns are
    cached, too, until files may be written.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self._project = project
        self._folder = folder
        self._texts: dict[str, str] = {}
        self._characters = 0
        self._digests: dict[str, str] = {}
        self._globs: dict[str, tuple[list[str], str]] = {}
        self._paths = 0
        self._caches_patterns = True
        self.reads = Reads()
        """Where what is read is recorded."""

    def recording(self, reads: Reads) -> AbstractContextManager[None]:
        """Record in `reads` what is read inside the block. Blocks do not run concurrently."""
        return _Recording(self, reads)

    def source(self, path: str, *, relative_to: str) -> tuple[str, str]:
        canonical = self._project.canonical(path, relative_to=relative_to)
        text = self._texts.get(canonical)
        if text is None:
            text = self._read(canonical)
        self.reads.texts[canonical] = self._digests[canonical]
        return canonical, text

    def _read(self, canonical: str) -> str:
        text = self._project.read_text(canonical)
        digest = sha256_of(text.encode())
        if self._digests.setdefault(canonical, digest) != digest:
            raise FileProblem(f"{canonical} changed while it was used", hint="run again")
        self._characters += len(text)
        self._texts[canonical] = text
        while self._characters > MAX_TEXT and len(self._texts) > 1:
            self._characters -= len(self._texts.pop(next(iter(self._texts))))
        return text

    def glob(
        self, pattern: str, *, relative_to: str, visit: Callable[[int], None] = _uncounted
    ) -> list[str]:
        canonical = self._project.canonical(pattern, relative_to=relative_to)
        known = self._globs.get(canonical)
        if known is None:
            found = matches(self._project, canonical, visit=visit)
            known = found, sha256_of_json(found)
            if self._caches_patterns and self._paths + len(found) < MAX_PATHS:
                self._paths += len(found) + 1
                self._globs[canonical] = known
        self.reads.globs[canonical] = known[1]
        return known[0]

    def note(self, canonical: str, data: bytes) -> None:
        self.reads.contents[canonical] = sha256_of(data)

    def stop_caching_patterns(self) -> None:
        self._caches_patterns = False
        self._globs.clear()
        self._project.searches.lift_limit()

    def shown(self, path: str) -> str:
        return self._project.shown(path, self._folder)


class _Recording(AbstractContextManager[None]):
    """A block whose reads are recorded: a class, as every instance of a loop has several."""

    def __init__(self, reader: ProjectReader, reads: Reads) -> None:
        self._reader = reader
        self._reads = reads
        self._outer = reads

    def __enter__(self) -> None:
        self._outer, self._reader.reads = self._reader.reads, self._reads

    def __exit__(self, *_error: object) -> None:
        self._reader.reads = self._outer


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The file of a text, and the function from an offset in it to a place.

    `path` is canonical; offsets count from 0.
    """

    path: str
    locate: Callable[[int], Place]

    @classmethod
    def for_file(cls, path: str, text: str, *, shown: str) -> Self:
        """Return the origin of the whole file `path`, called `shown` in messages."""

        def locate(offset: int) -> Place:
            before = text[:offset]
            return Place(shown, before.count("\n") + 1, len(before) - before.rfind("\n"))

        return cls(path=path, locate=locate)

    def moved(self, distance: int, last: int) -> Self:
        """Return the origin of a part of the text that begins at `distance`.

        Places stay between the begin of the text and its offset `last`.
        """

        def locate(offset: int) -> Place:
            return self.locate(min(max(offset + distance, 0), last))

        return type(self)(path=self.path, locate=locate)


def named_file(written: Mapping[str, Json]) -> str | None:
    """Return PATH if a mapping is `{file: PATH}`, None if it is data."""
    path = written.get("file")
    return path if isinstance(path, str) and len(written) == 1 else None


def schema_in(project: Project, written: Mapping[str, Json], relative_to: str) -> dict[str, Json]:
    """Return the mapping itself, or the one in the JSON or YAML file it names.

    Raises `FileProblem` if the file cannot be read or is not a mapping.
    """
    path = named_file(written)
    if path is None:
        return dict(written)
    canonical = project.canonical(path, relative_to=relative_to)
    text = decode(project.read_bytes(canonical, limit=MAX_BYTES), canonical)
    if isinstance(text, Problem):
        raise FileProblem(text.message, hint=text.hint)
    return schema_of(text, path)


def schema_of(text: str, path: str) -> dict[str, Json]:
    """Return the schema in the text of the file `path`. Raises `FileProblem`."""
    try:
        found = parse_value(text)
    except InvalidFlowError as error:
        raise FileProblem(f"{path} is not JSON or YAML: {error}") from None
    if not isinstance(found, dict):
        raise FileProblem(f"{path} is not a schema", hint="a schema is a mapping")
    return found
