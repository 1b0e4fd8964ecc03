"""Which steps and instances a run applies to, and whether those named are there."""

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from poeflow.errors import UsageError
from poeflow.records import key_of, step_of, whole_instance, wholes_of

_SHOWN: Final = 5


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """The instances that a run applies to; the others keep the results of the last run.

    `only` are steps and ids of instances, with all that is below them; empty means all.
    `first` and `key` choose among the instances of a step: a number, and a shell pattern. If
    `every` is 3, each third instance runs, for a sample.
    Instances in `refreshed` are asked again even if an answer is stored, or all if `refreshes_all`.
    Of those in `failed`, each by its own id, only the answers that make them fail are asked again.
    `must_exist` are the steps and instances that the user has named.
    """

    only: frozenset[str] = frozenset()
    first: int | None = None
    every: int = 1
    key: str | None = None
    refreshed: frozenset[str] = frozenset()
    refreshes_all: bool = False
    failed: frozenset[str] = frozenset()
    must_exist: frozenset[str] = frozenset()

    def covers(self, name: str, key: str | None = None, index: int = 0) -> bool:
        """Return whether the run applies to the instance `name`, the `index`th of its step."""
        if key is None or not self.touches(name):
            return self.touches(name)
        is_early = (self.first is None or index < self.first) and index % self.every == 0
        return is_early and (self.key is None or fnmatchcase(key, self.key))

    def count(self, step: str, keys: Sequence[str | None]) -> int:
        """Return how many instances of a step, which have these keys, the run applies to."""
        return len(self.positions(step, keys))

    def positions(self, step: str, keys: Sequence[str | None]) -> Sequence[int]:
        """Return the positions of those instances of a step, in order."""
        if not self.only and self.key is None:
            is_loop = bool(keys) and keys[0] is not None
            return range(len(keys))[: self.first : self.every] if is_loop else range(len(keys))
        names = (step if key is None else f"{step}[{key}]" for key in keys)
        pairs = enumerate(zip(names, keys, strict=True))
        return [at for at, (name, key) in pairs if self.covers(name, key, at)]

    def touches(self, name: str) -> bool:
        """Return whether a step or instance is part of one in `only`, or contains one."""
        if not self.only or is_among(name, self.only):
            return True
        return any(name in wholes_of(one) or _may_contain(name, one) for one in self.only)

    def refreshes(self, name: str) -> bool:
        """Return whether the instance `name` is asked again even if an answer is stored."""
        return self.refreshes_all or (bool(self.refreshed) and is_among(name, self.refreshed))

    def mends(self, name: str) -> bool:
        """Return whether what fails in the instance `name`, or a sample, is asked again."""
        return bool(self.failed) and (name in self.failed or whole_instance(name) in self.failed)

    @property
    def asks_again(self) -> bool:
        """Whether some instances are asked again, and only those."""
        return bool(self.refreshed or self.failed)

    @property
    def is_sample(self) -> bool:
        return self.every > 1

    @property
    def is_whole(self) -> bool:
        return not self.only and self.first is None and self.key is None and not self.is_sample


def is_among(name: str, selected: Collection[str]) -> bool:
    """Return whether an instance, or a whole that it is part of, is selected.

    `a/b` selects that step of each instance of `a`.
    """
    if not selected:
        return False
    is_there = any(one in selected for one in wholes_of(name))
    return is_there or any(_is_part(name, one) for one in selected)


def _is_part(name: str, selected: str) -> bool:
    """Return whether an instance is part of a selected one, of which not all keys are named."""
    if "/" not in selected or "#" in selected:
        return False  # a turn is named whole
    own, wanted = _parts(name), _parts(selected)
    pairs = zip(own, wanted, strict=False)
    fits = all(step == other and key in (None, named) for (step, named), (other, key) in pairs)
    return fits and len(own) >= len(wanted)


def _may_contain(name: str, selected: str) -> bool:
    """Return whether a selected step may be in an instance, as no other key is named."""
    own, wanted = _parts(name), _parts(selected)
    pairs = zip(own, wanted, strict=False)
    fits = all(
        step == other and (key == named or None in (key, named))
        for (step, named), (other, key) in pairs
    )
    return fits and len(own) < len(wanted)


def _parts(name: str) -> tuple[tuple[str, str | None], ...]:
    """Return the steps of an instance from the outer flow down, each with its key."""
    above, _, step = step_of(name).rpartition("/")
    return (*(_parts(above) if above else ()), (step, key_of(name)))


def check_keys(name: str, keys: Sequence[str | None], selected: Collection[str]) -> None:
    """Raise `UsageError` if a selected instance does not exist in the step.

    `name` is the full name of the step, `keys` are those of its instances: only None if it runs
    once.
    """
    if not selected:
        return
    known = {f"{name}[{key}]" for key in keys}
    for one in set(selected) - known:
        for part in wholes_of(one):
            key = key_of(part) if step_of(part) == name else None
            if key is not None and key not in keys:
                raise UsageError(f"no key of {name} matches {key}", hint=_shown_keys(name, keys))


def check_glob(loops: Mapping[str, Sequence[str | None]], pattern: str) -> None:
    """Raise `UsageError` if a pattern matches no key of any of the `loops`: keys by step."""
    if any(fnmatchcase(key or "", pattern) for keys in loops.values() for key in keys):
        return
    if not loops:
        hint = "--key chooses among the instances of loops"
        raise UsageError(f"--key {pattern}: no step runs over several items", hint=hint)
    hint = "; ".join(_shown_keys(step, keys) for step, keys in loops.items())
    raise UsageError(f"no key of {', '.join(loops)} matches {pattern}", hint=hint)


def _shown_keys(step: str, keys: Sequence[str | None]) -> str:
    if list(keys) == [None]:
        return f"{step} runs once: name it without a key"
    found = [str(key) for key in keys[:_SHOWN]]
    more = f" and {len(keys) - _SHOWN:,} more" if len(keys) > _SHOWN else ""
    return f"{step} has {', '.join(found)}{more}" if keys else f"{step} has none"
