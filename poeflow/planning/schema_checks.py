"""Whether the schemas of a flow are valid: of its answers, and of the parameters of its tools."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from poeflow.answers.display import quoted
from poeflow.answers.expect import expectation_faults
from poeflow.answers.schemas import Fault, Inspection, schema_faults
from poeflow.digest import Json
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.model import Tool
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.problems import Place, Problem
from poeflow.project.project import FileProblem, Project
from poeflow.templates.reader import named_file, schema_in

MAX_NAME: Final = 64
"""How long a function's name may be: https://platform.openai.com/docs/api-reference/chat."""
_PARTS: Final = {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "dependentSchemas"}
_OPEN: Final = {"additionalProperties", "unevaluatedProperties", "patternProperties"}
_KEYWORDS: Final = _PARTS | _OPEN | {"type", "properties", "required", "$defs", "description"}


def tool_faults(tool: Tool, inspection: Inspection) -> tuple[Fault, ...]:
    """Return what is wrong with a tool: (path of keys inside it, sentence) pairs.

    A name that the API refuses, and parameters that are no JSON Schema of an object.
    """
    return tuple(_faults(tool, inspection))


def _faults(tool: Tool, inspection: Inspection) -> Iterator[Fault]:
    if len(tool.name) > MAX_NAME:
        yield ("name",), f"the name has {len(tool.name)} characters; at most {MAX_NAME} are taken"
    if tool.parameters and not tool.parameters.keys() & _KEYWORDS:
        yield ("parameters",), "it says nothing of arguments; put their names under properties:"
        return
    faults = schema_faults(tool.parameters, inspection)
    for path, sentence in faults or _of_object(tool.parameters):
        yield ("parameters", *path), sentence


def _of_object(parameters: dict[str, Json]) -> Iterator[Fault]:
    """Yield why a valid schema is none of the arguments of a function."""
    kind = parameters.get("type", "object")
    if kind != "object":
        yield ("type",), "arguments are an object; write type: object"
        return
    properties, required = parameters.get("properties"), parameters.get("required")
    declared = properties if isinstance(properties, dict) else {}
    if parameters.keys() & (_PARTS | _OPEN) or not isinstance(required, list):
        return
    for index, name in enumerate(required):
        if name not in declared:
            sentence = f"{quoted(str(name))} is required and not offered; add it to properties:"
            yield ("required", index), sentence


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
                continue  # no file is read there, which `key_conflicts` tells
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
