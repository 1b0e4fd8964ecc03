"""Values as text and JSON, the results of instances, and what is known of expressions for values.

Of data only what its schema says for certain is known: a part of it that says more, such as
`anyOf`, leaves everything below it open.
"""

import math
from collections.abc import Container, Iterable, Mapping
from itertools import islice
from typing import Any, Final, Literal

from jinja2.runtime import Undefined

from poeflow.digest import Json, key_text
from poeflow.flowfile.patterns import one_of
from poeflow.lazy_pattern import lazy_pattern


def to_text(value: object) -> str:
    """Return a value as text.

    Raises `TypeError` for values without an obvious text: none, true, false, lists, mappings.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        shown = {None: "none", True: "true", False: "false"}[value]
        raise TypeError(f"{shown} has no text of its own; use | tojson, or test it with if")
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Undefined):
        return str(value)  # raises: the environment's undefined values are strict
    if isinstance(value, list | tuple):
        raise TypeError("a list has no text of its own; use | tojson, | join(', ') or a loop")
    if isinstance(value, Mapping):
        raise TypeError("a mapping has no text of its own; use | tojson or name one of its keys")
    if callable(value):
        raise TypeError("a function is not text; call it with ()")
    raise TypeError(f"a {type(value).__name__} has no text of its own")


def to_json(value: Any) -> Any:
    """Return a value as JSON data. Raises `TypeError`, or the error of an undefined value."""
    if isinstance(value, Mapping):
        return {_key(key): to_json(part) for key, part in value.items()}
    if isinstance(value, list | tuple | range):
        return [to_json(part) for part in value]
    if value is None or isinstance(value, bool | float):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("the result is not a finite number")
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise ValueError("the result is a number over 64 bits")
        return value
    return encodable(to_text(value))


def encodable(text: str) -> str:
    """Return `text` if it can be encoded as UTF-8. Raises `ValueError`."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        character = f"\\u{ord(text[error.start]):04x}"
        raise ValueError(f"the text holds half a character ({character})") from None
    return text


def _key(key: object) -> str:
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise TypeError(f"the key {key!r} of a mapping is not text")
    return str(key)


RESULT_ITEM_NAMES: Final = ("item", "matrix")
"""The names by which a result has the item that it was made for, if that comes from no step."""


class InstanceValue(dict[str, Json]):
    """The result of one instance, with its item."""

    def columns(self, *, with_scores: bool = False) -> dict[str, Json]:
        """Return the cells of a table row: the key, the columns of the item, and the result.

        The result is the outputs of a used flow, the chosen word, else the fields of the data, else
        the text; a field with the name of a column of the item is called `answer.NAME`. Scores are
        how it was judged: `passed`, `score` and `unmet`, what was not as expected.
        """
        item, matrix = self.get("item"), self.get("matrix")
        own: dict[str, Json] = {"key": self["key"]}
        if isinstance(item, dict):
            own |= item
        elif item not in (None, self["key"]):
            own["item"] = item
        own |= matrix if isinstance(matrix, dict) else {}
        found = own | _apart(self._results, own)
        return found | (_apart(self._scores, found) if with_scores else {})

    @property
    def _scores(self) -> dict[str, Json]:
        if "verdicts" not in self:
            raise TypeError("only results of a step with expect: have scores: write steps.ID.all")
        judged = self["verdicts"]
        found = [one for one in judged if isinstance(one, dict)] if isinstance(judged, list) else []
        unmet = "; ".join(str(one["message"]) for one in found if not one["passed"])
        return {"passed": self["passed"], "score": self["score"], "unmet": unmet}

    @property
    def _results(self) -> dict[str, Json]:
        """Return the fields of the result by name."""
        data, results, outputs = self["data"], dict[str, Json](), self["outputs"]
        if isinstance(outputs, dict) and outputs:
            results = dict(outputs)
        elif self["value"] is not None:
            results = {"value": self["value"]}
        elif isinstance(data, dict):
            results = dict(data)
        elif data is not None:
            results = {"data": data}
        elif self["text"] is not None:
            results = {"text": self["text"]}
        if self["media"]:
            results["media"] = self["media"]
        results |= {"used_default": True} if self["used_default"] else {}
        return results if self["error"] is None else {**results, "error": self["error"]}


def _apart(cells: Mapping[str, Json], others: Container[str]) -> dict[str, Json]:
    """Return cells whose columns are called differently from others."""
    return {f"answer.{name}" if name in others else name: cell for name, cell in cells.items()}


class Instances(dict[str, Json]):
    """Instances by key: `steps.ID["key"]`. `all` are those that were not skipped, in order.

    `own` maps keys to the items, if they are known.
    """

    def __init__(
        self,
        by_key: Mapping[str, Mapping[str, Json]],
        *,
        status: str,
        own: Mapping[str, Mapping[str, Json]],
    ) -> None:
        entries = {
            key: InstanceValue({**own.get(key, {}), **value}) for key, value in by_key.items()
        }
        super().__init__(entries)
        self.status = status
        self.all: list[Json] = [
            instance for instance in entries.values() if instance["status"] != "skipped"
        ]

    def attribute(self, name: str) -> Json:
        """Return `steps.ID.name` in a template. Raises `LookupError`."""
        match name:
            case "all":
                return self.all
            case "status":
                return self.status
        raise LookupError(f'the step ran once for each item: write .all or ["key"], not .{name}')

    def instance(self, key: Json) -> Json:
        """Return the instance with that key, a number or a text. Raises `LookupError`."""
        text = key_text(key)
        if text in self:
            return self[text]
        known = ", ".join(name[:40] for name in islice(self, 12)) or "nothing"
        raise LookupError(f'there is no instance "{text[:80]}" here, only {known}')


