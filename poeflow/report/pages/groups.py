"""The instances of a run by the step they are of, each with the number it has for ever."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from poeflow.records import InstanceRecord, RunRow
from poeflow.report.pages.words import instance_state, together

_DIGITS: Final = re.compile(r"(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Numbered:
    """An instance; `number` counts from 1 in the order they ended, and so never changes."""

    number: int
    record: InstanceRecord

    @property
    def state(self) -> str:
        return instance_state(self.record)

    @property
    def label(self) -> str:
        """What tells it from others of its step: the key, or which sample it is."""
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
        """How many instances there are of each state, most first."""
        return dict(Counter(one.state for one in self.instances).most_common())

    @property
    def is_single(self) -> bool:
        """Whether it is a step that runs once."""
        return len(self.instances) == 1 and self.instances[0].record.id == self.step


def numbered(records: Iterable[InstanceRecord]) -> tuple[Numbered, ...]:
    return tuple(Numbered(number, record) for number, record in enumerate(records, start=1))


def grouped(row: RunRow, instances: Sequence[Numbered]) -> tuple[Group, ...]:
    """Return the steps of a run in the flow's order, those of used flows behind them."""
    steps: dict[str, list[Numbered]] = {step: [] for step in row.record.steps}
    for one in instances:
        steps.setdefault(one.record.step, []).append(one)
    return tuple(
        Group(number, step, tuple(sorted(found, key=_order)))
        for number, (step, found) in enumerate(steps.items(), start=1)
    )


def natural(text: str) -> tuple[tuple[int, int | str], ...]:
    """Return what to sort texts by so that numbers in them count: `row 2` before `row 10`."""
    parts = _DIGITS.split(text)
    return tuple((0, int(one)) if at % 2 else (1, one) for at, one in enumerate(parts))


def _order(one: Numbered) -> tuple[bool, object]:
    return one.record.status != "failed", natural(one.label)
