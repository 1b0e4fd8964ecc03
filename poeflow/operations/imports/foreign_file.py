"""A file of another tool that becomes a flow, and the notes on what does not."""

from collections.abc import Mapping
from typing import Final

from poeflow.digest import Json
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.yaml_tree import Document, KeyPath, parse
from poeflow.problems import Place, Problem
from poeflow.project.globs import is_pattern, matches
from poeflow.project.project import OR_ATTACHED, FileProblem, Project

FENCE: Final = "---"
FILE: Final = "file://"


class Source:
    """A text file of another tool.

    `path` is its canonical path in the project, `shown` is that for messages. `document` is its
    YAML: the whole file, or its front matter; `body` is what follows that.
    """

    def __init__(self, project: Project, path: str, shown: str) -> None:
        """Read the file. Raises `FileProblem`, and `InvalidFlowError` for invalid YAML."""
        self.path = path
        self.shown = shown
        self._project = project
        self._notes: list[Problem] = []
        try:
            text = project.read_text(path)
        except FileProblem as problem:
            message = problem.message.replace(path, shown, 1)
            raise FileProblem(message, hint=_hint(problem)) from None
        head, self.body = _parted(text)
        self.has_front_matter = head is not None
        self.document = Document(path=shown, text="", root=None)
        if head is not None or path.endswith((".yaml", ".yml", ".json")):
            self.document = parse(text if head is None else head, shown)
        if self.document.problems:
            raise InvalidFlowError(self.document.problems)

    @property
    def data(self) -> dict[str, Json]:
        """The mapping in it, empty if there is none."""
        root = self.document.root
        return root.data if root is not None and isinstance(root.data, dict) else {}

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What was noted so far, each once, in the order of the file."""
        return tuple(sorted(set(self._notes)))

    def note(self, at: KeyPath, message: str, hint: str = "") -> None:
        """Note that the value at a path of keys is not taken over."""
        self._note(self.document.place(at), message, hint)

    def note_rest(self, at: KeyPath, given: Mapping[str, Json], known: frozenset[str]) -> None:
        """Note the keys of a mapping that are not `known`."""
        for key in given.keys() - known:
            self._note(self.document.key_place((*at, key)), f"{key} is not taken over", "")

    def _note(self, place: Place, message: str, hint: str) -> None:
        if self.has_front_matter:
            place = Place(place.path, place.line + 1, place.column)
        self._notes.append(Problem(place, message, hint, "warning"))

    def read(self, name: str, at: KeyPath) -> str | None:
        """Return the text of a file that this one names; None, with a note, if there is none."""
        try:
            path = self._project.canonical(name.removeprefix(FILE), relative_to=self.path)
            return self._project.read_text(path)
        except FileProblem as problem:
            self.note(at, problem.message, _hint(problem))
            return None

    def found(self, name: str, at: KeyPath) -> list[str]:
        """Return the files that a name or a pattern means; none, with a note, if there is none."""
        try:
            path = self._project.canonical(name.removeprefix(FILE), relative_to=self.path)
            paths = matches(self._project, path) if is_pattern(path) else [path]
        except FileProblem as problem:
            self.note(at, problem.message, problem.hint)
            return []
        if not paths:
            self.note(at, f"no file matches {name}", "correct the path")
        return paths

    def read_if_there(self, path: str) -> str | None:
        """Return the text of a file by its canonical path; None if it cannot be read."""
        try:
            return self._project.read_text(path)
        except FileProblem:
            return None

    def value(self, name: str, at: KeyPath) -> Json:
        """Return the YAML or JSON in a file that this one names; None if there is none."""
        text = self.read(name, at)
        document = parse(text, name) if text is not None else None
        if document is not None and document.problems:
            self.note(at, str(document.problems[0]))
        return document.root.data if document is not None and document.root is not None else None


def _hint(problem: FileProblem) -> str:
    """Return what to do about a file that is imported: nothing can be attached yet."""
    return problem.hint.removesuffix(OR_ATTACHED)


def texts_of(value: Json) -> list[str]:
    """Return a text, or the texts of a list, as a list."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str)]


def dict_in(value: Json) -> dict[str, Json]:
    return value if isinstance(value, dict) else {}


def list_in(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def _parted(text: str) -> tuple[str | None, str]:
    """Return the front matter of a text, None without one, and the rest."""
    lines = text.split("\n")
    if lines[0].rstrip() != FENCE:
        return None, text
    ends = (at for at, line in enumerate(lines[1:], 1) if line.rstrip() == FENCE)
    end = next(ends, None)
    if end is None:
        return None, text
    return "\n".join(lines[1:end]) + "\n", "\n".join(lines[end + 1 :])
