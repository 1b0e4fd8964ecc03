"""Keywords of JSON Schema that could take unlimited work, with a limit."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from poeflow.answers.differences import comparable
from poeflow.answers.display import one_line, quoted, shown
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


if TYPE_CHECKING:
    from jsonschema import ValidationError

Errors = Iterator["ValidationError"]
Keyword = Callable[[Any, Any, Any, Any], Errors | None]
MAX_EFFORT: Final = 300_000
"""Ten times the work for the longest answers of today's models: about two seconds."""
_CHARACTERS_A_STEP: Final = 100
_LOOKS_A_STEP: Final = 50
"""How many words of a schema, such as those of an enum, are compared in the time of a step."""
_COLLECTION: Final = 30
_PROGRAM_A_STEP: Final = 5_000
"""How many instructions of a pattern are run per character in the time of a step."""


_COMPARED: Final = frozenset({"enum", "const"})


class TooMuchWorkError(Exception):
    """A check takes more work than one answer may take."""


class Effort:
    """The work left for one check: a step for each keyword and error, more for long messages."""

    def __init__(self) -> None:
        self._left = 0

    def refill(self) -> None:
        self._left = MAX_EFFORT

    def spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise TooMuchWorkError


def keywords(known: Mapping[str, Any], effort: Effort) -> dict[str, Keyword]:
    """Return all `known` keywords with ours in their place, each counted by `effort`."""
    return {name: _counted(name, OURS.get(name, given), effort) for name, given in known.items()}


def _counted(name: str, keyword: Keyword, effort: Effort) -> Keyword:
    weights: dict[int, int] = {}
    weighs = name in _COMPARED

    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Errors:
        if weighs and id(value) not in weights:  # the schema lives as long as this
            weights[id(value)] = _weight(value)
        steps = weights[id(value)] // _LOOKS_A_STEP if weighs else 0
        effort.spend(1 + steps + _matching(name, value, instance, schema))
        for error in keyword(validator, value, instance, schema) or ():
            effort.spend(1 + len(error.message) // _CHARACTERS_A_STEP)
            yield error

    return check


def _weight(value: Any) -> int:
    """Return how many words a part of a schema counts as: lists and objects compare slowly."""
    match value:
        case dict():
            return _COLLECTION + sum(map(_weight, value.values()))
        case list():
            return _COLLECTION + sum(map(_weight, value))
        case _:
            return 1


def _matching(name: str, value: Any, instance: Any, schema: Any) -> int:
    """Return the steps that a keyword's patterns take, or its names if they are many."""
    match name, instance:
        case (("properties" | "required" | "dependentRequired" | "dependentSchemas"), dict()):
            return len(value) // _LOOKS_A_STEP
        case "pattern", str():
            return compiled(value).size * len(instance) // _PROGRAM_A_STEP
        case "patternProperties", dict():
            return _searching(value, instance)
        case (("additionalProperties" | "unevaluatedProperties"), dict()):
            named = len(schema.get("properties", ())) // _LOOKS_A_STEP
            return named + _searching(schema.get("patternProperties", ()), instance)
    return 0


def _searching(patterns: Iterable[str], instance: Mapping[str, Any]) -> int:
    """Return the steps it takes to look for all patterns in all keys."""
    looks = [compiled(pattern).size for pattern in patterns]
    characters = sum(map(len, instance)) if looks else 0
    return len(looks) * (1 + len(instance) // 10) + sum(looks) * characters // _PROGRAM_A_STEP


def _error(message: str, *path: int) -> "ValidationError":
    from jsonschema import ValidationError

    return ValidationError(message, path=path)


def _required(_validator: Any, names: Any, instance: Any, _schema: Any) -> Errors:
    if isinstance(instance, dict):
        for name in names:
            if name not in instance:
                yield _error(f"the key {quoted(name)} is missing")


def _dependent_required(_validator: Any, needs: Any, instance: Any, _schema: Any) -> Errors:
    if isinstance(instance, dict):
        for name in needs.keys() & instance.keys():
            for other in needs[name]:
                if other not in instance:
                    yield _error(f"the key {quoted(other)} is missing, {quoted(name)} needs it")


def _pattern(_validator: Any, pattern: Any, instance: Any, _schema: Any) -> Errors:
    if isinstance(instance, str) and not compiled(pattern).is_in(instance):
        yield _error(f"{shown(instance)} does not match the pattern {one_line(pattern)}")


def _properties(validator: Any, known: Any, instance: Any, _schema: Any) -> Errors:
    if isinstance(instance, dict):
        for key, subschema in known.items():
            if key in instance:
                yield from _value(validator, subschema, key, instance[key])


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Errors:
    if isinstance(instance, dict):
        for pattern, subschema in patterns.items():
            matcher = compiled(pattern)
            for key, value in instance.items():
                if matcher.is_in(key):
                    yield from _value(validator, subschema, key, value)


def _additional_properties(validator: Any, rest: Any, instance: Any, schema: Any) -> Errors:
    if isinstance(instance, dict):
        named = {"properties", "patternProperties"} & schema.keys()
        known = evaluated(validator, instance, {name: schema[name] for name in named})
        yield from _others(validator, rest, instance, known)


def _unevaluated_properties(validator: Any, rest: Any, instance: Any, schema: Any) -> Errors:
    if isinstance(instance, dict):
        others = {k: v for k, v in schema.items() if k != "unevaluatedProperties"}
        yield from _others(validator, rest, instance, evaluated(validator, instance, others))


def _others(validator: Any, rest: Any, instance: Any, known: set[str | int]) -> Errors:
    for key, value in instance.items():
        if key not in known:
            yield from _value(validator, rest, key, value)


def _value(validator: Any, schema: Any, key: str, value: Any) -> Errors:
    if schema is False:
        yield _error(f"the key {quoted(key)} is not allowed")
    else:
        yield from validator.descend(value, schema, path=key)


def _unevaluated_items(validator: Any, rest: Any, instance: Any, schema: Any) -> Errors:
    if isinstance(instance, list):
        others = {k: v for k, v in schema.items() if k != "unevaluatedItems"}
        known = evaluated(validator, instance, others)
        for index, item in enumerate(instance):
            if index in known:
                continue
            if rest is False:
                yield _error(f"{shown(item)} is not allowed here", index)
            else:
                yield from validator.descend(item, rest, path=index)


def _unique_items(_validator: Any, is_wanted: Any, instance: Any, _schema: Any) -> Errors:
    if is_wanted and isinstance(instance, list):
        first: dict[Hashable, int] = {}
        for index, item in enumerate(instance):
            before = first.setdefault(comparable(item), index)
            if before != index:
                yield _error(f"items {before} and {index} are the same: {shown(item)}")
                return


def _multiple_of(_validator: Any, unit: Any, instance: Any, _schema: Any) -> Errors:
    """Calculate with decimals as written: 0.3 is three times 0.1."""
    if isinstance(instance, int | float) and not isinstance(instance, bool):
        from fractions import Fraction

        ratio = Fraction(repr(instance)) / Fraction(repr(unit))
        if ratio.denominator != 1:
            yield _error(f"{shown(instance)} is not a multiple of {shown(unit)}")


OURS: Final[Mapping[str, Keyword]] = {
    "required": _required,
    "dependentRequired": _dependent_required,
    "pattern": _pattern,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "unevaluatedProperties": _unevaluated_properties,
    "unevaluatedItems": _unevaluated_items,
    "uniqueItems": _unique_items,
    "multipleOf": _multiple_of,
}
"""Their errors' messages are final sentences; those of other keywords are not for people."""
