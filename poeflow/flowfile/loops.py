"""Steps that run many times: which do, the names they define, their keys, their number."""

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from heapq import nsmallest
from itertools import product
from typing import Final

import msgspec

from poeflow.digest import Json, canonical, key_text, sha256_of
from poeflow.flowfile.model import Flow, Loop, Samples, Step
from poeflow.lazy_pattern import lazy_pattern
from poeflow.project.lazy_items import file_finder

_CHAIN: Final = lazy_pattern(r"\s*(?:\{\{\s*)?steps\.([a-z_][a-z0-9_]*)\s*(?:\}\})?\s*")
_SAMPLE: Final = lazy_pattern(r"\{\{[^}]*\bsample\b")
_COLUMN: Final = lazy_pattern(r"\s*(?:\{\{\s*)?item\.([A-Za-z_]\w*)\s*(?:\}\})?\s*")
ITEM_NAMES: Final = frozenset({"item", "loop", "matrix"})
"""What an instance has of its item, or its combination, besides the key."""
_OF_ITEMS: Final = frozenset({"item", "key", "loop"})
OF_TURNS: Final = frozenset({"previous", "repeat"})
_OF_MATRIX: Final = frozenset({"matrix", "key", "loop"})
MAX_FITS: Final = 1_000_000
"""How many comparisons with entries and added keys a matrix may take: a few seconds of work."""
MAX_INSTANCES: Final = 20_000
"""How many instances a plan may have unless the user allows more: a few seconds of work.

Those of the rows of tables are not among them.
"""
MAX_ROWS: Final = 100_000
"""How many instances of the rows of tables it may have besides: no row is a product of others."""
_CHARACTERS_PER_INSTANCE: Final = 160
"""How many characters the keys may have on average over the limit of instances."""
Combination = dict[str, Json]
Positions = tuple[int, ...]


def is_fan_out(step: Step) -> bool:
    """Return whether a step runs once for each item of a list or combination of a matrix."""
    return step.for_each is not None or step.matrix is not None


def chained_to(flow: Flow, name: str) -> str | None:
    """Return the fan-out whose instances the step `name` runs over one by one, or None.

    That is the meaning of `for_each: steps.draw` if `draw` itself runs once for each item.
    """
    loop = flow.steps[name].for_each
    if loop is None:
        return None
    written = loop.in_ if isinstance(loop, Loop) else loop
    found = _CHAIN.fullmatch(written) if isinstance(written, str) else None
    if found is None or found[1] not in flow.steps or not is_fan_out(flow.steps[found[1]]):
        return None
    return found[1]


def loop_of(flow: Flow, name: str) -> Loop | None:
    """Return the loop that gives a step its items: its own, or that of the step it runs over."""
    seen: set[str] = set()
    while name not in seen and (source := chained_to(flow, name)) is not None:
        seen.add(name)
        name = source
    loop = flow.steps[name].for_each
    return loop if isinstance(loop, Loop) else None


def carry_of(step: Step) -> str | None:
    """Return the expression for what each instance of a step takes from the one before, or None."""
    return step.for_each.carry if isinstance(step.for_each, Loop) else None


SELF: Final = "self"
"""As `history`: the instances of a loop are turns of one conversation."""


def continues_itself(flow: Flow, name: str) -> bool:
    """Return whether each instance of a step continues the conversation of the one before."""
    step = flow.steps[name]
    return step.history == SELF and step.for_each is not None and SELF not in flow.steps


def continued_steps(flow: Flow) -> frozenset[str]:
    """Return the steps whose conversation anything continues."""
    histories = {step.history for step in flow.steps.values() if step.history is not None}
    own = (name for name in flow.steps if name in histories or continues_itself(flow, name))
    return frozenset(own)


def is_fold(flow: Flow, name: str) -> bool:
    """Return whether the instances of a step run in order, as each builds on the one before."""
    return carry_of(flow.steps[name]) is not None or continues_itself(flow, name)


