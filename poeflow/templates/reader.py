"""How templates reach files: through the project's rules, and only those files."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from poeflow.files import Project
from poeflow.globs import matches


class Reader(Protocol):
    """Gives templates their files. Both raise `FileProblem`."""

    def source(self, path: str, *, relative_to: str) -> tuple[str, str]:
        """Return the canonical path and the text of `path`, written in the file `relative_to`."""

    def glob(self, pattern: str, *, relative_to: str) -> list[str]:
        """Return the canonical paths that match, sorted."""

    def shown(self, path: str) -> str:
        """Return what the user calls the canonical path `path`."""

    def recording(self, reads: "Reads") -> AbstractContextManager[None]:
        """Note what is read while the block lasts."""


class Reads:
    """What was read while it was recorded: texts by canonical path, lists of paths by pattern."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.globs: dict[str, list[str]] = {}


class ProjectReader:
    """Reads each text of a project once: what was checked is what is rendered.

    `folder` is the working folder, which shown paths are relative to.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self._project = project
        self._folder = folder
        self._texts: dict[str, str] = {}
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
            text = self._texts[canonical] = self._project.read_text(canonical)
        self._reads.texts[canonical] = text
        return canonical, text

    def glob(self, pattern: str, *, relative_to: str) -> list[str]:
        canonical = self._project.canonical(pattern, relative_to=relative_to)
        found = self._reads.globs[canonical] = matches(self._project, canonical)
        return found

    def shown(self, path: str) -> str:
        return self._project.shown(path, self._folder)
