"""The data of the pages of a run and of a step: steps, instances, grids, timings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from poeflow.records import InstanceRecord, RequestRow, RunRow, outer_step
from poeflow.report.history import mean_score, passed_of
from poeflow.report.loop_overview import axis_values
from poeflow.report.pages.drawings import Box, Drawing, Timings, drawing_of, timings_of
from poeflow.report.pages.groups import NumberedInstance, StepGroup, grouped, natural, numbered
from poeflow.report.pages.words import combined_state
from poeflow.report.terminal.notes import Note, by_cause

MOST_CELLS: Final = 2500
FEW: Final = 50
"""Instances of one step that the page of a run shows; the step's own page has all."""
_A_PAGE: Final = 200
_SMALL_GRID: Final = 120
MOST_CAUSES: Final = 10
"""How many causes of failures the page of a run lists above all else."""
MOST_NAMED: Final = 5
"""How many instances that failed by one cause are named there."""


@dataclass(frozen=True, slots=True)
class GridCell:
    """An instance in a grid. `rest` are its values on all axes but rows and columns."""

    one: NumberedInstance
    rest: str


@dataclass(frozen=True, slots=True)
class GridColumn:
    """A column of a grid: its value, how many of its instances passed, and their mean score.

    Both are empty if nothing is expected of them, or scored.
    """

    value: str
    score: str
    passed: str = ""