def names_of(flow: Flow, name: str) -> frozenset[str]:
    """Return the names that templates of step `name` can use besides inputs and steps."""
    step = flow.steps[name]
    names: set[str] = {"sample"} if samples_of(step).count > 1 else set()
    names |= OF_TURNS if step.repeat is not None else set()
    names |= {"carry"} if carry_of(step) is not None else set()
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


def samples_of(step: Step) -> Samples:
    """Return how many answers a step requests, and what share of them must pass."""
    written = step.samples
    return written if isinstance(written, Samples) else Samples(count=written or 1)


def saves_samples(step: Step) -> bool:
    """Return whether each sample of a step is saved to a file of its own."""
    return samples_of(step).count > 1 and bool(_SAMPLE.search(step.output.save or ""))


def matrix_key(combination: Mapping[str, Json]) -> str:
    """Return the key of a combination: `model=GPT-5.2,tone=dry`."""
    return ",".join(f"{axis}={key_text(value)}" for axis, value in combination.items())


def key_column(written: str) -> str | None:
    """Return the column that is the key if that is all the `key:` of a loop says, else None."""
    found = _COLUMN.fullmatch(written)
    return None if found is None else found[1]


def first_twice(keys: Sequence[Hashable]) -> tuple[int, int] | None:
    """Return the positions of the first equal keys, the earlier one first; None if all differ."""
    if len(set(keys)) == len(keys):
        return None
    seen: dict[Hashable, int] = {}
    pairs = ((seen.setdefault(key, index), index) for index, key in enumerate(keys))
    return next(pair for pair in pairs if pair[0] != pair[1])


def sampled(keys: Sequence[str], count: int, *, seed: int) -> list[int]:
    """Return the positions of `count` keys, in order: those with the smallest hashes.

    Whether a key is chosen depends on the others only through their number, so that a sample of
    more keys has most of the same.
    """
    hashes = [sha256_of(f"{seed} {key}".encode()) for key in keys]
    return sorted(nsmallest(count, range(len(keys)), key=hashes.__getitem__))


def loop_values(items: Sequence[Json], length: int) -> Callable[[int], dict[str, Json]]:
    """Return what gives the value of `loop` in templates for the item at a position of so many."""
    return functools.partial(_loop_value, length, file_finder(items))


def _loop_value(length: int, find_file: Callable[[int], str] | None, at: int) -> dict[str, Json]:
    value: dict[str, Json] = {
        "index": at + 1,
        "index0": at,
        "first": at == 0,
        "last": at == length - 1,
        "length": length,
    }
    if find_file is not None:
        value["file"] = find_file(at)
    return value


class TooManyFitsError(ValueError):
    """`include` and `exclude` together take more work than a matrix may."""


def combined(
    axes: Mapping[str, list[Json]],
    include: Iterable[Mapping[str, Json]],
    exclude: Iterable[Mapping[str, Json]],
) -> list[tuple[str, Combination]]:
    """Return the combinations with their keys. Raises `TooManyFitsError`.

    As in GitHub Actions, an entry of `include` adds its other names to the combinations that
    match the axes it names; if none match, it is a combination of its own.
    """
    lookup = _CombinationIndex(axes)
    for entry in exclude:
        if entry.keys() <= axes.keys():
            lookup.remove(entry)
    labels = [axis_labels(axis, values) for axis, values in axes.items()]
    found: dict[Positions, Combination] = {
        at: {axis: axes[axis][index] for axis, index in zip(axes, at, strict=True)}
        for at in lookup.left()
    }
    own: list[tuple[str, Combination]] = []
    for entry in include:
        of_axes = {name: value for name, value in entry.items() if name in axes}
        fitting = [at for at in lookup.fitting(of_axes) if at in found]
        lookup.spend(len(fitting) * len(entry))
        for at in fitting:
            found[at].update(entry)
        if not fitting:
            own.append((matrix_key(of_axes or entry), dict(entry)))
    named = (
        (",".join(label[index] for label, index in zip(labels, at, strict=True)), combination)
        for at, combination in found.items()
    )
    return [*named, *own]


