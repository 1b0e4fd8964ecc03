"""Which keys or items of a value a schema speaks of, for `unevaluatedProperties` and its kin."""

from collections.abc import Iterator
from typing import Any, Final

from poeflow.digest import Json
from poeflow.flowfile.patterns import compiled

_REFERENCES: Final = ("$ref", "$dynamicRef")
_LISTS: Final = ("allOf", "anyOf", "oneOf")


def evaluated(validator: Any, instance: Json, schema: Any) -> set[str | int]:
    """Return the keys of an object, or the indexes of a list, that `schema` evaluates."""
    if isinstance(schema, bool):
        return set()
    found: set[str | int] = set()
    if isinstance(instance, dict):
        found.update(_keys(instance, schema))
    elif isinstance(instance, list):
        found.update(_indexes(validator, instance, schema))
    for inner, part in _applied(validator, instance, schema):
        found |= evaluated(inner, instance, part)
    return found


def _keys(instance: dict[str, Json], schema: Any) -> Iterator[str]:
    if "additionalProperties" in schema or "unevaluatedProperties" in schema:
        yield from instance
        return
    yield from instance.keys() & schema.get("properties", {}).keys()
    for pattern in schema.get("patternProperties", ()):
        matcher = compiled(pattern)
        yield from (key for key in instance if matcher.is_in(key))


def _indexes(validator: Any, instance: list[Json], schema: Any) -> Iterator[int]:
    if "items" in schema or "unevaluatedItems" in schema:
        yield from range(len(instance))
        return
    yield from range(len(schema.get("prefixItems", ())))
    if "contains" in schema:
        wanted = schema["contains"]
        yield from (i for i, item in enumerate(instance) if _is_valid(validator, item, wanted))


def _applied(validator: Any, instance: Json, schema: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the schemas that apply to the same value and hold, each with its validator."""
    for name in _REFERENCES:
        if name in schema:
            # jsonschema's own keywords find what a reference means by this resolver only
            resolved = validator._resolver.lookup(schema[name])  # noqa: SLF001 no public way
            contents = resolved.contents
            yield validator.evolve(schema=contents, _resolver=resolved.resolver), contents
    options = [part for name in _LISTS for part in schema.get(name, ())]
    if isinstance(instance, dict):
        dependents = schema.get("dependentSchemas", {})
        options += [dependents[name] for name in instance.keys() & dependents.keys()]
    yield from ((validator, part) for part in options if _is_valid(validator, instance, part))
    if "if" in schema:
        holds = _is_valid(validator, instance, schema["if"])
        if holds:
            yield validator, schema["if"]
        yield validator, schema.get("then" if holds else "else", True)


def _is_valid(validator: Any, instance: Json, schema: Any) -> bool:
    return next(validator.descend(instance, schema), None) is None
