"""JSON Schemas taken apart: local references followed, `allOf` laid over each other."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final
from urllib.parse import unquote

from poeflow.digest import Json

Schema = Mapping[str, Json]
_MAX_TAKEN: Final = 50_000
_MAX_OPTIONS: Final = 64
_LARGEST: Final = frozenset(
    {"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "minContains"}
)
_SMALLEST: Final = frozenset(
    {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"}
)
_TYPE_HINTS: Final = {
    "object": ("properties", "required", "additionalProperties", "minProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
    "string": ("minLength", "maxLength", "pattern", "format"),
    "number": ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
}
_OPTIONS: Final = ("enum", "anyOf", "oneOf", "allOf")
TYPES: Final = frozenset({"object", "array", "string", "number", "integer", "boolean", "null"})


class SchemaError(ValueError):
    """The schema cannot be followed."""


def looks_like_schema(value: Json) -> bool:
    """Say whether a JSON value is most likely a JSON Schema and not just data."""
    if not isinstance(value, dict):
        return False
    kind = value.get("type")
    listed = kind if isinstance(kind, list) else [kind]
    has_type = bool(listed) and all(isinstance(item, str) and item in TYPES for item in listed)
    has_options = any(isinstance(value.get(name), list) for name in _OPTIONS)
    return has_type or has_options or any(name in value for name in ("$schema", "$ref", "$defs"))


class Flattener:
    """Takes the schemas below `root` apart, in bounded work."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._taken = 0

    def flat(self, schema: Json) -> Schema | None:
        """Return `schema` without `$ref`, `allOf` and `if`; None for the schema `false`.

        Raises `SchemaError` for references that lead nowhere or round in circles.
        """
        self._taken += 1
        if self._taken > _MAX_TAKEN:
            raise SchemaError("its references have no end")
        if schema is False:
            return None
        if not isinstance(schema, dict):
            return {}
        taken = ("$ref", "allOf", "if", "then", "else")
        whole: Json = {key: part for key, part in schema.items() if key not in taken}
        for part in self._parts(schema):
            flat = self.flat(part)
            whole = False if flat is None else merged(whole, dict(flat))
        return whole if isinstance(whole, dict) else None

    def _parts(self, schema: dict[str, Json]) -> Iterator[Json]:
        """Yield what has to be met as well; `if` is taken as met."""
        reference, listed = schema.get("$ref"), schema.get("allOf")
        if isinstance(reference, str):
            yield _target(reference, self._root)
        yield from listed if isinstance(listed, list) else ()
        if "if" in schema:
            yield schema["if"]
            yield schema.get("then", True)


def merged(one: Json, other: Json) -> Json:
    """Return a schema that asks for what both ask for, as far as that can be said in one."""
    if one is False or other is False:
        return False
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one if isinstance(one, dict) else other
    if "const" in one and "const" in other and one["const"] != other["const"]:
        return False
    both = dict(one)
    for key, value in other.items():
        both[key] = _both(key, both[key], value) if key in both else value
    return both


def inferred_type(schema: Schema) -> str:
    """Return the type to make: the first that is not null, or what the keywords speak of."""
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((item for item in kind if item != "null"), "null")
    if isinstance(kind, str):
        return kind
    found = (name for name, keys in _TYPE_HINTS.items() if any(key in schema for key in keys))
    return next(found, "string")


def _target(reference: str, root: Json) -> Json:
    if not reference.startswith("#"):
        raise SchemaError(f"the reference {reference} leaves the schema")
    found = root
    for step in reference[1:].split("/")[1:]:
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict) and key in found:
            found = found[key]
        elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        else:
            raise SchemaError(f"the reference {reference} leads nowhere")
    return found


def _both(key: str, one: Json, other: Json) -> Json:
    """Return the value of `key` that meets both of its values."""
    if one == other:
        return one
    match one, other:
        case int() | float(), int() | float() if key in _LARGEST:
            return max(one, other)
        case int() | float(), int() | float() if key in _SMALLEST:
            return min(one, other)
        case list(), list() if key == "required":
            return [*one, *(name for name in other if name not in one)]
        case list(), list() if key in ("anyOf", "oneOf"):
            both = (merged(mine, theirs) for mine in one for theirs in other)
            return list(islice(both, _MAX_OPTIONS))
        case list(), list() if key in ("enum", "type"):
            return [item for item in one if item in other]
        case _, _ if key == "type":
            return _common_type(one, other)
        case dict(), dict() if key in ("properties", "patternProperties", "$defs"):
            return {**one, **{k: merged(one.get(k, True), v) for k, v in other.items()}}
        case _, _ if key in ("items", "additionalProperties", "contains"):
            return merged(one, other)
        case _:
            return other


def _common_type(one: Json, other: Json) -> Json:
    mine = one if isinstance(one, list) else [one]
    theirs = other if isinstance(other, list) else [other]
    both = [kind for kind in mine if kind in theirs]
    if not both and "integer" in (*mine, *theirs):
        return "integer"
    return both
