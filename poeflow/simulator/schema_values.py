"""Values that fit a JSON Schema, for bots that are asked for one.

Local references are followed, nothing is fetched. `not` and rules between properties are not
looked at; `if` is taken as met.
"""

from typing import Final

from poeflow.digest import Json
from poeflow.simulator.http_messages import encoded
from poeflow.simulator.numbers import simulated_number
from poeflow.simulator.pattern_values import PatternError
from poeflow.simulator.schemas import Flattener, Schema, SchemaError, inferred_type, merged
from poeflow.simulator.seeded_random import Dice
from poeflow.simulator.strings import simulated_string

_FULL_DEPTH: Final = 4
"""Below this depth only what a schema requires is made."""
_MAX_DEPTH: Final = 40
_MAX_VALUES: Final = 20_000
_MAX_ITEMS: Final = 1_000
_CHARACTERS_A_VALUE: Final = 100
"""How many characters count as one value against the limit."""
_USUAL_ITEMS: Final = 2
_UNIQUE_TRIES: Final = 20


class NoInstanceError(ValueError):
    """No value that fits was found."""


def instance_of(schema: Json, seed: str) -> Json:
    """Return a value that fits `schema`; the same seed gives the same value.

    Raises `NoInstanceError`, also for a schema whose values are all endless.
    """
    try:
        return _Maker(schema, Dice(seed)).value(schema, "value", 0)
    except (SchemaError, PatternError, RecursionError, ArithmeticError) as error:
        raise NoInstanceError(f"no value fits the schema: {error}") from None


class _Maker:
    """Makes values for one schema, in bounded number and depth."""

    def __init__(self, root: Json, dice: Dice) -> None:
        self._flattener = Flattener(root)
        self._dice = dice
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
        """Take the first of the options, from a chosen one on, that some value fits."""
        rest: Json = {other: part for other, part in flat.items() if other != key}
        first = self._dice.roll(len(options)) if depth <= _FULL_DEPTH else 0
        failure: NoInstanceError | None = None
        for option in (*options[first:], *options[:first]):
            try:
                return self.value(merged(rest, option), name, depth + 1)
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
        return self._dice.choice(fitting)

    def _typed(self, flat: Schema, name: str, depth: int) -> Json:
        match inferred_type(flat):
            case "object":
                return self._object(flat, depth)
            case "array":
                return self._array(flat, name, depth)
            case "boolean":
                return self._dice.roll(2) == 1
            case "null":
                return None
            case ("number" | "integer") as kind:
                number = simulated_number(flat, kind, self._dice)
                if number is None:
                    raise NoInstanceError("no value fits the schema: an empty range")
                return number
            case _:
                text = simulated_string(flat, name, self._dice)
                self._made += len(text) // _CHARACTERS_A_VALUE
                return text

    def _object(self, flat: Schema, depth: int) -> Json:
        properties = flat.get("properties")
        known = properties if isinstance(properties, dict) else {}
        asked = flat.get("required")
        required = [str(key) for key in asked] if isinstance(asked, list) else []
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
        """Add entries under free names where the schema wants more, or speaks of nothing else."""
        extra = flat.get("additionalProperties", True)
        is_map = isinstance(extra, dict) and not made and depth < _FULL_DEPTH
        least = _count(flat, "minProperties", _USUAL_ITEMS if is_map else 0)
        names = flat.get("propertyNames")
        while len(made) < min(least, most) and extra is not False:
            if isinstance(names, dict):
                name = str(self.value(merged({"type": "string"}, names), "name", depth + 1))
            else:
                name = f"{self._dice.choice(('first', 'second', 'third'))}_{self._dice.hex(4)}"
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
            both = merged(items, contained)
            made += [self.value(both, singular, depth + 1) for _ in range(wanted)]
        if items is not False:
            self._fill(made, flat, items, singular, depth)
        if len(made) < _count(flat, "minItems", 0):
            raise NoInstanceError("no value fits the schema: too few different items")
        return made

    def _fill(self, made: list[Json], flat: Schema, items: Json, name: str, depth: int) -> None:
        """Add items up to the usual number, within what the schema allows."""
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
