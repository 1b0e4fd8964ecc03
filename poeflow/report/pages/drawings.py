"""Draws the steps of a flow, and the times of a run, as SVG."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from poeflow.ordering import CycleError, ordered
from poeflow.report.pages.groups import NumberedInstance, StepGroup

WIDTH: Final = 184
HEIGHT: Final = 46
_GAP_ACROSS: Final = 62
_GAP_DOWN: Final = 18
_MARGIN: Final = 3
_LINE_HEIGHT: Final = 10
"""The height of a line where it crosses a column of steps."""


@dataclass(frozen=True, slots=True)
class Box:
    """A step: its name and its upper left corner."""

    step: str
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """A flow as a picture: boxes, lines as SVG paths, and the size."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[str, ...]


_Spot = tuple[str, str]
"""A place in a column: a step, or, with the step that needs it, a crossing line."""


def drawing_of(steps: Mapping[str, Sequence[str]]) -> Drawing:
    """Return the picture of steps and their needs; needs that are not steps are left out."""
    needs = {step: [need for need in wanted if need in steps] for step, wanted in steps.items()}
    levels = _levels(needs)
    chains = list(_chains(needs, levels))
    columns = _columns(levels, chains)
    height = max((_column_height(column) for column in columns), default=0)
    spots: dict[_Spot, tuple[int, int]] = {}
    for at, column in enumerate(columns):
        y = _MARGIN + (height - _column_height(column)) // 2
        for spot in column:
            spots[spot] = (_MARGIN + at * (WIDTH + _GAP_ACROSS), y)
            y += (_LINE_HEIGHT if spot[1] else HEIGHT) + _GAP_DOWN
    return Drawing(
        width=max(len(columns) * (WIDTH + _GAP_ACROSS) - _GAP_ACROSS, 0) + 2 * _MARGIN,
        height=height + 2 * _MARGIN,
        boxes=tuple(Box(step, *spots[step, ""]) for step in steps),
        lines=tuple(_path([spots[spot] for spot in chain]) for chain in chains),
    )


