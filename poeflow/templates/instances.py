"""The results of a step that ran once for each item, as templates and their tables see them."""

from collections.abc import Mapping
from itertools import islice
from typing import Final

from poeflow.digest import Json
from poeflow.flowfile.loops import key_text

OWN: Final = ("item", "matrix")
"""What an instance has besides its result: what it ran over, where that is no step's answer."""


class Entry(dict[str, Json]):
    """The result of one instance, with what it ran over."""

    @property
    def columns(self) -> dict[str, Json]:
        """What a table has of it: its key, the columns it ran over, and what came of it.

        That is the word it chose, else the fields of its data, else its text; what is called like
        a column it ran over is called `answer.NAME`.
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
            f"answer.{name}" if name in own else name: value for name, value in self._came.items()
        }

    @property
    def _came(self) -> dict[str, Json]:
        """Return what came of the instance, by name."""
        data, came = self["data"], dict[str, Json]()
        if self["value"] is not None:
            came = {"value": self["value"]}
        elif isinstance(data, dict):
            came = dict(data)
        elif data is not None:
            came = {"data": data}
        elif self["text"] is not None:
            came = {"text": self["text"]}
        if self["media"]:
            came["media"] = self["media"]
        return came if self["error"] is None else {**came, "error": self["error"]}


class Instances(dict[str, Json]):
    """Instances by key: `steps.ID["key"]`. `all` are those that were not skipped, in order.

    `own` has by key what each ran over, where that is known.
    """

    def __init__(
        self,
        by_key: Mapping[str, Mapping[str, Json]],
        *,
        status: str,
        own: Mapping[str, Mapping[str, Json]],
    ) -> None:
        entries = {key: Entry({**own.get(key, {}), **value}) for key, value in by_key.items()}
        super().__init__(entries)
        self.status = status
        self.all: list[Json] = [one for one in entries.values() if one["status"] != "skipped"]

    def attribute(self, name: str) -> Json:
        """Return what a template sees as `steps.ID.name`. Raises `LookupError`."""
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
