"""What can be said of a tool without importing what it runs."""

from collections.abc import Iterator
from typing import Final

from poeflow.answers.display import quoted
from poeflow.answers.schema_faults import Fault, Inspection
from poeflow.answers.schemas import schema_faults
from poeflow.digest import Json
from poeflow.flowfile.model import Tool

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
