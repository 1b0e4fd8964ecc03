"""The parameters of a request: checked once they are rendered, and those that tell of tools."""

import msgspec

from poeflow.digest import Json
from poeflow.engine.tools import definitions
from poeflow.errors import StepError
from poeflow.flowfile.model import Params, Step


def tool_params(step: Step) -> dict[str, Json]:
    """Return the keys of the request that tell of tools."""
    if not step.tools:
        return {}
    params: dict[str, Json] = {"tools": definitions(step.tools)}
    if step.tool_choice is not None:
        params["tool_choice"] = _choice(step.tool_choice)
    if step.parallel_tool_calls is not None:
        params["parallel_tool_calls"] = step.parallel_tool_calls
    return params


def _choice(written: str | dict[str, Json]) -> Json:
    """Return the choice as the API takes it: a word, or a function that is named by itself."""
    if isinstance(written, dict) or written in ("auto", "none", "required"):
        return written
    return {"type": "function", "function": {"name": written}}


def check_params(step: str, params: dict[str, Json]) -> None:
    """Check rendered parameters again: the schema saw only that they were templates."""
    try:
        msgspec.convert(params, Params)
    except msgspec.ValidationError as error:
        reason = str(error).replace("`", "").replace("$.", "params.")
        raise StepError(f"step {step}: {reason[:1].lower()}{reason[1:]}") from None
    for name, value in params.items():
        if isinstance(value, str) and "{{" in value:
            raise StepError(f"step {step}: params.{name} rendered to a template", hint="check it")
