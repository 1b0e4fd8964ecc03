"""Dotprompt's files: front matter with schemas in Picoschema, and a Handlebars template.

https://google.github.io/dotprompt/reference/ describes them.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Final

from poeflow.digest import Json
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.imports.bot_names import BotNames
from poeflow.operations.imports.foreign_file import Source, dict_in, list_in
from poeflow.operations.imports.handlebars import Converter
from poeflow.operations.imports.imported_flow import ImportedFlow
from poeflow.operations.imports.one_step import model_keys, one_step_flow
from poeflow.operations.imports.prompt_messages import parted_by_roles, prompt_keys
from poeflow.operations.imports.prompty import type_of
from poeflow.operations.imports.template_names import with_lines

_KNOWN: Final = frozenset(
    {"name", "variant", "description", "model", "config", "input", "output", "metadata"}
)
_INPUT_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object"})
_EMPTY: Final[dict[str, Json]] = {"string": "", "boolean": False, "array": [], "object": {}}
"""What stands for an optional input that is not given."""
_FORMATS: Final = frozenset({"json", "text"})
_FIELD_NAME: Final = lazy_pattern(r"([^(?]+)(\?)?(?:\((\w+)(?:,\s*(.*))?\))?")
"""`name`, `name?`, `names(array)`, `names?(array, what they are)`."""
_SCALARS: Final = frozenset({"string", "number", "integer", "boolean", "null"})
_REST: Final = "(*)"


def from_dotprompt(source: Source, bots: BotNames) -> ImportedFlow:
    """Return a flow of one step."""
    data = source.data
    source.note_rest((), data, _KNOWN)
    converter = Converter(
        lambda message: source.note((), message, "write it in the flow"),
        lambda name: _partial(source, name),
    )
    messages = parted_by_roles(with_lines(converter.jinja(source.body)))
    at = (("model",), ("config",))
    step = model_keys(source, bots, data.get("model"), data.get("config"), at=at)
    step |= prompt_keys(messages, lambda text: text, lambda message: source.note((), message))
    output = _output(source)
    if output:
        step["output"] = output
    return one_step_flow(source, _inputs(source, converter.names), step)


def _partial(source: Source, name: str) -> str | None:
    """Return the text of a partial, which is in the folder of the file."""
    path = str(PurePosixPath(source.path).parent / f"_{name}.prompt")
    return source.read_if_there(path)


def _output(source: Source) -> dict[str, Json]:
    given = dict_in(source.data.get("output"))
    schema = given.get("schema")
    if isinstance(schema, str) and "," not in schema and schema not in _INPUT_TYPES:
        source.note(
            ("output", "schema"), f"the schema {schema} is not in this file", "write it out"
        )
        schema = None
    found: dict[str, Json] = {}
    if given.get("format") == "json":
        found["format"] = "json"
    elif given.get("format") not in (None, *_FORMATS):
        source.note(("output", "format"), f"the format {given['format']} is not taken over")
    if schema is not None:
        _note_unknown_types(schema, source, ("output", "schema"))
        found["schema"] = json_schema(schema)
    return found


def _note_unknown_types(schema: Json, source: Source, at: KeyPath) -> None:
    for path, text in _texts(schema, at):
        word = text.partition(",")[0].strip()
        if word.isidentifier() and word[0].isupper():
            source.note(path, f"the schema {word} is not in this file", "write it out")


def _texts(value: Json, at: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """Yield the texts of a schema in Picoschema, each with its path of keys."""
    if isinstance(value, str):
        yield at, value
    if isinstance(value, dict) and not _is_json_schema(value):
        for key, one in value.items():
            yield from _texts(one, (*at, key))


def _inputs(source: Source, used: set[str]) -> dict[str, Json]:
    """Return the inputs: those of the schema, and what the template uses besides."""
    given = dict_in(source.data.get("input"))
    _note_unknown_types(given.get("schema"), source, ("input", "schema"))
    schema = json_schema(given.get("schema") or {})
    defaults = dict_in(given.get("default"))
    properties = dict_in(schema.get("properties"))
    required = list_in(schema.get("required"))
    found: dict[str, Json] = {}
    for name in dict.fromkeys([*properties, *sorted(used)]):
        shape = dict_in(properties.get(name))
        kind = shape.get("type")
        default = defaults.get(name, shape.get("default"))
        entry: dict[str, Json] = {"type": kind if kind in _INPUT_TYPES else type_of(default)}
        entry |= {key: shape[key] for key in ("description", "enum") if key in shape}
        is_optional = name in properties and name not in required
        if default is not None:
            entry["default"] = default
        elif is_optional and entry["type"] in _EMPTY and "enum" not in entry:
            entry["default"] = _EMPTY[str(entry["type"])]
        elif is_optional:
            source.note((), f'the input "{name}" must be given in the flow', "give it a default")
        found[name] = entry
    return found


def json_schema(given: Json) -> dict[str, Json]:
    """Return a schema for one in Picoschema; one that is JSON Schema already stays as it is."""
    whole = dict_in(given)
    if _is_json_schema(whole):
        return whole
    if isinstance(given, str):
        return _scalar(given)
    properties: dict[str, Json] = {}
    required: list[Json] = []
    rest: Json = False
    for key, value in whole.items():
        if key == _REST:
            rest = json_schema(value)
            continue
        match = _FIELD_NAME.fullmatch(key)
        if match is None:
            continue
        name, is_optional, kind, about = match[1].strip(), match[2], match[3], match[4]
        properties[name] = _field(kind, value) | ({"description": about} if about else {})
        if not is_optional:
            required.append(name)
    schema: dict[str, Json] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return {**schema, "additionalProperties": rest}


def _is_json_schema(whole: dict[str, Json]) -> bool:
    return whole.get("type") in ("object", "array") or "$ref" in whole or "properties" in whole


def _field(kind: str | None, value: Json) -> dict[str, Json]:
    if kind == "array":
        return {"type": "array", "items": json_schema(value)}
    if kind == "enum":
        return {"enum": value}
    return json_schema(value)


def _scalar(text: str) -> dict[str, Json]:
    """Return the schema of `string, what it is`."""
    kind, _, about = (part.strip() for part in text.partition(","))
    kinds: list[Json] = [one.strip() for one in kind.split("|")]
    schema: dict[str, Json] = {}
    if _SCALARS.issuperset(kinds):
        schema["type"] = kinds if len(kinds) > 1 else kind
    return schema | ({"description": about} if about else {})
