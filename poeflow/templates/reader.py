"""How templates reach files: through the project's rules, and only those files."""

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


class ProjectReader:
    """Reads each text of a project once: what was checked is what is rendered.

    `folder` is the working folder, which shown paths are relative to.
    """

    def __init__(self, project: Project, folder: Path) -> None:
        self._project = project
        self._folder = folder
        self._texts: dict[str, str] = {}

    def source(self, path: str, *, relative_to: str) -> tuple[str, str]:
        canonical = self._project.canonical(path, relative_to=relative_to)
        text = self._texts.get(canonical)
        if text is None:
            text = self._texts[canonical] = self._project.read_text(canonical)
        return canonical, text

    def glob(self, pattern: str, *, relative_to: str) -> list[str]:
        return matches(self._project, self._project.canonical(pattern, relative_to=relative_to))

    def shown(self, path: str) -> str:
        return self._project.shown(path, self._folder)