_MAX_DEPTH: Final = 16
_SAYS_MORE: Final = frozenset(
    {
        *("$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "then", "else"),
        *("dependentSchemas", "patternProperties", "unevaluatedProperties", "prefixItems"),
    }
)
_OF_LISTS: Final = frozenset({"count", "index"})
LENGTHS: Final = frozenset({"length", "len", "size"})
"""What the length of a list or text is called elsewhere."""


class Shape:
    """A mapping with these names, or a list of items; None stands for what is not known.

    A mapping `is_open` if its schema allows other names, too. Two shapes are equal only if they are
    the same one, so that comparing them is quick.
    """

    __slots__ = ("is_open", "items", "kind", "names")

    def __init__(
        self,
        kind: Literal["mapping", "list"],
        names: Mapping[str, "Shape | None"],
        items: "Shape | None",
        *,
        is_open: bool,
    ) -> None:
        self.kind = kind
        self.names = names
        self.items = items
        self.is_open = is_open

    def missing(self, name: str) -> tuple[str, str] | None:
        """Return what is wrong with looking up a name, and a hint."""
        if self.kind == "list":
            return None if name in _OF_LISTS else self.not_of_list(name)
        if name in self.names:
            return None
        verb = "does not name" if self.is_open else "allows no"
        return f'the schema of this data {verb} "{name}"', one_of(name, self.names)

    @staticmethod
    def not_of_list(name: str) -> tuple[str, str]:
        """Return what is wrong with looking up a name in a list, and a hint."""
        hint = "write | length" if name in LENGTHS else "write [0], | first, or a loop over it"
        return f'a list has no "{name}"', hint

    def at(self, way: Iterable[str]) -> "Shape | None":
        """Return the shape below some names, None if it is not known."""
        found: Shape | None = self
        for name in way:
            found = None if found is None else found.names.get(name)
        return found


def shape_of(schema: Mapping[str, Json] | None, depth: int = 0) -> Shape | None:
    """Return the shape of the data that fits a JSON Schema, None if that is not known."""
    if schema is None or depth > _MAX_DEPTH or not _SAYS_MORE.isdisjoint(schema):
        return None
    if schema.get("type") == "array":
        return Shape("list", {}, _below(schema.get("items"), depth), is_open=False)
    properties = schema.get("properties")
    if schema.get("type") != "object" or not isinstance(properties, dict) or not properties:
        return None
    others, required = schema.get("additionalProperties", True), schema.get("required")
    if isinstance(others, dict):
        return None  # it describes names that it does not list
    names = dict.fromkeys(map(str, required if isinstance(required, list) else ()))
    names |= {name: _below(part, depth) for name, part in properties.items()}
    return Shape("mapping", names, None, is_open=others is not False)


def _below(schema: Json, depth: int) -> Shape | None:
    return shape_of(schema, depth + 1) if isinstance(schema, dict) else None


KnownShapes = tuple[tuple[str, Shape], ...]
_STEP: Final = lazy_pattern(r"(?:\{\{)?\s*steps\.(\w+)\s*(?:\}\})?")
_DATA_OF_STEP: Final = lazy_pattern(r"(?:\{\{)?\s*steps\.(\w+)\.data((?:\.\w+)*)\s*(?:\}\})?")


def known_shapes(
    schemas: Mapping[str, Mapping[str, Json] | None], loops: Mapping[str, str]
) -> dict[str | None, KnownShapes]:
    """Return the shapes that the texts of each step can use; those outside steps under None.

    They are those of the data of steps, as `steps.ID`, and of what a step sees under names of its
    own: `item`, `source.data`, `output.data` and `previous.data`. `schemas` are those of the data,
    `loops` the expressions for the items, by step.
    """
    found = {f"steps.{name}": shape_of(schema) for name, schema in schemas.items()}
    known = {root: shape for root, shape in found.items() if shape is not None}
    of_step = {name: _own_shapes(name, loops, known) if known else {} for name in schemas}
    shapes: dict[str | None, KnownShapes] = {None: tuple(known.items())}
    return shapes | {name: (*known.items(), *own.items()) for name, own in of_step.items()}


def _own_shapes(
    name: str, loops: Mapping[str, str], known: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Return the shapes of what a step sees under names of its own."""
    own, written = known.get(f"steps.{name}"), loops[name].strip()
    found: dict[str, Shape | None] = dict.fromkeys(("output.data", "previous.data"), own)
    origin = _STEP.fullmatch(written)
    if origin is not None:
        found["source.data"] = known.get(f"steps.{origin[1]}")
    seen = {name}
    while origin is not None and origin[1] in loops.keys() - seen:
        seen.add(origin[1])
        written = loops[origin[1]].strip()
        origin = _STEP.fullmatch(written)
    of_step = _DATA_OF_STEP.fullmatch(written)
    if of_step is not None and (data := known.get(f"steps.{of_step[1]}")) is not None:
        rows = data.at(of_step[2].split(".")[1:])
        found["item"] = None if rows is None else rows.items
    return {root: shape for root, shape in found.items() if shape is not None}
