"""Examples of turns that a conversation begins with: a list, an expression, or a file of rows."""

from collections.abc import Iterator

import msgspec

from poeflow.digest import Json
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.model import Example, MessageSpec, TextFile
from poeflow.flowfile.tables import MAX_BYTES, rows
from poeflow.flowfile.tree import KeyPath
from poeflow.project.project import Project
from poeflow.templates.render import TemplateError
from poeflow.templates.texts import Texts, Values, as_text


class Examples:
    """Finds the examples of one flow. Their texts are taken as they are, never rendered."""

    def __init__(self, project: Project, file: FlowFile, texts: Texts) -> None:
        self._project = project
        self._file = file
        self._texts = texts

    def pairs(
        self, path: KeyPath, message: MessageSpec, values: Values
    ) -> Iterator[tuple[str, str]]:
        """Yield what a user says and what the answer should be. Raises `TemplateError`."""
        for index, example in enumerate(self._listed(path, message, values)):
            try:
                pair = msgspec.convert(example, Example)
            except msgspec.ValidationError:
                place = self._file.document.place(path)
                wrong = f"example {index + 1} is not a user's and an assistant's text"
                raise TemplateError(
                    place, wrong, hint="write {user: ..., assistant: ...}"
                ) from None
            yield pair.user, pair.assistant

    def _listed(self, path: KeyPath, message: MessageSpec, values: Values) -> list[Json]:
        written = message.few_shot
        if isinstance(written, list):
            return [msgspec.to_builtins(example) for example in written]
        if isinstance(written, TextFile):
            own: KeyPath = (*path, "file")
            named = as_text(self._texts.value(own, written.file, values), "file")
            canonical = self._project.canonical(named, relative_to=self._file.path)
            return rows(self._project.read_bytes(canonical, limit=MAX_BYTES), name=canonical)
        found = self._texts.expression(path, values)
        if isinstance(found, list):
            return found
        place = self._file.document.place(path)
        raise TemplateError(place, "few_shot gives no list", hint="give a list of examples")
