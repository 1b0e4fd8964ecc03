"""The text around a problem, for terminals: of what was read when the flow was checked, or none."""

from collections.abc import Iterable
from pathlib import Path

from poeflow.digest import sha256_of
from poeflow.opener import NotTextError, text_of
from poeflow.operations.check import Checkup
from poeflow.project.project import MAX_TEXT_BYTES, FileProblem, Project


class Excerpts:
    """Texts of the files that problems are in, by their paths as shown.

    A file that was refused, or is another one by now, has none.
    """

    def __init__(self, found: Iterable[Checkup]) -> None:
        those = tuple(found)
        self._projects = [one.project for one in those]
        self._texts = {one.loaded.document.path: one.loaded.document.text for one in those}

    def text(self, shown: str) -> str:
        """Return the text of a file, empty where there is none to show."""
        if shown not in self._texts:
            found = (_as_read(project, shown) for project in self._projects)
            self._texts[shown] = next(filter(None, found), "")
        return self._texts[shown]


def _as_read(project: Project, shown: str) -> str:
    """Return a text that a project's log says was read, where it still is the same."""
    path = Path(shown).parent.resolve() / Path(shown).name
    snapshot = project.log.files.get(path) if project.log is not None else None
    if snapshot is None or not snapshot.digest or not path.is_relative_to(project.root):
        return ""
    canonical = "//" + path.relative_to(project.root).as_posix()
    try:
        data = project.peek(canonical, limit=MAX_TEXT_BYTES)
        return text_of(data) if sha256_of(data) == snapshot.digest else ""
    except (FileProblem, NotTextError):
        return ""