class _CombinationIndex:
    """Finds the combinations that match an entry, each as the positions of its values."""

    def __init__(self, axes: Mapping[str, list[Json]]) -> None:
        self._axes = {axis: [_identity(value) for value in axes[axis]] for axis in axes}
        self._every = list(product(*(range(len(values)) for values in axes.values())))
        self._removed: set[Positions] = set()
        self._by_names: dict[tuple[str, ...], dict[tuple[bytes, ...], list[Positions]]] = {}
        self._left = MAX_FITS

    def spend(self, fits: int) -> None:
        self._left -= fits
        if self._left < 0:
            raise TooManyFitsError

    def remove(self, entry: Mapping[str, Json]) -> None:
        fitting = self.fitting(entry)
        self.spend(len(fitting))
        self._removed.update(fitting)

    def left(self) -> Iterator[Positions]:
        return (at for at in self._every if at not in self._removed)

    def fitting(self, entry: Mapping[str, Json]) -> list[Positions]:
        """Return the combinations that have all values of an entry; it names only axes."""
        names = tuple(axis for axis in self._axes if axis in entry)
        self.spend(1 + len(names))
        if names not in self._by_names:
            self._by_names[names] = self._index(names)
        wanted = tuple(_identity(entry[name]) for name in names)
        return self._by_names[names].get(wanted, [])

    def _index(self, names: tuple[str, ...]) -> dict[tuple[bytes, ...], list[Positions]]:
        self.spend(len(self._every))
        named = [(self._axes[axis], at) for at, axis in enumerate(self._axes) if axis in names]
        found: dict[tuple[bytes, ...], list[Positions]] = {}
        for positions in self._every:
            values = tuple(values[positions[at]] for values, at in named)
            found.setdefault(values, []).append(positions)
        return found


def axis_labels(axis: str, values: Iterable[Json]) -> list[str]:
    """Return what the values of an axis add to keys: `tone=dry`."""
    return [f"{axis}={key_text(value)}" for value in values]


def _identity(value: Json) -> bytes:
    """Return bytes that are equal for equal JSON values; 1 and 1.0 are equal."""
    if isinstance(value, float) and value.is_integer():
        return canonical(int(value))
    return canonical(value)


class InstanceCount:
    """Counts the instances of one plan, those of used flows included.

    Steps are counted by their full names, so that a step planned again is not counted twice. Unless
    the caller says what is the `most` of all, those for the rows of tables are counted apart.
    """

    def __init__(self, most: int | None = None) -> None:
        self._has_one_limit = most is not None
        self._most = MAX_INSTANCES if most is None else most
        self._of_step: dict[str, _Counted] = {}
        self._totals = {False: _Counted(), True: _Counted()}

    def are_rows(self, step: str) -> bool:
        """Return whether the instances of a step were counted as those of the rows of tables."""
        return step in self._of_step and self._of_step[step].are_rows

    def add(
        self,
        step: str,
        instances: int,
        characters: int = 0,
        *,
        is_whole: bool = True,
        are_rows: bool = False,
    ) -> str:
        """Count the instances of a step and the characters of their keys.

        Return why there cannot be so many, or an empty text. Unless the number `is_whole`, more
        of them may follow.
        """
        are_rows = are_rows and not self._has_one_limit
        most = MAX_ROWS if are_rows else self._most
        named = '"' + step.rsplit("/", 1)[-1] + '"'
        total = self._totals[are_rows]
        before = self._of_step.get(step, _Counted())
        others = total.instances - before.instances
        if others + instances > most:
            also = f", {others + instances:,} with those of other steps" if others else ""
            noun = "instance" if instances == 1 else "instances"
            noun += "" if is_whole else " or more"
            return f"step {named} has {instances:,} {noun}{also}; the limit is {most:,}"
        length = total.characters - before.characters + characters
        if length > _CHARACTERS_PER_INSTANCE * most:
            return f"the keys of the {instances:,} instances of step {named} are too long together"
        self._of_step[step] = _Counted(instances, characters, are_rows)
        self._totals[are_rows] = _Counted(others + instances, length)
        return ""


class _Counted(msgspec.Struct, frozen=True):
    """Instances, and the characters of their keys; `are_rows` if they are of the rows of tables."""

    instances: int = 0
    characters: int = 0
    are_rows: bool = False
