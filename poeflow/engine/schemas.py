"""The schemas that answers must fit: inline or in files, each read and compiled once."""

from poeflow.answers.schemas import Schema, compile_schema
from poeflow.digest import Json
from poeflow.flowfile.load import FlowFile
from poeflow.project.project import Project
from poeflow.templates.data_files import schema_in


class Schemas:
    """Reads and compiles the schemas of one flow, each once."""

    def __init__(self, project: Project, file: FlowFile) -> None:
        self._project = project
        self._file = file
        self._compiled: dict[str, Schema | None] = {}

    def written(self, step: str) -> dict[str, Json] | None:
        """Return the schema of a step's answer, inline or out of its file."""
        schema = self._file.flow.steps[step].output.schema
        return None if schema is None else schema_in(self._project, schema, self._file.path)

    def compiled(self, step: str) -> Schema | None:
        """Return the same, ready to check answers. Raises `StepError` where it is no schema."""
        if step not in self._compiled:
            written = self.written(step)
            self._compiled[step] = None if written is None else compile_schema(written)
        return self._compiled[step]

    def response_format(self, step: str) -> dict[str, Json]:
        """Return the key of a request that asks a provider for what is wanted, if anything is."""
        written, choices = self.written(step), self._file.flow.steps[step].output.one_of
        if written is None and choices is not None:
            written = {"type": "string", "enum": [*choices]}
        if written is None:
            return {}
        named: dict[str, Json] = {"name": step, "schema": written}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
