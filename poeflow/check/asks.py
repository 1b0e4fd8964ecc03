"""Which models a flow may ask: of its steps, their fallbacks and judges, and its aliases."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from poeflow.spec.model import Flow, Step
from poeflow.spec.resolve import (
    POE,
    Settings,
    fallback_settings,
    judge_settings,
    model_of,
    settings_of,
)
from poeflow.spec.tree import Path

_TEMPLATE: Final = re.compile(r"\{[{%#]")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One model a flow may ask: with what, and where its name stands.

    `step` is the step whose attachments and tools it is sent, None for a judge.
    """

    settings: Settings
    at: Path
    step: str | None = None


def asks_of_poe(flow: Flow) -> Iterator[Ask]:
    """Yield every bot of Poe that a flow names, in order of the file, aliases without use last.

    Left out are other providers, and models that are only known in a run.
    """
    for ask in _asks(flow):
        model = ask.settings.model
        if model is not None and not _TEMPLATE.search(model) and ask.settings.provider == POE:
            yield ask


def _asks(flow: Flow) -> Iterator[Ask]:
    """Yield every model that is named: by a step, as its fallback or judge, or as an alias."""
    unnamed = dict.fromkeys(flow.models)
    last: Settings | None = None
    for name, step in flow.steps.items():
        if step.kind != "model":
            continue
        given = model_of(flow, name)
        named = None if given is None else str(given.value)
        last = settings_of(flow, name, named=named)
        if given is not None:
            yield Ask(settings=last, at=given.path, step=name)
        for index, other in enumerate(last.fallback):
            path = _fallback_path(step, name, named or "", index)
            yield Ask(settings=fallback_settings(flow, name, other), at=path, step=name)
        for index, judge in _judges(step):
            path = ("steps", name, "expect", index, "judge", "model")
            yield Ask(settings=judge_settings(flow, judge, last), at=path)
        for used in (named or "", *last.fallback):
            unnamed.pop(used, None)
    if last is not None:
        for alias in unnamed:
            yield Ask(settings=judge_settings(flow, alias, last), at=("models", alias, "model"))


def _fallback_path(step: Step, name: str, named: str, index: int) -> Path:
    owner: Path = ("models", named) if step.fallback is None else ("steps", name)
    return (*owner, "fallback", index)


def _judges(step: Step) -> Iterator[tuple[int, str]]:
    for index, expectation in enumerate(step.expect):
        if expectation.judge is not None and expectation.judge.model is not None:
            yield index, expectation.judge.model
