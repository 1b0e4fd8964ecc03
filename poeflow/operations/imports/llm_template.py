"""Templates of the `llm` command: https://llm.datasette.io/en/stable/templates.html."""

from collections.abc import Mapping
from typing import Final

from poeflow.digest import Json
from poeflow.operations.imports.bot_names import BotNames
from poeflow.operations.imports.foreign_file import Source, dict_in
from poeflow.operations.imports.imported_flow import ImportedFlow
from poeflow.operations.imports.new_names import input_name
from poeflow.operations.imports.one_step import model_keys, one_step_flow
from poeflow.operations.imports.template_names import dollars_as_braces, renamed, variables_of

_KNOWN: Final = frozenset(
    {"name", "prompt", "system", "model", "options", "defaults", "schema_object", "extract"}
)


def from_llm_template(source: Source, bots: BotNames) -> ImportedFlow:
    """Return a flow of one step, whose input `input` is what the command was given."""
    data = source.data
    source.note_rest((), data, _KNOWN)
    defaults = dict_in(data.get("defaults"))
    prompt = _text(data.get("prompt"))
    system = _text(data.get("system"))
    if not prompt:
        prompt = "{{ input }}"
    elif "{{ input }}" not in prompt + system:
        prompt = f"{prompt.rstrip()}\n\n{{{{ input }}}}"
    names = sorted(variables_of(prompt) | variables_of(system))
    new = {name: f"inputs.{input_name(name)}" for name in names}
    at = (("model",), ("options",))
    step = model_keys(source, bots, data.get("model"), data.get("options"), at=at)
    if system:
        step["system"] = renamed(system, new)
    step["prompt"] = renamed(prompt, new)
    output: dict[str, Json] = {}
    if data.get("schema_object") is not None:
        output["schema"] = data["schema_object"]
    if data.get("extract") is True:
        output["extract"] = "fenced"
    if output:
        step["output"] = output
    return one_step_flow(source, {name: _input(name, defaults) for name in names}, step)


def _input(name: str, defaults: Mapping[str, Json]) -> Json:
    default = {"default": str(defaults[name])} if name in defaults else {}
    return {"type": "string", **default}


def _text(value: Json) -> str:
    """Return a text with Jinja's braces for its dollars."""
    return dollars_as_braces(value) if isinstance(value, str) else ""
