"""Instances of a matrix as rows and columns."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from poeflow.report.pages.groups import Group, Numbered, natural

MOST_CELLS: Final = 2500
_AXIS: Final = re.compile(r"(?:\A|,)([A-Za-z_]\w*)=")


@dataclass(frozen=True, slots=True)
class Cell:
    """An instance in a grid. `rest` is where it is on the axes that have no rows or columns."""

    one: Numbered
    rest: str


@dataclass(frozen=True, slots=True)
class Row:
    """One value of the axis of rows, with what there is for each column."""

    value: str
    cells: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """Instances by two of their axes."""

    axes: tuple[str, ...]
    down: str
    across: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def grid_of(group: Group, *, down: str = "", across: str = "") -> Grid | None:
    """Return the instances of a matrix step as a grid, None where its keys name no two axes.

    `down` and `across` choose the axes of rows and columns; unknown names, and one name for both,
    fall back to the flow's order.
    """
    placed = [(one, _values(one.record.key or "")) for one in group.instances]
    axes = tuple(placed[0][1]) if placed else ()
    if len(axes) < 2 or any(tuple(values) != axes for _, values in placed):
        return None
    down, across = _chosen(axes, down, across)
    columns = _sorted(values[across] for _, values in placed)
    lines = _sorted(values[down] for _, values in placed)
    if len(lines) * len(columns) > MOST_CELLS:
        return None
    cells: dict[tuple[str, str], list[Cell]] = {}
    for one, values in placed:
        rest = ", ".join(values[axis] for axis in axes if axis not in (down, across))
        cells.setdefault((values[down], values[across]), []).append(Cell(one, rest))
    rows = tuple(
        Row(line, tuple(tuple(cells.get((line, column), ())) for column in columns))
        for line in lines
    )
    return Grid(axes, down, across, columns, rows)


def _values(key: str) -> Mapping[str, str]:
    """Return the value of each axis of a key `model=GPT-5.2,tone=dry`, empty for other keys."""
    found = list(_AXIS.finditer(key))
    if not found or found[0].start() != 0:
        return {}
    ends = [match.start() for match in found[1:]] + [len(key)]
    return {match[1]: key[match.end() : end] for match, end in zip(found, ends, strict=True)}


def _chosen(axes: Sequence[str], down: str, across: str) -> tuple[str, str]:
    """Return the axes of rows and columns; without a wish the last axis goes across."""
    first = down if down in axes else next(axis for axis in axes if axis != across)
    others = [axis for axis in axes if axis != first]
    return first, across if across in others else others[0 if down in axes else -1]


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values), key=natural))
