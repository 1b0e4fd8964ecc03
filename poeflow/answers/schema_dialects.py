"""What schemas copied from elsewhere mean in another dialect, and ours would pass over in silence.

Older drafts, OpenAPI, an API's own wrapper, misspelt keywords: each is told with what to write.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from poeflow.answers.display import path_text, quoted
from poeflow.digest import Json
from poeflow.flowfile.tree import KeyPath

Fault = tuple[KeyPath, str]
_ANNOTATIONS: Final = frozenset(
    {
        *("$schema", "$id", "$comment", "title", "description", "default", "examples"),
        *("deprecated", "readOnly", "writeOnly"),
    }
)
_ASSERTIONS: Final = frozenset(
    {
        *("$ref", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary", "$defs"),
        *("definitions", "properties", "patternProperties", "additionalProperties"),
        *("propertyNames", "dependentSchemas", "prefixItems", "items", "contains", "if"),
        *("then", "else", "allOf", "anyOf", "oneOf", "not", "unevaluatedItems"),
        *("unevaluatedProperties", "type", "const", "enum", "required"),
        *("dependentRequired", "multipleOf", "maximum", "exclusiveMaximum", "minimum"),
        *("exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems"),
        *("uniqueItems", "maxContains", "minContains", "maxProperties", "minProperties"),
        *("format", "contentEncoding", "contentMediaType", "contentSchema"),
    }
)
_KNOWN: Final = _ANNOTATIONS | _ASSERTIONS
"""The keywords of 2020-12, and `definitions`, where references may lead all the same."""
_SPELLINGS: Final = {word.lower(): word for word in _KNOWN}
_MOVED: Final = {
    "additionalItems": "write items, with what comes first under prefixItems",
    "dependencies": "write dependentRequired for lists of keys, dependentSchemas for schemas",
    "$recursiveRef": "write $dynamicRef",
    "divisibleBy": "write multipleOf",
    "disallow": "write not",
    "extends": "write allOf",
}
_TYPES: Final = ("string", "number", "integer", "boolean", "array", "object", "null")
_TYPE_NAMES: Final = {
    **{name: name for name in _TYPES},
    **dict.fromkeys(("str", "text"), "string"),
    **dict.fromkeys(("float", "double", "decimal"), "number"),
    **dict.fromkeys(("int", "long"), "integer"),
    **dict.fromkeys(("list", "tuple"), "array"),
    **dict.fromkeys(("dict", "map", "struct"), "object"),
    **dict.fromkeys(("none", "nil"), "null"),
    "bool": "boolean",
}
_FORMATS: Final = {
    **{name: name for name in ("date", "time", "date-time", "uuid", "uri", "email")},
    "datetime": "date-time",
    "timestamp": "date-time",
    "url": "uri",
}
_WRAPPERS: Final = (
    *("response_format", "json_schema", "schema", "input_schema", "parameters", "function"),
    *("jsonSchema", "responseSchema", "response_schema", "inputSchema", "format"),
)
_DEFINITIONS: Final = ("$defs", "definitions")
_MAPS: Final = (*_DEFINITIONS, "properties", "patternProperties", "dependentSchemas")
_LISTS: Final = ("prefixItems", "items", "allOf", "anyOf", "oneOf")
_SINGLE: Final = (
    *("items", "additionalProperties", "propertyNames", "contains", "if", "then", "else", "not"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)


def foreign_faults(written: dict[str, Json]) -> Iterator[Fault]:
    """Yield what is meant otherwise than it is read, each with the path of keys inside it."""
    deeper = _wrapped(written)
    if deeper:
        told = f"the schema stands deeper, under {path_text(deeper)}"
        yield (), f"{told}; write here what stands there"
        return
    waiting: list[tuple[KeyPath, Json]] = [((), written)]
    while waiting:
        path, schema = waiting.pop()
        if isinstance(schema, dict):
            found = tuple(_of_one(path, schema))
            yield from found or _of_nothing(path, schema)
            waiting += reversed(tuple(_inside(path, schema)))
        elif isinstance(schema, str) and schema.lower() in _TYPE_NAMES:
            named = _TYPE_NAMES[schema.lower()]
            yield path, f"{quoted(schema)} is no schema by itself; write {{type: {named}}}"


def _wrapped(written: Json) -> KeyPath:
    """Return where the schema stands in what an API takes around one; empty where it is none."""
    path: list[str] = []
    while isinstance(written, dict) and _is_wrapper(written):
        [key, *_] = (key for key in _WRAPPERS if isinstance(written.get(key), dict))
        path.append(key)
        written = written[key]
    return tuple(path)


def _is_wrapper(written: Mapping[str, Json]) -> bool:
    says = written.keys() & _ASSERTIONS
    is_api = says <= {"type", "format"} and written.get("type") not in _TYPES
    return is_api and any(isinstance(written.get(key), dict) for key in _WRAPPERS)


def _of_one(path: KeyPath, schema: dict[str, Json]) -> Iterator[Fault]:
    for key, value in schema.items():
        told = _keyword(key, value)
        if told:
            yield (*path, key), told


def _keyword(key: str, value: Json) -> str:
    """Return what to say of a keyword that means nothing here, or something else."""
    match key, value:
        case "items", list():
            return "a list of schemas is prefixItems since 2020-12; write that"
        case "exclusiveMinimum" | "exclusiveMaximum", bool():
            limit = key.removeprefix("exclusive").lower()
            told = f"{key} is a number since draft 6"
            return f"{told}; write it in place of {limit}" if value else f"{told}; remove it"
        case "required", bool():
            told = "required is a list of keys, beside properties"
            return f"{told}; write the name of this key there" if value else f"{told}; remove it"
        case "nullable", True:
            return "nullable is a word of OpenAPI; write null among the types: [string, null]"
        case "type", str() if value not in _TYPES:
            return _type(value)
    if key in _MOVED:
        return f"{key} is of an older draft and not read; {_MOVED[key]}"
    meant = _SPELLINGS.get(key.lower().replace("_", "").replace("-", ""))
    if meant is not None and key not in _KNOWN:
        return f"{quoted(key)} is no keyword; write {meant}"
    return ""


def _type(value: str) -> str:
    if value.lower() == "any":
        return "any type is meant where no type is written; remove type:"
    if value.lower() in _FORMATS:
        return f"{quoted(value)} is no type; write string, and format: {_FORMATS[value.lower()]}"
    named = _TYPE_NAMES.get(value.lower())
    return "" if named is None else f"{quoted(value)} is no type; write {named}"


def _of_nothing(path: KeyPath, schema: dict[str, Json]) -> Iterator[Fault]:
    """Yield a fault for a schema of words of which none is a keyword, so that anything fits."""
    is_group = len(path) > 1 and path[-2] in _DEFINITIONS
    if not schema or is_group or any(key in _KNOWN or key.startswith("x-") for key in schema):
        return
    told = "it has no keyword of JSON Schema, so that anything fits"
    are_schemas = all(isinstance(value, dict) for value in schema.values())
    yield path, f"{told}; {'put its keys under properties:' if are_schemas else 'begin with type:'}"


def _inside(path: KeyPath, schema: dict[str, Json]) -> Iterator[tuple[KeyPath, Json]]:
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            yield from (((*path, key, name), part) for name, part in value.items())
        elif key in _LISTS and isinstance(value, list):
            yield from (((*path, key, index), part) for index, part in enumerate(value))
        elif key in _SINGLE:
            yield (*path, key), value
