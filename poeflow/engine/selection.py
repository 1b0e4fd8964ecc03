"""Which instances of a flow a user means: a step, one of its instances, or some of each step."""

from collections.abc import Collection
from fnmatch import fnmatchcase

import msgspec

from poeflow.engine.plan import Plan
from poeflow.errors import UsageError
from poeflow.facts import key_of, outer_step, step_of, wholes_of
from poeflow.spec.hints import one_of


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which instances a run is about; the others are taken as the last run left them.

    `named` are steps and ids of instances, what is below one of them included; empty means all.
    Of a step with many instances `first` takes so many, and `key` those it matches, as in a shell.
    Where an answer is stored, those among `again` are asked again: all where `is_all_again`.
    """

    named: frozenset[str] = frozenset()
    first: int | None = None
    key: str | None = None
    again: frozenset[str] = frozenset()
    is_all_again: bool = False

    def covers(self, name: str, key: str | None = None, index: int = 0) -> bool:
        """Whether the run is about the instance called `name`, the `index`th of its step."""
        if key is None or not self.touches(name):
            return self.touches(name)
        is_early = self.first is None or index < self.first
        return is_early and (self.key is None or fnmatchcase(key, self.key))

    def touches(self, name: str) -> bool:
        """Whether any that are named are part of a step or an instance, or it is of them."""
        if not self.named or is_among(name, self.named):
            return True
        return any(name in wholes_of(one) for one in self.named)

    def asks_again(self, name: str) -> bool:
        """Whether the instance called `name` is asked even where an answer is stored."""
        return self.is_all_again or is_among(name, self.again)

    @property
    def is_whole(self) -> bool:
        return not self.named and self.first is None and self.key is None


def is_among(name: str, selected: Collection[str]) -> bool:
    """Whether an instance, or what it is part of, is one of those selected."""
    return any(one in selected for one in wholes_of(name))


def check_steps(plan: Plan, selected: Collection[str]) -> None:
    """Raise `UsageError` where one of those selected is not in the flow."""
    for one in selected:
        step = outer_step(one)
        if step not in plan.order:
            message = f'there is no step "{step}" in {plan.file.name}'
            raise UsageError(message, hint=one_of(step, plan.order))


def up_to(plan: Plan, selected: Collection[str]) -> frozenset[str]:
    """Return those selected with all they need; what runs over a step needs its own key of it."""
    found = set(selected)
    waiting = list(selected)
    while waiting:
        one = waiting.pop()
        step = outer_step(one)
        for need in plan.edges[step]:
            is_source = plan.checked.chains.get(step) == need
            key = _outer_key(one) if is_source else None
            name = need if key is None else f"{need}[{key}]"
            if name not in found:
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def _outer_key(instance: str) -> str | None:
    """Return the key that the flow itself gave an instance, or the one it is part of."""
    step = outer_step(instance)
    return next((key_of(one) for one in wholes_of(instance) if step_of(one) == step), None)
