"""The text that asks a model for an answer of some form, or for a correction."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from poeflow.answers.display import one_line, shown
from poeflow.answers.formats import FORMATS
from poeflow.digest import Json
from poeflow.flowfile.model import Output

_MARKED = "```json\n{}\n```"


def instruction(output: Output, schema: Mapping[str, Json] | None) -> str:
    """Return the paragraph that asks for the form of an answer, empty if none is needed.

    It is needed only for a schema and `one_of`: otherwise the prompt itself describes the answer.
    `schema` is the step's schema as written, read from its file if it names one.
    """
    if output.choices is not None:
        return f"Answer with one of these and nothing else:\n{_marked({'enum': [*output.choices]})}"
    form = FORMATS[output.format or "json"]
    if schema is None or not form.is_data:
        return ""
    where = "in a fenced code block" if output.extract == "fenced" else "without a code fence"
    return (
        f"Answer with one {form.document} only, {where} and with no words around it."
        f" {form.content} must be valid by this JSON Schema:\n{_marked(schema)}"
    )


def _marked(schema: Mapping[str, Json]) -> str:
    """Return a schema between fences, which its own text cannot end: JSON is one line."""
    return _MARKED.format(json.dumps(schema, ensure_ascii=False))


_MAX_FAULTS: Final = 10
_MAX_FAULT: Final = 500


def correction(output: Output, faults: Sequence[str]) -> str:
    """Return the user message that lists what is wrong and asks for the whole answer again.

    `faults` may quote the answer: each becomes one line and is cut.
    """
    lines = [f"- {one_line(fault, _MAX_FAULT)}" for fault in faults[:_MAX_FAULTS]]
    if len(faults) > _MAX_FAULTS:
        lines.append(f"- and {len(faults) - _MAX_FAULTS} more")
    listed = "\n".join(lines)
    return f"Your answer cannot be used:\n\n{listed}\n\n{_request(output)}"


def _request(output: Output) -> str:
    again = "Give the whole answer again, corrected"
    if output.choices is not None:
        return f"{again}: one of {', '.join(map(shown, output.choices))}, and nothing else."
    form = FORMATS[output.form]
    asked = f": {form.again}" if form.again else ""
    if output.extract == "fenced":
        return f"{again}{asked}{',' if asked else ':'} in one fenced code block."
    return f"{again}{asked}{', with no words around it' if asked else ''}."
