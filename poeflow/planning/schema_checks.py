"""The schemas and patterns a flow holds, inline or in files: whether they are any."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from poeflow.answers.expect import expectation_faults
from poeflow.answers.schema_faults import Inspection
from poeflow.answers.schemas import schema_faults
from poeflow.digest import Json
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.tree import KeyPath
from poeflow.planning.tools import tool_faults
from poeflow.problems import Place, Problem
from poeflow.project.project import FileProblem, Project
from poeflow.templates.data_files import named_file, schema_in

_HINT: Final = "mend the schema"


def schemas(project: Project, file: FlowFile) -> Iterator[Problem]:
    """Yield what is wrong with every schema and pattern of a flow."""
    inspection = Inspection()
    for name, step in file.flow.steps.items():
        path: KeyPath = ("steps", name)
        if step.output.schema is not None:
            place = (*path, "output", "schema")
            yield from _output(project, file, place, step.output.schema, inspection)
        for index, expectation in enumerate(step.expect):
            if named_file(expectation.json_schema or {}) is not None:
                continue  # no file is read there, which `agreement` tells
            own = (*path, "expect", index)
            yield from _told(file, own, expectation_faults(expectation, inspection))
        for index, tool in enumerate(step.tools or ()):
            yield from _told(file, (*path, "tools", index), tool_faults(tool, inspection))


def _output(
    project: Project,
    file: FlowFile,
    path: KeyPath,
    written: Mapping[str, Json],
    inspection: Inspection,
) -> Iterator[Problem]:
    named = named_file(written)
    if named is None:
        yield from _told(file, path, schema_faults(written, inspection))
        return
    place = file.document.place((*path, "file"))
    try:
        found = schema_in(project, written, file.path)
    except FileProblem as error:
        yield Problem(place, error.message, error.hint)
        return
    for inner, message in schema_faults(found, inspection):
        where = ".".join(map(str, inner))
        text, _, hint = message.partition("; ")
        told = f"{named}: {where}: {text}" if where else f"{named}: {text}"
        yield Problem(Place(place.path, place.line, place.column), told, hint or _HINT)


def _told(
    file: FlowFile, path: KeyPath, faults: Iterable[tuple[KeyPath, str]]
) -> Iterator[Problem]:
    for inner, message in faults:
        text, _, hint = message.partition("; ")
        yield Problem(file.document.place((*path, *inner)), text, hint or _HINT)
