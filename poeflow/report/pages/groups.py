"""Groups the instances of a run by step, each with a number that never changes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from poeflow.lazy_pattern import lazy_pattern
from poeflow.records import InstanceRecord, RunRow
from poeflow.report.pages.words import instance_state, together

_DIGITS: Final = lazy_pattern(r"(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Numbered:
    """An instance; `number` counts from 1 in the order in which instances ended."""

    number: int
    record: InstanceRecord

    @property
    def state(self) -> str:
        return instance_state(self.record)

    @property
    def label(self) -> str:
        """The name among others of its step: the key, or the sample."""
        return self.record.key or self.record.id.removeprefix(self.record.step) or self.record.id


@dataclass(frozen=True, slots=True)
class Group:
    """A step with its instances, those that failed first. `number` counts from 1."""

    number: int
    step: str
    instances: tuple[Numbered, ...]

    @property
    def state(self) -> str:
        return together(one.state for one in self.instances)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many instances have each state, the most common first."""
        return dict(Counter(one.state for one in self.instances).most_common())

    @property
    def is_single(self) -> bool:
        """Whether the step runs once."""
        return len(self.instances) == 1 and self.instances[0].record.id == self.step


def numbered(records: Iterable[InstanceRecord]) -> tuple[Numbered, ...]:
    return tuple(Numbered(number, record) for number, record in enumerate(records, start=1))


def grouped(row: RunRow, instances: Sequence[Numbered]) -> tuple[Group, ...]:
    """Return the steps of a run in the order of the flow, then those of used flows."""
    steps: dict[str, list[Numbered]] = {step: [] for step in row.record.steps}
    for one in instances:
        steps.setdefault(one.record.step, []).append(one)
    return tuple(
        Group(number, step, tuple(sorted(found, key=_order)))
        for number, (step, found) in enumerate(steps.items(), start=1)
    )


def natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that compares numbers in texts by value: `row 2` before `row 10`."""
    parts = _DIGITS.split(text)
    return tuple((0, int(one)) if at % 2 else (1, one) for at, one in enumerate(parts))


def _order(one: Numbered) -> tuple[bool, object]:
    return one.record.status != "failed", natural(one.label)
