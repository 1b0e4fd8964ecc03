"""Dotprompt's files: front matter with schemas in Picoschema, and a Handlebars template.

https://google.github.io/dotprompt/reference/ describes all three.
"""

from collections.abc import Callable
from typing import Final

from poeflow.digest import Json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.imports.bot_names import BotNames
from poeflow.operations.imports.foreign_file import Source, dict_in, list_in
from poeflow.operations.imports.imported_flow import ImportedFlow
from poeflow.operations.imports.new_names import input_name
from poeflow.operations.imports.one_step import model_keys, one_step_flow
from poeflow.operations.imports.prompt_messages import parted_by_roles, prompt_keys
from poeflow.operations.imports.prompty import type_of

_KNOWN: Final = frozenset(
    {"name", "variant", "description", "model", "config", "input", "output", "metadata"}
)
_INPUT_TYPES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object"})
_FORMATS: Final = frozenset({"json", "text"})
_TAG: Final = lazy_pattern(r"\{\{\{?(~)?\s*([#/>!^]?)\s*([^{}]*?)\s*(~)?\}?\}\}")
_HELD_PATH: Final = lazy_pattern(r"(?:\.\./|this\.|@root\.)*[A-Za-z_@][\w.]*|\.|this")
_ROLE: Final = lazy_pattern(r"""role\s+["'](\w+)["']""")
_LOOP: Final = {"@index": "loop.index0", "@first": "loop.first", "@last": "loop.last"}
_FIELD_NAME: Final = lazy_pattern(r"([^(?]+)(\?)?(?:\((\w+)(?:,\s*(.*))?\))?")
"""`name`, `name?`, `names(array)`, `names?(array, what they are)`."""
_SCALARS: Final = frozenset({"string", "number", "integer", "boolean", "null"})
_REST: Final = "(*)"


def from_dotprompt(source: Source, bots: BotNames) -> ImportedFlow:
    """Return a flow of one step."""
    data = source.data
    source.note_rest((), data, _KNOWN)
    converter = Converter(lambda message: source.note((), message, "write it in the flow"))
    messages = parted_by_roles(converter.jinja(source.body))
    at = (("model",), ("config",))
    step = model_keys(source, bots, data.get("model"), data.get("config"), at=at)
    step |= prompt_keys(messages, lambda text: text, lambda message: source.note((), message))
    output = _output(source)
    if output:
        step["output"] = output
    return one_step_flow(source, _inputs(source, converter.names), step)


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
        found["schema"] = json_schema(schema)
    return found


def _inputs(source: Source, used: set[str]) -> dict[str, Json]:
    """Return the inputs: those of the schema, and what the template uses besides."""
    given = dict_in(source.data.get("input"))
    schema = json_schema(given.get("schema") or {})
    defaults = dict_in(given.get("default"))
    properties = dict_in(schema.get("properties"))
    required = list_in(schema.get("required"))
    found: dict[str, Json] = {}
    for name in dict.fromkeys([*properties, *sorted(used)]):
        shape = dict_in(properties.get(name))
        kind = shape.get("type")
        default = defaults.get(name)
        entry: dict[str, Json] = {"type": kind if kind in _INPUT_TYPES else type_of(default)}
        entry |= {key: shape[key] for key in ("description", "enum") if key in shape}
        is_optional = name in properties and name not in required
        if default is not None:
            entry["default"] = default
        elif is_optional and entry["type"] == "string" and "enum" not in entry:
            entry["default"] = ""
        found[name] = entry
    return found


class Unconverted(ValueError):  # noqa: N818 - it becomes a note
    """A part of a template has no equal in Jinja."""


class Converter:
    """Turns the tags of one template into Jinja's; `note` hears of those that cannot be turned."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self._note = note
        self._open: list[str] = []
        """The blocks that are open, innermost last: what closes each, or the name of its items."""
        self._items: list[str] = []
        self.names: set[str] = set()
        """The variables that it takes from outside."""

    def jinja(self, template: str) -> str:
        """Return a template; a line such as `system:` stands for a change of the role."""
        return _TAG.sub(lambda match: self._tag(match[0], match[2], match[3]), template)

    def _tag(self, whole: str, kind: str, inner: str) -> str:
        if kind == "!":
            return ""
        try:
            if kind == "#":
                return self._begin(inner)
            if kind == "/":
                return self._end(inner)
            if kind == "^" or inner == "else":
                return "{% else %}"
            return self._value(f"> {inner}" if kind == ">" else inner)
        except Unconverted as problem:
            self._note(str(problem))
            return ""

    def _begin(self, inner: str) -> str:
        word, _, path = inner.partition(" ")
        if word in ("if", "unless"):
            self._open.append("endif")
            no = "not " if word == "unless" else ""
            return f"{{% if {no}{self._path(path.strip())} %}}"
        if word == "each":
            listed = self._path(path.strip().partition(" as ")[0])
            name = "one" if not self._items else f"one_{len(self._items) + 1}"
            self._open.append("endfor")
            self._items.append(name)
            return f"{{% for {name} in {listed} %}}"
        self._open.append("")
        raise Unconverted(f"the block {word} is left out, and what is in it stays")

    def _end(self, _inner: str) -> str:
        end = self._open.pop() if self._open else ""
        if end == "endfor":
            self._items.pop()
        return f"{{% {end} %}}" if end else ""

    def _value(self, inner: str) -> str:
        role = _ROLE.fullmatch(inner)
        if role is not None:
            return f"\n{role[1]}:\n"
        word, _, rest = inner.partition(" ")
        if word == "json":
            return f"{{{{ {self._path(rest.split()[0] if rest.split() else '')} | tojson }}}}"
        if rest or word == "history":
            raise Unconverted(f"{{{{{inner}}}}} is left out")
        return f"{{{{ {self._path(inner)} }}}}"

    def _path(self, path: str) -> str:
        """Return the expression for a path, which begins at the item of the innermost loop."""
        if path in _LOOP:
            return _LOOP[path]
        if _HELD_PATH.fullmatch(path) is None:
            raise Unconverted(f"{{{{{path}}}}} is left out")
        level = path.count("../")
        bare = path.replace("../", "").removeprefix("@root.")
        items = self._items[: len(self._items) - level] if "@root." not in path else []
        bare = bare.removeprefix("this.")
        if bare in (".", "this"):
            return items[-1] if items else "inputs"
        if items and not path.startswith("@root."):
            return f"{items[-1]}.{bare}"
        first, dot, rest = bare.partition(".")
        self.names.add(first)
        return f"inputs.{input_name(first)}{dot}{rest}"


def json_schema(given: Json) -> dict[str, Json]:
    """Return a schema for one in Picoschema; one that is JSON Schema already stays as it is."""
    whole = dict_in(given)
    if whole.get("type") in ("object", "array") or "$ref" in whole or "properties" in whole:
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


def _field(kind: str | None, value: Json) -> dict[str, Json]:
    if kind == "array":
        return {"type": "array", "items": json_schema(value)}
    if kind == "enum":
        return {"enum": value}
    return json_schema(value)


def _scalar(text: str) -> dict[str, Json]:
    """Return the schema of `string, what it is`."""
    kind, _, about = (part.strip() for part in text.partition(","))
    schema: dict[str, Json] = {"type": kind} if kind in _SCALARS else {}
    return schema | ({"description": about} if about else {})
