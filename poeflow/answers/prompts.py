"""The text that asks a model for an answer of some form, or for a correction."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from poeflow.answers.display import one_line, shown
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


_MAX_FAULTS: Final = 10
_MAX_FAULT: Final = 500
_FORMS: Final = {
    "json": "one JSON document only",
    "yaml": "one YAML document only",
    "csv": "CSV only, with a header row and as many values in each row",
}


def correction(output: Output, faults: Sequence[str]) -> str:
    """Return the user message that hands back what is wrong and asks for the whole answer again.

    `faults` may quote the answer: each is kept to one line and cut.
    """
    told = [f"- {one_line(fault, _MAX_FAULT)}" for fault in faults[:_MAX_FAULTS]]
    if len(faults) > _MAX_FAULTS:
        told.append(f"- and {len(faults) - _MAX_FAULTS} more")
    listed = "\n".join(told)
    return f"Your answer cannot be used:\n\n{listed}\n\n{_request(output)}"


def _request(output: Output) -> str:
    again = "Give the whole answer again, corrected"
    if output.one_of is not None:
        return f"{again}: one of {', '.join(map(shown, output.one_of))}, and nothing else."
    form = output.format or ("text" if output.schema is None else "json")
    asked = f": {_FORMS[form]}" if form in _FORMS else ""
    if output.extract == "fenced":
        return f"{again}{asked}{',' if asked else ':'} in one fenced code block."
    return f"{again}{asked}{', with no words around it' if asked else ''}."
