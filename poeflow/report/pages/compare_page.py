"""Two runs side by side: which instances differ, and in what."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from poeflow.records import InstanceRecord, RunRow
from poeflow.report.pages.differences import Difference, compared_values, differences, side_by_side
from poeflow.report.pages.groups import Numbered, numbered
from poeflow.report.pages.run_page import page_number

A_PAGE: Final = 25


@dataclass(frozen=True, slots=True)
class Pair:
    """An instance in both runs, or in one of them."""

    old: Numbered | None
    new: Numbered | None

    @property
    def id(self) -> str:
        one = self.new or self.old
        return "" if one is None else one.record.id

    @property
    def kind(self) -> Literal["changed", "new", "gone"]:
        if self.old is None:
            return "new"
        return "changed" if self.new is not None else "gone"

    @property
    def is_same(self) -> bool:
        return next(self._texts(), None) is None

    @property
    def differences(self) -> tuple[Difference, ...]:
        """What differs; nothing for one that is gone."""
        if self.new is None:
            return ()
        return tuple(side_by_side(*texts) for texts in self._texts())

    def _texts(self) -> Iterator[tuple[str, str | None, str | None]]:
        old = None if self.old is None else self.old.record
        return differences(old, None if self.new is None else self.new.record)


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """Two runs, ready to be shown: a page of what differs, and all that is the same."""

    old: RunRow
    new: RunRow
    differing: int
    changed: tuple[Pair, ...]
    same: tuple[Pair, ...]
    inputs: tuple[Difference, ...]
    page: int
    pages: int


def comparison_view(
    old: tuple[RunRow, Sequence[InstanceRecord]],
    new: tuple[RunRow, Sequence[InstanceRecord]],
    asked: Mapping[str, str],
) -> ComparisonView:
    """Return what differs between two runs with their instances, on page `page` of `asked`."""
    pairs = _pairs(old[1], new[1])
    differing = [pair for pair in pairs if not pair.is_same]
    pages = max(-(-len(differing) // A_PAGE), 1)
    page = min(page_number(asked), pages)
    values = compared_values(old[0].record.inputs, new[0].record.inputs)
    return ComparisonView(
        old=old[0],
        new=new[0],
        differing=len(differing),
        changed=tuple(differing[(page - 1) * A_PAGE : page * A_PAGE]),
        same=tuple(pair for pair in pairs if pair.is_same),
        inputs=tuple(side_by_side(*texts) for texts in values),
        page=page,
        pages=pages,
    )


def _pairs(old: Sequence[InstanceRecord], new: Sequence[InstanceRecord]) -> list[Pair]:
    """Return the instances by their names in the order of the new run, those gone last."""
    before = {one.record.id: one for one in numbered(old)}
    after = {one.record.id: one for one in numbered(new)}
    return [
        *(Pair(before.get(name), one) for name, one in after.items()),
        *(Pair(one, None) for name, one in before.items() if name not in after),
    ]
