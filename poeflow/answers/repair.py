"""The message that asks a model again, with what was wrong with its answer."""

from collections.abc import Sequence
from typing import Final

from poeflow.answers.display import one_line, shown
from poeflow.flowfile.model import Output

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
