"""How instances stand: what a plan says of each, and why."""

import re
from typing import Literal

import msgspec

from poeflow.digest import Json

Standing = Literal[
    "fresh", "new", "stale", "missing", "edited", "needed", "unknown", "skipped", "orphaned"
]


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """How one instance stands.

    `reasons` are all there are. `calls` is how many requests a run would send for it at least,
    `most_calls` with every repair, tool round and judge, failed attempts left out. `model` is whom
    it would ask, `request` what it would send, attachments as hashes; None where that is not known
    before another step has run.
    """

    id: str
    state: Standing
    reasons: tuple[str, ...] = ()
    calls: int = 0
    most_calls: int | None = 0
    model: str | None = None
    request: dict[str, Json] | None = None

    @property
    def is_current(self) -> bool:
        """Whether a run would change nothing."""
        return self.state in ("fresh", "skipped")


def outer_step(instance: str) -> str:
    """Return the step of the flow itself that an instance is of, or is used by."""
    return re.split(r"[\[#/]", instance, maxsplit=1)[0]


def step_of(instance: str) -> str:
    """Return the step an instance is of, with those it is used by: `a/b` of `a/b[key]#2`.

    A key may hold anything: the first bracket after the last step's name opens it.
    """
    at = instance.find("[")
    if at < 0:
        return instance.partition("#")[0]
    closed = instance.rfind("]/")
    if closed > at:
        return instance[: closed + 2] + step_of(instance[closed + 2 :])
    return instance[:at]


def key_of(instance: str) -> str | None:
    """Return the key of an instance, None where its step runs once."""
    rest = instance[len(step_of(instance)) :]
    return rest[1 : rest.rindex("]")] if rest.startswith("[") else None


def instance_id(step: str) -> str:
    """Return the id of what the command line calls `STEP@KEY`."""
    name, separator, key = step.partition("@")
    return f"{name}[{key}]" if separator else name