def _levels(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the column of each step; all have the same if there is a cycle."""
    levels: dict[str, int] = dict.fromkeys(needs, 0)
    try:
        order = ordered(needs)
    except CycleError:
        return levels
    for step in order:
        levels[step] = max((levels[need] + 1 for need in needs[step]), default=0)
    return levels


def _chains(needs: Mapping[str, Sequence[str]], levels: Mapping[str, int]) -> Iterator[list[_Spot]]:
    """Yield the places of each line: the need, the columns it crosses, the step."""
    for step, wanted in needs.items():
        for need in dict.fromkeys(wanted):
            passed = range(levels[need] + 1, levels[step])
            yield [(need, ""), *((need, f"{step}\0{level}") for level in passed), (step, "")]


def _columns(levels: Mapping[str, int], chains: Sequence[Sequence[_Spot]]) -> list[list[_Spot]]:
    """Return the places of each column, sorted so that few lines cross."""
    columns: list[list[_Spot]] = [[] for _ in range(max(levels.values(), default=-1) + 1)]
    for step, level in levels.items():
        columns[level].append((step, ""))
    before: dict[_Spot, list[_Spot]] = {}
    for chain in chains:
        for at, spot in enumerate(chain[1:], start=1):
            before.setdefault(spot, []).append(chain[at - 1])
            if spot[1]:
                columns[levels[chain[0][0]] + at].append(spot)
    middle: dict[_Spot, float] = {}
    for column in columns:
        column.sort(key=lambda spot: _mean([middle.get(one, 0.0) for one in before.get(spot, ())]))
        middle |= {spot: at - len(column) / 2 for at, spot in enumerate(column)}
    return columns


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _column_height(column: Sequence[_Spot]) -> int:
    return sum((_LINE_HEIGHT if spot[1] else HEIGHT) + _GAP_DOWN for spot in column) - _GAP_DOWN


def _path(corners: Sequence[tuple[int, int]]) -> str:
    """Return a smooth line from the right of the first place to the left of the last."""
    last = len(corners) - 1
    x, y = corners[0][0] + WIDTH, corners[0][1] + HEIGHT // 2
    path = [f"M{x} {y}"]
    for at, (left, top) in enumerate(corners[1:], start=1):
        to_y = top + (HEIGHT if at == last else _LINE_HEIGHT) // 2
        half = (left - x) // 2
        path.append(f"C{x + half} {y} {left - half} {to_y} {left} {to_y}")
        if at != last:
            path.append(f"H{left + WIDTH}")
        x, y = left + WIDTH, to_y
    return "".join(path)


MOST_BARS: Final = 60
"""With more instances than this, a step is one lane that shows how many were running."""
_POINTS: Final = 200
_NICE: Final = (1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time, in percent of the run."""

    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Lane:
    """The times of an instance or a step. `area` shows how many were running, as an SVG path."""

    group: StepGroup
    one: NumberedInstance | None
    bar: Bar
    seconds: float
    most: int = 1
    area: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the time scale: its position in percent, and the seconds."""

    left: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Timings:
    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]


def timings_of(groups: Sequence[StepGroup], seconds: float | None) -> Timings | None:
    """Return the times of the instances, None if none took any time.

    `seconds` is how long the run took, None if it did not end.
    """
    timed = [one for group in groups for one in group.instances if one.record.seconds > 0]
    if not timed:
        return None
    whole = max(seconds or 0.0, *(one.record.began + one.record.seconds for one in timed))
    make = _bars if len(timed) <= MOST_BARS else _areas
    lanes = (lane for group in groups for lane in make(group, whole))
    return Timings(tuple(lanes), tuple(_ticks(whole)))


def _bars(group: StepGroup, whole: float) -> Iterator[Lane]:
    for one in sorted(group.instances, key=lambda one: (one.record.began, one.number)):
        if one.record.seconds > 0:
            began, took = one.record.began, one.record.seconds
            yield Lane(group, one, _bar(began, began + took, whole), took)


def _areas(group: StepGroup, whole: float) -> Iterator[Lane]:
    spans = [
        (one.record.began, one.record.began + one.record.seconds)
        for one in group.instances
        if one.record.seconds > 0
    ]
    if not spans:
        return
    first, last = min(began for began, _ in spans), max(ended for _, ended in spans)
    levels = _at_work(spans, whole)
    most = max(*levels, 1)
    points = " ".join(
        f"{at * 1000 / _POINTS:.0f},{100 - level * 96 / most:.1f} "
        f"{(at + 1) * 1000 / _POINTS:.0f},{100 - level * 96 / most:.1f}"
        for at, level in enumerate(levels)
        if level or (at and levels[at - 1]) or (at + 1 < _POINTS and levels[at + 1])
    )
    area = f"M0,100L{points} 1000,100Z" if points else ""
    yield Lane(group, None, _bar(first, last, whole), last - first, most, area)


def _at_work(spans: Sequence[tuple[float, float]], whole: float) -> list[int]:
    """Return how many instances were running in each stretch of the run."""
    steps = [0] * (_POINTS + 1)
    for began, ended in spans:
        first = min(int(began / whole * _POINTS), _POINTS - 1)
        last = min(int(ended / whole * _POINTS), _POINTS - 1)
        steps[first] += 1
        steps[last + 1] -= 1
    levels, level = [], 0
    for step in steps[:-1]:
        level += step
        levels.append(level)
    return levels


def _bar(began: float, ended: float, whole: float) -> Bar:
    left = 100 * began / whole
    return Bar(round(left, 2), round(max(100 * ended / whole - left, 0.3), 2))


def _ticks(whole: float) -> Iterator[Tick]:
    """Yield about six marks at round numbers of seconds."""
    scale = 1e-3
    while not any(whole / (scale * nice) <= 6 for nice in _NICE):
        scale *= 10
    step = scale * next(nice for nice in _NICE if whole / (scale * nice) <= 6)
    count = int(whole / step)
    yield from (
        Tick(round(100 * at * step / whole, 2), round(at * step, 3)) for at in range(count + 1)
    )
