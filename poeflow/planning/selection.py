"""Which instances of a flow a user means: a step, one of its instances, or some of each step."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from poeflow.errors import UsageError
from poeflow.facts import key_of, outer_step, path_of, step_of, wholes_of
from poeflow.flowfile.hints import one_of
from poeflow.planning.checked import Checked
from poeflow.planning.plan import Plan

_SHOWN: Final = 5


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which instances a run is about; the others are taken as the last run left them.

    `named` are steps and ids of instances, what is below one of them included; empty means all.
    Of a step with many instances `first` takes so many, and `key` those it matches, as in a shell.
    Where an answer is stored, those among `again` are asked again: all where `is_all_again`.
    `wanted` are the steps and instances the caller has written, which must be there.
    """

    named: frozenset[str] = frozenset()
    first: int | None = None
    key: str | None = None
    again: frozenset[str] = frozenset()
    is_all_again: bool = False
    wanted: frozenset[str] = frozenset()

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


def check_steps(checked: Checked, selected: Collection[str]) -> None:
    """Raise `UsageError` if one of those selected is of no step, of the flow or of one it uses."""
    for one in selected:
        flow: Checked | None = checked
        for step in path_of(one):
            if flow is None and "[" in one:
                break  # a key that looks like a part of an id
            if flow is None:
                raise UsageError(
                    f"there is no {one}", hint="only a step that uses a flow has steps"
                )
            if step not in flow.order:
                message = f'there is no step "{step}" in {flow.file.name}'
                raise UsageError(message, hint=one_of(step, flow.order))
            flow = flow.children.get(step)


def check_keys(name: str, keys: Sequence[str | None], selected: Collection[str]) -> None:
    """Raise `UsageError` if one of those selected is an instance that the step does not have.

    `name` is the step, with those that use its flow, and `keys` are of its instances: None alone
    if it runs once.
    """
    known = {f"{name}[{key}]" for key in keys}
    for one in set(selected) - known:
        for part in wholes_of(one):
            key = key_of(part) if step_of(part) == name else None
            if key is not None and key not in keys:
                raise UsageError(f"no key of {name} matches {key}", hint=_keys_of(name, keys))


def check_glob(loops: Mapping[str, Sequence[str | None]], pattern: str) -> None:
    """Raise `UsageError` if a pattern matches no key of any of the `loops`: keys by step."""
    if any(fnmatchcase(key or "", pattern) for keys in loops.values() for key in keys):
        return
    if not loops:
        hint = "--key chooses among the instances of loops"
        raise UsageError(f"--key {pattern}: no step runs over several items", hint=hint)
    hint = "; ".join(_keys_of(step, keys) for step, keys in loops.items())
    raise UsageError(f"no key of {', '.join(loops)} matches {pattern}", hint=hint)


def _keys_of(step: str, keys: Sequence[str | None]) -> str:
    if list(keys) == [None]:
        return f"{step} runs once: name it without a key"
    found = [str(key) for key in keys[:_SHOWN]]
    more = f" and {len(keys) - _SHOWN:,} more" if len(keys) > _SHOWN else ""
    return f"{step} has {', '.join(found)}{more}" if keys else f"{step} has none"


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
