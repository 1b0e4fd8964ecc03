"""What a prompt is given to end with, so that the model knows the form of its answer."""

import json
from collections.abc import Mapping

from poeflow.digest import Json
from poeflow.flowfile.model import Output

_MARKED = "```json\n{}\n```"


def instruction(output: Output, schema: Mapping[str, Json] | None) -> str:
    """Return the paragraph that asks for the form of an answer, empty where none is needed.

    Only a schema and `one_of` are asked for: what plain JSON, YAML or CSV should hold, the prompt
    says itself. `schema` is the step's schema as written, read from its file where it names one.
    """
    if output.one_of is not None:
        return f"Answer with one of these and nothing else:\n{_marked({'enum': [*output.one_of]})}"
    if schema is None:
        return ""
    form = {"yaml": "YAML document", "csv": "CSV table with a header row"}
    document = form.get(output.format or "", "JSON document")
    what = "Its rows, as objects," if output.format == "csv" else "It"
    where = "in a fenced code block" if output.extract == "fenced" else "without a code fence"
    return (
        f"Answer with one {document} only, {where} and with no words around it."
        f" {what} must be valid by this JSON Schema:\n{_marked(schema)}"
    )


def _marked(schema: Mapping[str, Json]) -> str:
    """Return a schema between fences, which its own text cannot end: JSON is one line."""
    return _MARKED.format(json.dumps(schema, ensure_ascii=False))
