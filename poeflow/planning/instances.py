"""A step's instances: one where it runs once, else one for each item, each with a key."""

from collections.abc import Mapping

import msgspec

from poeflow.digest import Json


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a step. `key` is None where the step runs once.

    `names` are what its templates see besides inputs and steps: `item`, `key`, `loop`, `matrix`.
    """

    step: str
    key: str | None = None
    names: Mapping[str, Json] = {}

    @property
    def id(self) -> str:
        """What it is called everywhere: `translate[German]`."""
        return self.step if self.key is None else f"{self.step}[{self.key}]"
