"""Dotprompt's files: front matter with schemas in Picoschema, and a Handlebars template.

https://google.github.io/dotprompt/reference/ describes them.
"""

from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Final, TypeAlias

import msgspec

from poeflow.digest import Json
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.imports.bot_names import BotNames
from poeflow.operations.imports.foreign_file import Source, dict_in, list_in
from poeflow.operations.imports.imported_flow import ImportedFlow
from poeflow.operations.imports.new_names import input_name
from poeflow.operations.imports.one_step import model_keys, one_step_flow
from poeflow.operations.imports.prompt_messages import parted_by_roles, prompt_keys
from poeflow.operations.imports.prompty import type_of
from poeflow.operations.imports.template_names import verbatim, with_lines

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
Partial: TypeAlias = Callable[[str], str | None]
"""Gives the template of a partial by its name, None if there is none."""
_TAG: Final = lazy_pattern(
    r"(?s)(?P<comment>\{\{~?!--(?:(?!\{\{~?!--).)*?--~?\}\}|\{\{~?![^{}]*+\}\})"
    r"|\{\{\{?(?P<left>~?)(?P<inner>[^{}]*+)\}?\}\}"
)
_KINDS: Final = ("#", "/", ">", "^")
_HELD_PATH: Final = lazy_pattern(
    r"(?:\.\./|this\.|@root\.)*[A-Za-z_]\w*(?:\.\w+)*|(?:\.\./)*(?:\.|this)"
)
_INDEX: Final = lazy_pattern(r"\.?\[(\d+)\]")
_ROLE: Final = lazy_pattern(r"""role\s+["'](\w+)["']""")
_LITERAL: Final = lazy_pattern(r""""[^"\\{}]*"|'[^'\\{}]*'|-?\d+(?:\.\d+)?|true|false""")
_ALIASES: Final = lazy_pattern(r"(.*?)\s+as\s+\|\s*(\w+)(?:\s+(\w+))?\s*\|")
_LOOP: Final = {"@index": "loop.index0", "@first": "loop.first", "@last": "loop.last"}
_COMPARED: Final = {"ifEquals": "==", "unlessEquals": "!="}
_MAX_DEPTH: Final = 8
"""How deeply partials may include each other."""


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


class Unconverted(ValueError):  # noqa: N818 - it becomes a note
    """A part of a template has no equal in Jinja."""


class _Block(msgspec.Struct):
    """A block that is open: the tag that ends it, none if it is left out, and what it names.

    `item` is the value that names in it begin at. `names` are those that the template gives.
    """

    end: str = ""
    item: str | None = None
    names: dict[str, str] = {}


