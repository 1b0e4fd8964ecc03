"""Which models a flow may ask: of its steps, their fallbacks and judges, and its aliases."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from poeflow.flowfile.model import Flow, Step
from poeflow.flowfile.step_settings import (
    POE,
    Settings,
    judge_settings,
    model_of,
    settings_of,
)
from poeflow.flowfile.tree import KeyPath

_ALIAS: Final = 3
"""How many parts the place of an alias's own model has."""
_TEMPLATE: Final = re.compile(r"\{[{%#]")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One model a flow may ask: with what, and where its name stands.

    `step` is the step whose attachments and tools it is sent, None for a judge.
    """

    settings: Settings
    at: KeyPath
    step: str | None = None

    @property
    def is_literal(self) -> bool:
        """Whether the name is known before a run."""
        model = self.settings.model
        return model is not None and not _TEMPLATE.search(model)

    @property
    def is_known_of_poe(self) -> bool:
        """Whether it asks a bot of Poe, whose name is known before a run."""
        return self.is_literal and self.settings.provider == POE

    @property
    def is_used(self) -> bool:
        """Whether a step names it, and not an alias alone."""
        return not (len(self.at) == _ALIAS and self.at[0] == "models")


def asks(flow: Flow) -> Iterator[Ask]:
    """Yield every model that is named: by a step, as its fallback or judge, or as an alias.

    In order of the file, aliases that no step names last. One name may come many times.
    """
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
        owner: KeyPath = ("models", named or "") if step.fallback is None else ("steps", name)
        for index, other in enumerate(last.fallback):
            settings = judge_settings(flow, other, last)  # a fallback, too, has what is its own
            yield Ask(settings=settings, at=(*owner, "fallback", index), step=name)
        for index, judge in _judges(step):
            path = ("steps", name, "expect", index, "judge", "model")
            yield Ask(settings=judge_settings(flow, judge, last), at=path)
        for used in (named or "", *last.fallback):
            unnamed.pop(used, None)
    if last is not None:
        for alias in unnamed:
            yield Ask(settings=judge_settings(flow, alias, last), at=("models", alias, "model"))


def _judges(step: Step) -> Iterator[tuple[int, str]]:
    for index, expectation in enumerate(step.expect):
        if expectation.judge is not None and expectation.judge.model is not None:
            yield index, expectation.judge.model
