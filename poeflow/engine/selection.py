"""Which instances of a flow a user means: a step, or one of its instances."""

import re
from typing import Final

import msgspec

_ENDS: Final = re.compile(r"[\[#/]")


class Refresh(msgspec.Struct, frozen=True, kw_only=True):
    """Which instances are asked again where an answer is stored: all, or those selected.

    `selected` are steps and ids of instances; what is below one of them is meant too.
    """

    everything: bool = False
    selected: frozenset[str] = frozenset()

    def covers(self, name: str) -> bool:
        """Whether the instance called `name` is asked again."""
        if self.everything or name in self.selected:
            return True
        return any(name[: found.start()] in self.selected for found in _ENDS.finditer(name))


def instance_id(step: str) -> str:
    """Return the id of what the command line calls `STEP@KEY`."""
    name, separator, key = step.partition("@")
    return f"{name}[{key}]" if separator else name