class Converter:
    """Turns the tags of one template into Jinja's; `note` hears of those that cannot be turned."""

    def __init__(self, note: Callable[[str], None], partial: Partial) -> None:
        self._note = note
        self._partial = partial
        self._open: list[_Block] = []
        self._depth = 0
        self.names: set[str] = set()
        """The variables that it takes from outside."""

    def jinja(self, template: str) -> str:
        """Return a template; a line such as `system:` stands for a change of the role."""
        parts: list[str] = []
        end = 0
        for match in _TAG.finditer(template):
            parts.append(verbatim(template[end : match.start()]))
            end = match.end()
            if match["comment"] is None:
                inner = match["inner"].rstrip().removesuffix("~").strip()
                kind = inner[:1] if inner.startswith(_KINDS) else ""
                tag = self._tag(kind, inner.removeprefix(kind).strip())
                if match["left"] and tag.startswith(("{%", "{{")):
                    tag = f"{tag[:2]}-{tag[2:]}"
                if match["inner"].rstrip().endswith("~") and tag.endswith(("%}", "}}")):
                    tag = f"{tag[:-2]}-{tag[-2:]}"
                parts.append(tag)
        return "".join([*parts, verbatim(template[end:])])

    def _tag(self, kind: str, inner: str) -> str:
        try:
            if kind == "#":
                return self._begin(inner)
            if kind == "/":
                return self._end()
            if kind == "^" and inner:
                self._open.append(_Block())
                return self._opened("if", f"not {self._truth(inner)}")
            if kind == "^" or inner == "else" or inner.startswith("else "):
                return self._otherwise(inner.removeprefix("else").strip())
            return self._include(inner) if kind == ">" else self._value(inner)
        except Unconverted as problem:
            self._note(str(problem))
            return ""

    def _begin(self, inner: str) -> str:
        word, _, given = inner.partition(" ")
        self._open.append(_Block())
        aliases = _ALIASES.fullmatch(given.strip())
        path = aliases[1] if aliases else given.strip()
        if word in ("each", "with"):
            value = self._path(path)
            held = [block for block in self._open if block.item is not None]
            name = f"one_{len(held) + 1}" if held else "one"
            self._open[-1].item = name
            if aliases:
                self._open[-1].names[aliases[2]] = name
            if aliases and aliases[3]:
                self._open[-1].names[aliases[3]] = "loop.index0"
            return self._opened(
                *(
                    ("for", f"{name} in {value}")
                    if word == "each"
                    else ("with", f"{name} = {value}")
                )
            )
        condition = self._condition(word, path)
        if condition is None:
            raise Unconverted(f"the block {word} is left out, and what is in it stays")
        return self._opened("if", condition)

    def _opened(self, tag: str, what: str) -> str:
        self._open[-1].end = f"end{tag}"
        return f"{{% {tag} {what} %}}"

    def _condition(self, word: str, given: str) -> str | None:
        """Return the condition of a block, None if it is none."""
        if word in _COMPARED:
            values = _LITERAL.sub(lambda match: match[0].replace(" ", "\0"), given).split()
            if len(values) == 2:
                left, right = (self._operand(value.replace("\0", " ")) for value in values)
                return f"{left} {_COMPARED[word]} {right}"
        if word in ("if", "unless"):
            return ("not " if word == "unless" else "") + self._truth(given)
        return None

    def _truth(self, path: str) -> str:
        """Return the expression for a path that may name nothing."""
        found = self._path(path)
        is_held = found.startswith("inputs.") and found.count(".") == 1
        return (
            found
            if is_held or "." not in found or found.startswith("loop.")
            else f"{found} | default"
        )

    def _operand(self, text: str) -> str:
        return text if _LITERAL.fullmatch(text) else self._path(text)

    def _otherwise(self, rest: str) -> str:
        block = self._open[-1] if self._open else _Block()
        if block.end not in ("endif", "endfor"):
            if block.end:
                raise Unconverted("{{else}} is left out")
            return ""
        if not rest:
            return "{% else %}"
        word, _, given = rest.partition(" ")
        condition = self._condition(word, given.strip()) if block.end == "endif" else None
        if condition is None:
            raise Unconverted(f"{{{{else {rest}}}}} is left out, and what follows stays")
        return f"{{% elif {condition} %}}"

    def _end(self) -> str:
        block = self._open.pop() if self._open else _Block()
        return f"{{% {block.end} %}}" if block.end else ""

    def _include(self, inner: str) -> str:
        text = None if " " in inner or self._depth == _MAX_DEPTH else self._partial(inner)
        if text is None:
            raise Unconverted(f"{{{{> {inner}}}}} is left out")
        self._depth += 1
        found = self.jinja(text)
        self._depth -= 1
        return found

    def _value(self, inner: str) -> str:
        role = _ROLE.fullmatch(inner)
        if role is not None:
            return f"\n{role[1]}:\n"
        word, _, rest = inner.partition(" ")
        if word == "json" and rest.split():
            return f"{{{{ {self._path(rest.split()[0])} | tojson }}}}"
        if rest or word == "history":
            raise Unconverted(f"{{{{{inner}}}}} is left out")
        return f"{{{{ {self._path(inner)} }}}}"

    def _path(self, path: str) -> str:
        """Return the expression for a path, which begins at the item of the innermost block."""
        if path in _LOOP:
            return _LOOP[path]
        path = _INDEX.sub(r".\1", path)
        if _HELD_PATH.fullmatch(path) is None:
            raise Unconverted(f"{{{{{path}}}}} is left out")
        level = path.count("../")
        bare = path.replace("../", "").removeprefix("@root.").removeprefix("this.")
        first, dot, rest = bare.partition(".")
        items = [block.item for block in self._open if block.item is not None]
        inner = [] if path.startswith("@root.") else items[: len(items) - level]
        if bare in (".", "this"):
            return inner[-1] if inner else "inputs"
        if not level and "this." not in path and "@root." not in path:
            for block in reversed(self._open):
                if first in block.names:
                    return f"{block.names[first]}{dot}{rest}"
        if inner:
            return f"{inner[-1]}.{bare}"
        self.names.add(first)
        return f"inputs.{input_name(first)}{dot}{rest}"
