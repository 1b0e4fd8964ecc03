"""Groups the instances of a run by step, each with a number that never changes."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from poeflow.lazy_pattern import lazy_pattern
from poeflow.records import InstanceRecord, RunRow
from poeflow.report.history import mean_score, passed_of
from poeflow.report.pages.words import combined_state, instance_state

_DIGITS: Final = lazy_pattern(r"(\d{1,18})")


@dataclass(frozen=True, slots=True)
class NumberedInstance:
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
class StepGroup:
    """A step with its instances, those that failed first. `number` counts from 1."""

    number: int
    step: str
    instances: tuple[NumberedInstance, ...]

    @property
    def state(self) -> str:
        return combined_state(one.state for one in self.instances)

    @property
    def counts(self) -> Mapping[str, int]:
        """How many instances have each state, the most common first."""
        return dict(Counter(one.state for one in self.instances).most_common())

    @property
    def passed(self) -> str:
        """How many instances passed; empty if nothing is expected of them."""
        return passed_of(one.record for one in self.instances)

    @property
    def score(self) -> str:
        """Their mean score, empty if none has one."""
        return mean_score(one.record.verdicts for one in self.instances)

    @property
    def is_single(self) -> bool:
        """Whether the step runs once."""
        return len(self.instances) == 1 and self.instances[0].record.id == self.step


def numbered(records: Iterable[InstanceRecord]) -> tuple[NumberedInstance, ...]:
    return tuple(NumberedInstance(number, record) for number, record in enumerate(records, start=1))


def grouped(row: RunRow, instances: Sequence[NumberedInstance]) -> tuple[StepGroup, ...]:
    """Return the steps of a run in the order of the flow, then those of used flows."""
    steps: dict[str, list[NumberedInstance]] = {step: [] for step in row.record.steps}
    for one in instances:
        steps.setdefault(one.record.step, []).append(one)
    return tuple(
        StepGroup(number, step, tuple(sorted(found, key=_order)))
        for number, (step, found) in enumerate(steps.items(), start=1)
    )


def natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """Return a sort key that compares numbers in texts by value: `row 2` before `row 10`."""
    parts = _DIGITS.split(text)
    return tuple((0, int(one)) if at % 2 else (1, one) for at, one in enumerate(parts))


def _order(one: NumberedInstance) -> tuple[bool, object]:
    return one.record.status != "failed", natural(one.label)
