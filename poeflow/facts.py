"""Instances: what they are called, how they stand, and why.

An id is `STEP`, `STEP[KEY]` in a loop, `STEP#2` for a sample, and `USER/STEP` in a used flow.
"""

import re
from collections.abc import Collection, Iterator
from typing import Final, Literal

import msgspec

from poeflow.digest import Json
from poeflow.events import Purpose

Measure = Literal["instance", "step", "limit", "usual"]
Standing = Literal[
    "fresh", "new", "stale", "missing", "edited", "needed", "unknown", "skipped", "orphaned"
]


_STEP: Final = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE)
_PATH: Final = rf"{_STEP.pattern}(?:/{_STEP.pattern})*"
_LAST: Final = re.compile(rf"({_PATH})(?:\[(.*)\])?(?:#([0-9]+))?", re.IGNORECASE | re.DOTALL)
_AT: Final = re.compile(rf"{_PATH}@", re.IGNORECASE)


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one kind that a run would send for an instance: `least` to `most` of them.

    `model` is None where it is not known before the run. `prompt_tokens` are those of each on
    average. `answer_tokens` are a guess that is taken from what `answer_from` says: the last answer
    of the instance, the mean of other instances of its step, the limit an answer has, or what is
    usual for its kind; None where there is no telling.
    """

    purpose: Purpose
    model: str | None
    least: int
    most: int
    prompt_tokens: int
    answer_tokens: int | None = None
    answer_from: Measure | None = None


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """How one instance stands.

    `reasons` are all there are. `calls` is how many requests a run would send for it at least,
    `most_calls` with every repair, tool round and judge, failed attempts left out; `kinds` says
    which, also of an unknown instance that may have to be asked. `model` is whom it would ask,
    `request` what it would send, attachments as hashes; None where that is not known before another
    step has run.
    """

    id: str
    state: Standing
    reasons: tuple[str, ...] = ()
    calls: int = 0
    most_calls: int | None = 0
    model: str | None = None
    request: dict[str, Json] | None = None
    kinds: tuple[Calls, ...] = ()

    @property
    def is_current(self) -> bool:
        """Whether a run would change nothing."""
        return self.state in ("fresh", "skipped")


def outer_step(instance: str) -> str:
    """Return the step of the flow itself that an instance is of, or is used by."""
    found = _STEP.match(instance)
    return instance if found is None else found[0]


def step_of(instance: str) -> str:
    """Return the step an instance is of, with those it is used by: `a/b` of `a/b[key]#2`."""
    return _parted(instance)[0]


def whole_instance(name: str) -> str:
    """Return the instance that one of several samples is of: `a[key]` of `a[key]#2`."""
    step, key, sample = _parted(name)
    if sample is None:
        return name
    return step if key is None else f"{step}[{key}]"


def key_of(instance: str) -> str | None:
    """Return the key of an instance, None where its step runs once."""
    return _parted(instance)[1]


def wholes_of(instance: str) -> Iterator[str]:
    """Yield an instance and all it is part of: `a[x]/b#2`, `a[x]/b`, `a[x]`, `a`."""
    yield instance
    step, key, sample = _parted(instance)
    if sample is not None and key is not None:
        yield f"{step}[{key}]"
    if step != instance:
        yield step
    above, _, _ = step.rpartition("/")
    if above:
        yield from wholes_of(above)


def path_of(instance: str) -> tuple[str, ...]:
    """Return the names of the steps from the flow's own down: `a`, `b` of `a[x]/b[y]`."""
    steps = (one for one in wholes_of(instance) if step_of(one) == one)
    return tuple(one.rpartition("/")[2] for one in steps)[::-1]


def instance_id(written: str) -> str:
    """Return the id that `STEP@KEY` stands for; one that is written as it is printed stays so.

    A step's name ends at the first `@` behind it, and all the rest is the key.
    """
    found = _AT.match(written)
    if found is not None:
        return f"{written[: found.end() - 1]}[{written[found.end() :]}]"
    step, separator, key = written.rpartition("]/")
    inner = _AT.match(key) if separator else None
    if inner is None:
        return written
    return f"{step}]/{key[: inner.end() - 1]}[{key[inner.end() :]}]"


def as_written(instance: str) -> str:
    """Return an instance as a command line names it: `STEP@KEY`, the step alone without a key."""
    step, key, sample = _parted(instance)
    return instance if key is None or sample is not None else f"{step}@{key}"


def named(written: str, known: Collection[str]) -> str:
    """Return the id among those `known` that is meant by one as it is printed, or by `STEP@KEY`.

    Where there is none, it is the id that `written` stands for.
    """
    wanted = instance_id(written)
    if written in known or wanted in known:
        return written if written in known else wanted
    return next((one for one in known if as_written(one) == written), wanted)


def _parted(instance: str) -> tuple[str, str | None, str | None]:
    """Return the step, key and sample of an instance: `a[x]/b`, `y`, `2` of `a[x]/b[y]#2`.

    A key may hold anything, so the parts are looked for from the end: what follows the last `]/`
    that can stand between a flow's user and a step of it is the step.
    """
    at = instance.rfind("]/")
    while at >= 0:
        found = _LAST.fullmatch(instance, at + 2)
        if found is not None:
            return f"{instance[: at + 2]}{found[1]}", found[2], found[3]
        at = instance.rfind("]/", 0, at + 1)
    found = _LAST.fullmatch(instance)
    return (instance, None, None) if found is None else (found[1], found[2], found[3])