@dataclass(frozen=True, slots=True)
class GridRow:
    """A row of a grid: what a column has, and the cells by column."""

    value: str
    score: str
    passed: str
    cells: tuple[tuple[GridCell, ...], ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """The instances of a matrix step by two of their axes."""

    axes: tuple[str, ...]
    down: str
    across: str
    columns: tuple[GridColumn, ...]
    rows: tuple[GridRow, ...]


@dataclass(frozen=True, slots=True)
class StepBox:
    """A step in the drawing, with the number and the state of its instances."""

    box: Box
    group: StepGroup
    state: str
    total: int
    failed: int


@dataclass(frozen=True, slots=True)
class Section:
    """A step with the instances shown on the page of the run: a grid, or rows."""

    group: StepGroup
    grid: Grid | None
    rows: tuple[NumberedInstance, ...]

    @property
    def left_out(self) -> int:
        return 0 if self.grid else len(self.group.instances) - len(self.rows)


@dataclass(frozen=True, slots=True)
class FailureCause:
    """What made instances fail: in the words of the first of them if they differ."""

    said: str
    instances: tuple[NumberedInstance, ...]

    @property
    def named(self) -> tuple[NumberedInstance, ...]:
        return self.instances[:MOST_NAMED]


@dataclass(frozen=True, slots=True)
class RunView:
    """The data of the page of a run.

    `single` are the steps that run once or did not run; `sections` those that run many times.
    `unanswered` are the requests that wait for an answer.
    """

    row: RunRow
    total: int
    causes: tuple[FailureCause, ...]
    drawing: Drawing
    nodes: tuple[StepBox, ...]
    timings: Timings | None
    single: tuple[StepGroup, ...]
    sections: tuple[Section, ...]
    unanswered: tuple[RequestRow, ...]


@dataclass(frozen=True, slots=True)
class StepView:
    """The data of the page of a step: a grid, or one page of rows."""

    row: RunRow
    group: StepGroup
    grid: Grid | None
    rows: tuple[NumberedInstance, ...]
    state: str
    found: int
    page: int
    pages: int


def run_view(
    row: RunRow,
    records: Sequence[InstanceRecord],
    *,
    unanswered: Sequence[RequestRow] = (),
    few: int = FEW,
) -> RunView:
    """Return the data of the page of a run, with at most `few` instances of each step."""
    instances = numbered(records)
    groups = grouped(row, instances)
    drawing = drawing_of(row.record.steps)
    return RunView(
        row=row,
        total=len(instances),
        causes=tuple(_causes(groups)),
        drawing=drawing,
        nodes=tuple(_nodes(drawing, groups)),
        timings=timings_of(groups, row.end.seconds if row.end is not None else None),
        single=tuple(group for group in groups if group.is_single or not group.instances),
        sections=tuple(
            _section(group, few) for group in groups if group.instances and not group.is_single
        ),
        unanswered=tuple(unanswered),
    )


def step_view(row: RunRow, group: StepGroup, asked: Mapping[str, str]) -> StepView:
    """Return the data of the page of a step; `asked` has `state`, `rows`, `columns`, `page`."""
    state = asked.get("state", "")
    found = [one for one in group.instances if state in ("", one.state)]
    grid = None
    if not state and asked.get("as") != "table":
        grid = grid_of(group, down=asked.get("rows", ""), across=asked.get("columns", ""))
    pages = max(-(-len(found) // _A_PAGE), 1)
    page = min(page_number(asked), pages)
    rows = tuple(found[(page - 1) * _A_PAGE : page * _A_PAGE])
    return StepView(row, group, grid, rows, state, len(found), page, pages)


def grid_of(group: StepGroup, *, down: str = "", across: str = "") -> Grid | None:
    """Return the instances of a matrix step as a grid, None if their keys have no two axes.

    `down` and `across` choose the axes of rows and columns; for unknown or equal names the order
    of the flow decides.
    """
    placed = [(one, axis_values(one.record.key or "")) for one in group.instances]
    axes = tuple(placed[0][1]) if placed else ()
    if len(axes) < 2 or any(tuple(values) != axes for _, values in placed):
        return None
    down, across = _chosen(axes, down, across)
    columns = _sorted(values[across] for _, values in placed)
    lines = _sorted(values[down] for _, values in placed)
    if len(lines) * len(columns) > MOST_CELLS:
        return None
    cells: dict[tuple[str, str], list[GridCell]] = {}
    for one, values in placed:
        rest = ", ".join(values[axis] for axis in axes if axis not in (down, across))
        cells.setdefault((values[down], values[across]), []).append(GridCell(one, rest))

    def judged(axis: str, value: str) -> tuple[str, str]:
        those = [one.record for one, values in placed if values[axis] == value]
        return mean_score(one.verdicts for one in those), passed_of(those)

    rows = tuple(
        GridRow(
            line,
            *judged(down, line),
            tuple(tuple(cells.get((line, column), ())) for column in columns),
        )
        for line in lines
    )
    heads = tuple(GridColumn(column, *judged(across, column)) for column in columns)
    return Grid(axes, down, across, heads, rows)


def page_number(asked: Mapping[str, str]) -> int:
    """Return the page number in `asked`, 1 if it is missing or not a number."""
    text = asked.get("page", "")
    return max(int(text), 1) if text.isascii() and text.isdecimal() and len(text) < 7 else 1


def _causes(groups: Sequence[StepGroup]) -> Iterator[FailureCause]:
    """Yield what made instances fail, what made the most of them fail first."""
    found = {
        one.record.id: one
        for group in groups
        for one in group.instances
        if one.record.status == "failed" and not one.record.is_tolerated
    }
    notes = (Note(name, one.record.reason or "") for name, one in found.items())
    for told in sorted(by_cause(notes), key=lambda told: -len(told.steps))[:MOST_CAUSES]:
        yield FailureCause(told.said, tuple(found[name] for name in told.steps))


def _nodes(drawing: Drawing, groups: Sequence[StepGroup]) -> Iterator[StepBox]:
    within: dict[str, list[StepGroup]] = {}
    for group in groups:
        within.setdefault(outer_step(group.step), []).append(group)
    own = {group.step: group for group in groups}
    for box in drawing.boxes:
        those = [one.state for group in within.get(box.step, ()) for one in group.instances]
        yield StepBox(box, own[box.step], combined_state(those), len(those), those.count("failed"))


def _section(group: StepGroup, few: int) -> Section:
    grid = grid_of(group) if len(group.instances) <= max(_SMALL_GRID, few) else None
    return Section(group, grid, () if grid else group.instances[:few])


def _chosen(axes: Sequence[str], down: str, across: str) -> tuple[str, str]:
    """Return the axes of rows and columns; by default the last axis gives the columns."""
    first = down if down in axes else next(axis for axis in axes if axis != across)
    others = [axis for axis in axes if axis != first]
    return first, across if across in others else others[0 if down in axes else -1]


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values), key=natural))
