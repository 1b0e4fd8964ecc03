"""The schemas of a flow's answers: read, compiled, and added to requests."""

from poeflow.answers.schemas import Schema, compile_schema
from poeflow.digest import Json
from poeflow.flowfile.flow_file import FlowFile
from poeflow.templates.reader import Reader, named_file, schema_of


class AnswerSchemas:
    """Reads and compiles the schemas of one flow, each once; each use of a file counts as read."""

    def __init__(self, reader: Reader, file: FlowFile) -> None:
        self._reader = reader
        self._file = file
        self._of_files: dict[str, dict[str, Json]] = {}
        self._compiled: dict[str, Schema | None] = {}

    def written(self, step: str) -> dict[str, Json] | None:
        """Return the schema of a step's answer, inline or from its file, which counts as read."""
        schema = self._file.flow.steps[step].output.schema
        path = None if schema is None else named_file(schema)
        if schema is None or path is None:
            return schema
        text = self._reader.source(path, relative_to=self._file.path)[1]
        if path not in self._of_files:
            self._of_files[path] = schema_of(text, path)
        return self._of_files[path]

    def compiled(self, step: str) -> Schema | None:
        """Return the compiled schema. Raises `StepError` if it is not a valid schema."""
        if self._file.flow.steps[step].output.schema is None:
            return None
        written = self.written(step)
        if step not in self._compiled:
            self._compiled[step] = None if written is None else compile_schema(written)
        return self._compiled[step]

    def response_format(self, step: str) -> dict[str, Json]:
        """Return the key of a request that asks a provider for what is wanted, if anything is."""
        written, choices = self.written(step), self._file.flow.steps[step].output.choices
        if written is None and choices is not None:
            written = {"type": "string", "enum": [*choices]}
        if written is None:
            return {}
        named: dict[str, Json] = {"name": step, "schema": written}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
