"""Values as text and JSON, and the results of instances in templates."""

import math
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from jinja2.runtime import Undefined

from poeflow.digest import Json
from poeflow.flowfile.loops import key_text


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


OWN: Final = ("item", "matrix")
"""What results contain besides the result itself: the item, if it comes from no step."""


class InstanceValue(dict[str, Json]):
    """The result of one instance, with its item."""

    @property
    def columns(self) -> dict[str, Json]:
        """The cells of a table row: the key, the columns of the item, and the result.

        The result is the chosen word, else the fields of the data, else the text; a field with
        the name of a column of the item is called `answer.NAME`.
        """
        item, matrix = self.get("item"), self.get("matrix")
        own: dict[str, Json] = {"key": self["key"]}
        own |= (
            item
            if isinstance(item, dict)
            else {}
            if item in (None, self["key"])
            else {"item": item}
        )
        own |= matrix if isinstance(matrix, dict) else {}
        return own | {
            f"answer.{name}" if name in own else name: value
            for name, value in self._results.items()
        }

    @property
    def _results(self) -> dict[str, Json]:
        """Return the fields of the result by name."""
        data, results = self["data"], dict[str, Json]()
        if self["value"] is not None:
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
