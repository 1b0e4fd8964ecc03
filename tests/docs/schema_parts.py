"""The schema of flow files as it should be, with what the registries of the package have."""

import json
from typing import Any

import msgspec

from poeflow.answers.expect import EXPECTATIONS
from poeflow.answers.formats import FORMATS
from poeflow.flowfile.model import Expectation
from poeflow.flowfile.schema import FLOW_SCHEMA, bundled_schema


def written() -> dict[str, Any]:
    """Return the schema with the formats and the kinds of expectations that the package has."""
    contract = bundled_schema(FLOW_SCHEMA)
    defined = contract["$defs"]
    defined["output"]["properties"]["format"]["enum"] = list(FORMATS)
    own = defined["expectation"]["properties"]
    others = {key: own[key] for key in own if key not in EXPECTATIONS}
    fields = {field.encode_name: field for field in msgspec.structs.fields(Expectation)}
    kinds = {
        kind: {
            "description": check.about,
            **_shape(fields[kind].type, own.get(kind, {})),
            "examples": [check.example],
        }
        for kind, check in EXPECTATIONS.items()
    }
    defined["expectation"]["properties"] = {**kinds, **others}
    return contract


def _shape(annotated: Any, before: dict[str, Any]) -> dict[str, Any]:
    """Return what a value must be: as its type says, or as is written for one with keys."""
    (shape,), _ = msgspec.json.schema_components([annotated])
    options = [one for one in shape.get("anyOf", [shape]) if one != {"type": "null"}]
    if any("$ref" in one for one in options):
        return {key: before[key] for key in before if key not in ("description", "examples")}
    return options[0] if len(options) == 1 else {"anyOf": options}


def as_text(contract: dict[str, Any]) -> str:
    return json.dumps(contract, indent=2, ensure_ascii=False) + "\n"
