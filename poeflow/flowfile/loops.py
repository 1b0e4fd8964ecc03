"""Steps that run once for each item: which those are, what names they see, and their keys."""

import re
from collections.abc import Mapping
from typing import Final

from poeflow.digest import Json, encode_json, sha256_of_json
from poeflow.flowfile.model import Flow, Loop, Step
from poeflow.flowfile.step_settings import samples_of

_CHAIN: Final = re.compile(r"\s*(?:\{\{\s*)?steps\.([a-z_][a-z0-9_]*)\s*(?:\}\})?\s*")
_OF_ITEMS: Final = frozenset({"item", "key", "loop"})
_OF_MATRIX: Final = frozenset({"matrix", "key", "loop"})
HASH_DIGITS: Final = 12


def is_fan_out(step: Step) -> bool:
    """Whether a step runs once for each item of a list or each combination of a matrix."""
    return step.for_each is not None or step.matrix is not None


def chained_to(flow: Flow, name: str) -> str | None:
    """Return the fan-out whose instances the step `name` runs over one by one, or None.

    That is what `for_each: steps.draw` means where `draw` runs once for each item itself.
    """
    written = flow.steps[name].for_each
    if isinstance(written, Loop):
        written = written.in_
    found = _CHAIN.fullmatch(written) if isinstance(written, str) else None
    if found is None or found[1] not in flow.steps or not is_fan_out(flow.steps[found[1]]):
        return None
    return found[1]


def names_of(flow: Flow, name: str) -> frozenset[str]:
    """Return what the templates of an instance of the step `name` see besides inputs and steps."""
    step = flow.steps[name]
    names: set[str] = {"sample"} if samples_of(step).count > 1 else set()
    seen: set[str] = set()
    origin: str | None = name
    while origin is not None and origin not in seen:
        seen.add(origin)
        following = chained_to(flow, origin)
        if following is not None:
            names.add("source")
        elif flow.steps[origin].for_each is not None:
            names |= _OF_ITEMS
        if flow.steps[origin].matrix is not None:
            names |= _OF_MATRIX
        origin = following
    return frozenset(names)


def key_text(value: Json) -> str:
    """Return the key of an item: a text or number itself, else 12 digits of its hash."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        return sha256_of_json(value)[:HASH_DIGITS]
    return encode_json(value).decode()


def matrix_key(combination: Mapping[str, Json]) -> str:
    """Return the key of a combination: `model=GPT-5.2,tone=dry`."""
    return ",".join(f"{axis}={key_text(value)}" for axis, value in combination.items())
