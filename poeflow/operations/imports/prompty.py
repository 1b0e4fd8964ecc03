"""Prompty's files: front matter, and a text in which lines such as `system:` begin messages.

https://prompty.ai/docs/prompty-file-format describes them.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from poeflow.digest import Json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.imports.bot_names import BotNames
from poeflow.operations.imports.foreign_file import Source, dict_in, list_in
from poeflow.operations.imports.imported_flow import ImportedFlow
from poeflow.operations.imports.new_names import input_name
from poeflow.operations.imports.one_step import model_keys, one_step_flow
from poeflow.operations.imports.prompt_messages import parted_by_roles, prompt_keys
from poeflow.operations.imports.template_names import (
    is_name,
    is_template,
    renamed,
    variables_of,
    with_lines,
)

_KNOWN: Final = frozenset(
    {"name", "description", "authors", "tags", "version", "model", "inputs", "sample", "template"}
)
_NAMES: Final = ("azure_deployment", "name", "model", "deployment")
"""Keys of a configuration that name a model."""
_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object"})
_OTHER_TYPES: Final = {
    "list": "array",
    "dict": "object",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
}
_VARIABLE: Final = lazy_pattern(r"\$\{(?:env:)?\w+:?([^}]*)\}")
"""A variable of the environment, and the default after it."""
_ROLE_OF_TEMPLATE: Final = lazy_pattern(r"(?m)^[ \t]*#?[ \t]*\{\{[^}]*\brole\b[^}]*\}\}\s*:\s*$")


def from_prompty(source: Source, bots: BotNames) -> ImportedFlow:
    """Return a flow of one step."""
    source.note_rest((), source.data, _KNOWN)
    template = source.data.get("template")
    if "mustache" in str(template):
        source.note(("template",), "a mustache template is read as Jinja", "look at its sections")
    step = _model(source, bots)
    try:
        used = sorted(variables_of(source.body))
    except ValueError as error:
        source.note((), f"the text is no template: {error}", "correct it")
        used = []
    new = {name: f"inputs.{input_name(name)}" for name in used}
    step |= _messages(source, new)
    undeclared: dict[str, Json] = {name: {"type": "string"} for name in used}
    return one_step_flow(source, undeclared | dict(_inputs(source)), step)


def _messages(source: Source, new: Mapping[str, str]) -> dict[str, Json]:
    """Return the keys of a step for its messages, as one text if a template parts them."""
    messages = parted_by_roles(source.body)
    hint = "write `messages:` with an expression, or `history:`"
    try:
        for message in messages:
            variables_of(str(message["content"]))
    except ValueError:
        if is_template(source.body):
            source.note((), "a loop or condition around messages: all are sent as one text", hint)
            messages = [{"role": "user", "content": source.body.strip("\n")}]
        new = new if is_template(source.body) else {}
    if _ROLE_OF_TEMPLATE.search(source.body):
        source.note((), "messages whose role a template gives stay in the text of another", hint)
    return prompt_keys(
        messages,
        lambda text: with_lines(renamed(text, new) if new else text),
        lambda message: source.note((), message),
    )


def _model(source: Source, bots: BotNames) -> dict[str, Json]:
    """Return the keys for the model; the front matter has two forms."""
    given = source.data.get("model")
    model = {"id": given} if isinstance(given, str) else dict_in(given)
    configuration = dict_in(model.get("configuration"))
    names = [model.get("id"), *(configuration.get(key) for key in _NAMES)]
    written = [_VARIABLE.sub(r"\1", one) for one in names if isinstance(one, str)]
    name = next((one for one in written if one), None)
    options = "parameters" if "parameters" in model else "options"
    at = (("model",), ("model", options))
    return model_keys(source, bots, name, model.get(options), at=at)


def _inputs(source: Source) -> Iterator[tuple[str, Json]]:
    """Yield the inputs, with what the front matter has as a default or a sample of each."""
    sample = _sample(source)
    given = source.data.get("inputs")
    listed = {str(one.get("name")): one for one in map(dict_in, list_in(given))}
    declared = dict_in(dict_in(given).get("properties")) or dict_in(given) or listed
    for name in dict.fromkeys([*declared, *sample]):
        if not is_name(name):
            source.note(("inputs",), f'the input "{name}" is not taken over', "rename it")
            continue
        entry = dict_in(declared.get(name))
        values = [entry.get("default"), entry.get("sample"), entry.get("example"), sample.get(name)]
        default = next((value for value in values if value is not None), None)
        if not isinstance(declared.get(name), dict) and declared.get(name) is not None:
            default = declared[name]
        kind = entry.get("type") or entry.get("kind")
        kind = _OTHER_TYPES.get(str(kind), kind)
        found: dict[str, Json] = {"type": kind if kind in _TYPES else type_of(default)}
        if isinstance(entry.get("description"), str):
            found["description"] = entry["description"]
        if default is not None:
            found["default"] = default
        yield name, found


def _sample(source: Source) -> dict[str, Json]:
    """Return the values of a sample, which may be in a file of its own."""
    given = source.data.get("sample")
    if not isinstance(given, str):
        return dict_in(given)
    name = given.removeprefix("${file:").removesuffix("}")
    return dict_in(source.value(name, ("sample",)))


def type_of(value: Json) -> str:
    """Return the type of an input with this default."""
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, list):
        return "array"
    return "object" if isinstance(value, dict) else "string"
