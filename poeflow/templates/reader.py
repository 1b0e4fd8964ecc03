"""How templates reach files: through the project's rules, and only those files."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
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
    """Gives templates their files. Both raise `FileProblem`."""

    def source(self, path: str, *, relative_to: str) -> tuple[str, str]:
        """Return the canonical path and the text of `path`, written in the file `relative_to`."""

    def glob(
        self, pattern: str, *, relative_to: str, visit: Callable[[int], None] = _uncounted
    ) -> list[str]:
        """Return the canonical paths that match, sorted; `visit` counts what was looked at."""

    def unsettle(self) -> None:
        """Expect files to be written from now on, by a run that may take its time."""

    def shown(self, path: str) -> str:
        """Return what the user calls the canonical path `path`."""

    def recording(self, reads: "Reads") -> AbstractContextManager[None]:
        """Note what is read while the block lasts."""


class Reads:
    """What was read while it was recorded, in hashes: texts by canonical path, lists by pattern."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.globs: dict[str, str] = {}


MAX_TEXT: Final = 64 * 1024 * 1024
"""How many characters of text are kept; what was read before that is read again."""
MAX_PATHS: Final = 100_000
"""How many paths of known patterns are kept."""


class ProjectReader:
    """Reads each text of a project once: what was checked is what is rendered.

    `folder` is the working folder, which shown paths are relative to. As long as nothing is
    written, what a pattern matches is looked for once, too.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self._project = project
        self._folder = folder
        self._texts: dict[str, str] = {}
        self._characters = 0
        self._digests: dict[str, str] = {}
        self._globs: dict[str, tuple[list[str], str]] = {}
        self._paths = 0
        self._is_settled = True
        self._reads = Reads()

    @contextlib.contextmanager
    def recording(self, reads: Reads) -> Iterator[None]:
        """Note what is read while the block lasts. Blocks do not overlap: rendering never waits."""
        outer, self._reads = self._reads, reads
        try:
            yield
        finally:
            self._reads = outer

    def source(self, path: str, *, relative_to: str) -> tuple[str, str]:
        canonical = self._project.canonical(path, relative_to=relative_to)
        text = self._texts.get(canonical)
        if text is None:
            text = self._read(canonical)
        self._reads.texts[canonical] = self._digests[canonical]
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
            if self._is_settled and self._paths + len(found) < MAX_PATHS:
                self._paths += len(found) + 1
                self._globs[canonical] = known
        self._reads.globs[canonical] = known[1]
        return known[0]

    def unsettle(self) -> None:
        self._is_settled = False
        self._globs.clear()
        self._project.searches.release()

    def shown(self, path: str) -> str:
        return self._project.shown(path, self._folder)


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """The file a text stands in, and the way from an offset in it to a place.

    `path` is canonical; offsets count from 0.
    """

    path: str
    locate: Callable[[int], Place]

    @classmethod
    def for_file(cls, path: str, text: str, *, shown: str) -> Self:
        """Return the origin of a text that is the whole file `path`, called `shown`."""

        def locate(offset: int) -> Place:
            before = text[:offset]
            return Place(shown, before.count("\n") + 1, len(before) - before.rfind("\n"))

        return cls(path=path, locate=locate)

    def moved(self, distance: int, last: int) -> Self:
        """Return the origin of a part of the text: its offset 0 is at `distance`.

        No place lies before the text or behind its offset `last`.
        """

        def locate(offset: int) -> Place:
            return self.locate(min(max(offset + distance, 0), last))

        return type(self)(path=self.path, locate=locate)


def named_file(written: Mapping[str, Json]) -> str | None:
    """Return the path a mapping is instead of data, None where it is data."""
    path = written.get("file")
    return path if isinstance(path, str) and len(written) == 1 else None


def schema_in(project: Project, written: Mapping[str, Json], relative_to: str) -> dict[str, Json]:
    """Return the mapping itself, or that in the JSON or YAML file it names.

    Raises `FileProblem` where the file cannot be read or holds no mapping.
    """
    path = named_file(written)
    if path is None:
        return dict(written)
    canonical = project.canonical(path, relative_to=relative_to)
    text = decode(project.read_bytes(canonical, limit=MAX_BYTES), canonical)
    if isinstance(text, Problem):
        raise FileProblem(text.message, hint=text.hint)
    try:
        found = parse_value(text)
    except InvalidFlowError as error:
        raise FileProblem(f"{path} is not JSON or YAML: {error}") from None
    if not isinstance(found, dict):
        raise FileProblem(f"{path} holds no schema", hint="a schema is a mapping")
    return found
