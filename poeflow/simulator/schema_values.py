"""Makes values that fit a JSON Schema.

Local references are followed, nothing is fetched. `not` and rules between properties are
ignored; `if` is treated as true.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final
from urllib.parse import unquote

from poeflow.digest import Json
from poeflow.simulator.http_messages import encoded
from poeflow.simulator.pattern_values import UnsupportedPatternError, text_matching
from poeflow.simulator.seeded_random import SeededRandom

_USUAL_SPAN: Final = 100
_NUMBER_TRIES: Final = 50


def simulated_number(
    schema: Mapping[str, Json], kind: str, rng: SeededRandom
) -> int | float | None:
    """Return a number that fits `schema`, None if there is none."""
    least, most = _bounds(schema)
    step = schema.get("multipleOf")
    if kind == "integer" or (isinstance(step, int) and step > 0):
        return _whole(least, most, _whole_step(step), rng)
    if isinstance(step, float) and step > 0:
        return _multiple(least, most, step, rng)
    value = least + (most - least) * (rng.roll(9_999) + 1) / 10_000
    return rounded if least <= (rounded := round(value, 2)) <= most else value


def _whole(least: float, most: float, step: int, rng: SeededRandom) -> int | None:
    first, last = math.ceil(least / step), math.floor(most / step)
    return step * (first + rng.roll(last - first + 1)) if first <= last else None


def _multiple(least: float, most: float, step: float, rng: SeededRandom) -> float | None:
    """Return a multiple of `step` that is exact in floating point."""
    first, last = math.ceil(least / step), math.floor(most / step)
    if first > last:
        return None
    for _ in range(_NUMBER_TRIES):
        value = step * (first + rng.roll(last - first + 1))
        for candidate in (round(value, 9), value):
            if (candidate / step).is_integer() and least <= candidate <= most:
                return candidate
    return 0.0 if least <= 0 <= most else None


def _bounds(schema: Mapping[str, Json]) -> tuple[float, float]:
    """Return the closed range for a number; exclusive bounds are moved a little inward."""
    least, most = _number(schema, "minimum"), _number(schema, "maximum")
    above, below = _number(schema, "exclusiveMinimum"), _number(schema, "exclusiveMaximum")
    if above is not None and (least is None or above >= least):
        least = _inward(above, below if below is not None else most)
    if below is not None and (most is None or below <= most):
        most = -_inward(-below, -least if least is not None else None)
    if least is None:
        least = 1 if most is None or most >= 1 else most - _USUAL_SPAN
    return least, most if most is not None else least + _USUAL_SPAN


def _inward(end: float, other: float | None) -> float:
    room = 1.0 if other is None else other - end
    return end + min(1e-6, room / 1_000) if room > 0 else end


def _whole_step(step: Json) -> int:
    if isinstance(step, float) and step > 0:
        numerator, denominator = step.as_integer_ratio()
        return numerator if denominator in (1, 2, 4, 8) else max(1, math.ceil(step))
    return step if isinstance(step, int) and step > 0 else 1


def _number(schema: Mapping[str, Json], name: str) -> float | None:
    value = schema.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and isinstance(value, int | float) else None


_TEXT_TRIES: Final = 40
_MAX_LENGTH: Final = 100_000
_WORDS: Final = ("amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "harbor", "island")


def _word(rng: SeededRandom) -> str:
    return rng.choice(_WORDS)


def _date(rng: SeededRandom) -> str:
    return f"2026-{rng.roll(12) + 1:02d}-{rng.roll(28) + 1:02d}"


def _time(rng: SeededRandom) -> str:
    return f"{rng.roll(24):02d}:{rng.roll(60):02d}:{rng.roll(60):02d}Z"


def _uuid(rng: SeededRandom) -> str:
    return f"{rng.hex(8)}-{rng.hex(4)}-4{rng.hex(3)}-a{rng.hex(3)}-{rng.hex(12)}"


_FORMATS: Final[Mapping[str, Callable[[SeededRandom], str]]] = {
    "date": _date,
    "time": _time,
    "date-time": lambda rng: f"{_date(rng)}T{_time(rng)}",
    "duration": lambda rng: f"PT{rng.roll(59) + 1}M",
    "email": lambda rng: f"{_word(rng)}.{rng.hex(4)}@example.com",
    "idn-email": lambda rng: f"{_word(rng)}.{rng.hex(4)}@example.com",
    "hostname": lambda rng: f"{_word(rng)}-{rng.hex(4)}.example.com",
    "ipv4": lambda rng: f"192.0.2.{rng.roll(254) + 1}",
    "ipv6": lambda rng: f"2001:db8::{rng.hex(4)}",
    "uri": lambda rng: f"https://example.com/{_word(rng)}/{rng.hex(6)}",
    "url": lambda rng: f"https://example.com/{_word(rng)}/{rng.hex(6)}",
    "iri": lambda rng: f"https://example.com/{_word(rng)}/{rng.hex(6)}",
    "uri-reference": lambda rng: f"/{_word(rng)}/{rng.hex(6)}",
    "uuid": _uuid,
    "json-pointer": lambda rng: f"/{_word(rng)}/{rng.roll(9)}",
    "regex": lambda rng: f"^{_word(rng)}-{rng.hex(4)}$",
}


def simulated_string(schema: Mapping[str, Json], name: str, rng: SeededRandom) -> str:
    """Return a text that fits `schema`, with the property `name` in it if it is unrestricted.

    Raises `UnsupportedPatternError` for a pattern that is not supported or fits no length.
    """
    least, most = _length(schema, "minLength", 0), _length(schema, "maxLength", _MAX_LENGTH)
    pattern, form = schema.get("pattern"), schema.get("format")
    if isinstance(pattern, str):
        return _matching(pattern, least, most, rng)
    if isinstance(form, str) and form in _FORMATS:
        return _FORMATS[form](rng)
    words = name.replace("_", " ").replace("-", " ").strip() or "text"
    text = f"Simulated {words} {rng.choice(_WORDS)} {rng.hex(4)}"
    if len(text) > most:
        text = rng.hex(16)[:most]
    while len(text) < least:
        text = f"{text} {rng.choice(_WORDS)}"
    return text[: max(least, min(most, 80))].rstrip().ljust(least, ".")


def _matching(pattern: str, least: int, most: int, rng: SeededRandom) -> str:
    for _ in range(_TEXT_TRIES):
        text = text_matching(pattern, rng)
        if least <= len(text) <= most:
            return text
    raise UnsupportedPatternError(
        f"no text of {least} to {most} characters for {pattern!r} was found"
    )


def _length(schema: Mapping[str, Json], name: str, otherwise: int) -> int:
    value = schema.get(name)
    return min(int(value), _MAX_LENGTH) if isinstance(value, int | float) else otherwise


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
    """The schema has invalid references."""


def looks_like_schema(value: Json) -> bool:
    """Return whether a JSON value is probably a JSON Schema rather than data."""
    if not isinstance(value, dict):
        return False
    kind = value.get("type")
    listed = kind if isinstance(kind, list) else [kind]
    has_type = bool(listed) and all(isinstance(item, str) and item in TYPES for item in listed)
    has_options = any(isinstance(value.get(name), list) for name in _OPTIONS)
    return has_type or has_options or any(name in value for name in ("$schema", "$ref", "$defs"))


class Flattener:
    """Resolves the schemas below `root`, in bounded work."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._taken = 0

    def flat(self, schema: Json) -> Schema | None:
        """Return `schema` without `$ref`, `allOf` and `if`; None for the schema `false`.

        Raises `SchemaError` for references that do not exist or have a cycle.
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
            whole = False if flat is None else merge_schemas(whole, dict(flat))
        return whole if isinstance(whole, dict) else None

    def _parts(self, schema: dict[str, Json]) -> Iterator[Json]:
        """Yield the schemas that must also hold; `if` is treated as true."""
        reference, listed = schema.get("$ref"), schema.get("allOf")
        if isinstance(reference, str):
            yield _target(reference, self._root)
        yield from listed if isinstance(listed, list) else ()
        if "if" in schema:
            yield schema["if"]
            yield schema.get("then", True)


def merge_schemas(first_schema: Json, other: Json) -> Json:
    """Return a schema that combines both, as far as possible."""
    if first_schema is False or other is False:
        return False
    if not isinstance(first_schema, dict) or not isinstance(other, dict):
        return first_schema if isinstance(first_schema, dict) else other
    if "const" in first_schema and "const" in other and first_schema["const"] != other["const"]:
        return False
    both = dict(first_schema)
    for key, value in other.items():
        both[key] = _both(key, both[key], value) if key in both else value
    return both


def inferred_type(schema: Schema) -> str:
    """Return the type to make: the first that is not null, else the one the keywords imply."""
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


def _both(key: str, first_schema: Json, other: Json) -> Json:
    """Return the value of `key` that satisfies both of its values."""
    if first_schema == other:
        return first_schema
    match first_schema, other:
        case int() | float(), int() | float() if key in _LARGEST:
            return max(first_schema, other)
        case int() | float(), int() | float() if key in _SMALLEST:
            return min(first_schema, other)
        case list(), list() if key == "required":
            return [*first_schema, *(name for name in other if name not in first_schema)]
        case list(), list() if key in ("anyOf", "oneOf"):
            both = (merge_schemas(mine, theirs) for mine in first_schema for theirs in other)
            return list(islice(both, _MAX_OPTIONS))
        case list(), list() if key in ("enum", "type"):
            return [item for item in first_schema if item in other]
        case _, _ if key == "type":
            return _common_type(first_schema, other)
        case dict(), dict() if key in ("properties", "patternProperties", "$defs"):
            return {
                **first_schema,
                **{k: merge_schemas(first_schema.get(k, True), v) for k, v in other.items()},
            }
        case _, _ if key in ("items", "additionalProperties", "contains"):
            return merge_schemas(first_schema, other)
        case _:
            return other


def _common_type(first_schema: Json, other: Json) -> Json:
    mine = first_schema if isinstance(first_schema, list) else [first_schema]
    theirs = other if isinstance(other, list) else [other]
    both = [kind for kind in mine if kind in theirs]
    if not both and "integer" in (*mine, *theirs):
        return "integer"
    return both


_FULL_DEPTH: Final = 4
"""Below this depth only required parts are made."""
_MAX_DEPTH: Final = 40
_MAX_VALUES: Final = 20_000
_MAX_ITEMS: Final = 1_000
_CHARACTERS_A_VALUE: Final = 100
"""How many characters count as one value for the limit."""
_USUAL_ITEMS: Final = 2
_UNIQUE_TRIES: Final = 20


class NoInstanceError(ValueError):
    """No value that fits was found."""


def made_up_value(schema: Json, seed: str) -> Json:
    """Return a value that fits `schema`; the same seed gives the same value.

    Raises `NoInstanceError`, also for a schema whose values are all infinite.
    """
    try:
        return _Maker(schema, SeededRandom(seed)).value(schema, "value", 0)
    except (SchemaError, UnsupportedPatternError, RecursionError, ArithmeticError) as error:
        raise NoInstanceError(f"no value fits the schema: {error}") from None


class _Maker:
    """Makes values for one schema, bounded in number and depth."""

    def __init__(self, root: Json, rng: SeededRandom) -> None:
        self._flattener = Flattener(root)
        self._random = rng
        self._made = 0

    def value(self, schema: Json, name: str, depth: int) -> Json:
        self._made += 1
        if depth > _MAX_DEPTH or self._made > _MAX_VALUES:
            raise NoInstanceError("no value fits the schema: it has no end")
        flat = self._flattener.flat(schema)
        if flat is None:
            raise NoInstanceError("no value fits the schema: it is false")
        for key in ("anyOf", "oneOf"):
            options = flat.get(key)
            if isinstance(options, list) and options:
                return self._either(flat, key, options, name, depth)
        allowed = [flat["const"]] if "const" in flat else flat.get("enum")
        if isinstance(allowed, list):
            return self._listed(allowed, flat)
        return self._typed(flat, name, depth)

    def _either(self, flat: Schema, key: str, options: list[Json], name: str, depth: int) -> Json:
        """Return a value for the first option that has one, beginning at a random option."""
        rest: Json = {other: part for other, part in flat.items() if other != key}
        first = self._random.roll(len(options)) if depth <= _FULL_DEPTH else 0
        failure: NoInstanceError | None = None
        for option in (*options[first:], *options[:first]):
            try:
                return self.value(merge_schemas(rest, option), name, depth + 1)
            except NoInstanceError as error:
                failure = error
        raise failure or NoInstanceError("no value fits the schema")

    def _listed(self, allowed: list[Json], flat: Schema) -> Json:
        enum = flat.get("enum")
        fitting = [value for value in allowed if _has_type(value, flat.get("type"))]
        if isinstance(enum, list):
            fitting = [value for value in fitting if value in enum]
        if not fitting:
            raise NoInstanceError("no value fits the schema: nothing in its enum")
        return self._random.choice(fitting)

    def _typed(self, flat: Schema, name: str, depth: int) -> Json:
        match inferred_type(flat):
            case "object":
                return self._object(flat, depth)
            case "array":
                return self._array(flat, name, depth)
            case "boolean":
                return self._random.roll(2) == 1
            case "null":
                return None
            case ("number" | "integer") as kind:
                number = simulated_number(flat, kind, self._random)
                if number is None:
                    raise NoInstanceError("no value fits the schema: an empty range")
                return number
            case _:
                text = simulated_string(flat, name, self._random)
                self._made += len(text) // _CHARACTERS_A_VALUE
                return text

    def _object(self, flat: Schema, depth: int) -> Json:
        properties = flat.get("properties")
        known = properties if isinstance(properties, dict) else {}
        request = flat.get("required")
        required = [str(key) for key in request] if isinstance(request, list) else []
        most = _count(flat, "maxProperties", _MAX_ITEMS)
        made: dict[str, Json] = {}
        for key in (*required, *(key for key in known if key not in required)):
            if key in required:
                made[key] = self.value(self._property(flat, known, key), key, depth + 1)
            elif depth < _FULL_DEPTH and len(made) < most and known[key] is not False:
                self._try_optional(made, known[key], key, depth)
        return self._filled_up(made, flat, depth, most)

    def _property(self, flat: Schema, known: Schema, key: str) -> Json:
        return known[key] if key in known else flat.get("additionalProperties", True)

    def _try_optional(self, made: dict[str, Json], schema: Json, key: str, depth: int) -> None:
        try:
            made[key] = self.value(schema, key, depth + 1)
        except NoInstanceError:
            made.pop(key, None)

    def _filled_up(self, made: dict[str, Json], flat: Schema, depth: int, most: int) -> Json:
        """Add entries with free names if the schema needs more, or names no properties."""
        extra = flat.get("additionalProperties", True)
        is_map = isinstance(extra, dict) and not made and depth < _FULL_DEPTH
        least = _count(flat, "minProperties", _USUAL_ITEMS if is_map else 0)
        names = flat.get("propertyNames")
        while len(made) < min(least, most) and extra is not False:
            if isinstance(names, dict):
                name = str(self.value(merge_schemas({"type": "string"}, names), "name", depth + 1))
            else:
                name = f"{self._random.choice(('first', 'second', 'third'))}_{self._random.hex(4)}"
            made[name] = self.value(extra, name, depth + 1)
            self._made += 1
        return made

    def _array(self, flat: Schema, name: str, depth: int) -> Json:
        fixed = flat.get("prefixItems")
        items = flat.get("items", True)
        if isinstance(items, list):  # draft 7 and before
            fixed, items = items, flat.get("additionalItems", True)
        singular = name.removesuffix("s")
        listed = fixed if isinstance(fixed, list) else []
        made = [self.value(part, singular, depth + 1) for part in listed]
        contained = flat.get("contains")
        if contained is not None:
            wanted = _count(flat, "minContains", 1)
            both = merge_schemas(items, contained)
            made += [self.value(both, singular, depth + 1) for _ in range(wanted)]
        if items is not False:
            self._fill(made, flat, items, singular, depth)
        if len(made) < _count(flat, "minItems", 0):
            raise NoInstanceError("no value fits the schema: too few different items")
        return made

    def _fill(self, made: list[Json], flat: Schema, items: Json, name: str, depth: int) -> None:
        """Add items up to the usual number, as far as the schema allows."""
        usual = _USUAL_ITEMS if depth < _FULL_DEPTH else 0
        wanted = min(_count(flat, "maxItems", _MAX_ITEMS), max(_count(flat, "minItems", 0), usual))
        is_unique = bool(flat.get("uniqueItems"))
        known = {encoded(item, in_order=True) for item in made}
        tries = 0
        while len(made) < wanted and tries < _UNIQUE_TRIES:
            item = self.value(items, name, depth + 1)
            spelling = encoded(item, in_order=True)
            if is_unique and spelling in known:
                tries += 1
                continue
            known.add(spelling)
            made.append(item)


def _has_type(value: Json, kind: Json) -> bool:
    kinds = kind if isinstance(kind, list) else [kind]
    match value:
        case None:
            names = {"null"}
        case bool():
            names = {"boolean"}
        case int():
            names = {"integer", "number"}
        case float():
            names = {"number"}
        case str():
            names = {"string"}
        case list():
            names = {"array"}
        case _:
            names = {"object"}
    return kind is None or any(item in names for item in kinds if isinstance(item, str))


def _count(flat: Schema, name: str, otherwise: int) -> int:
    value = flat.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return otherwise
    return min(int(value), _MAX_ITEMS * 10)
