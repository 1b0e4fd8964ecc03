"""When the instances of a run were at work: a lane each, or a lane a step where they are many."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from poeflow.report.pages.groups import Group, Numbered

MOST_BARS: Final = 60
"""Above this many instances a step is one lane, as high as many of its instances were at work."""
_POINTS: Final = 200
_NICE: Final = (1.0, 2.0, 5.0)


@dataclass(frozen=True, slots=True)
class Bar:
    """From when to when, in percent of the run."""

    left: float
    width: float


@dataclass(frozen=True, slots=True)
class Lane:
    """An instance, or a whole step, in time. `area` is how many were at work, as an SVG path."""

    group: Group
    one: Numbered | None
    bar: Bar
    seconds: float
    most: int = 1
    area: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on the scale: where, in percent, and the seconds it stands for."""

    left: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Timings:
    lanes: tuple[Lane, ...]
    ticks: tuple[Tick, ...]


def timings_of(groups: Sequence[Group], seconds: float | None) -> Timings | None:
    """Return when the instances were at work; None where nothing took any time.

    `seconds` is how long the run took, None where it did not end.
    """
    timed = [one for group in groups for one in group.instances if one.record.seconds > 0]
    if not timed:
        return None
    whole = max(seconds or 0.0, *(one.record.began + one.record.seconds for one in timed))
    make = _bars if len(timed) <= MOST_BARS else _areas
    lanes = (lane for group in groups for lane in make(group, whole))
    return Timings(tuple(lanes), tuple(_ticks(whole)))


def _bars(group: Group, whole: float) -> Iterator[Lane]:
    for one in sorted(group.instances, key=lambda one: (one.record.began, one.number)):
        if one.record.seconds > 0:
            began, took = one.record.began, one.record.seconds
            yield Lane(group, one, _bar(began, began + took, whole), took)


def _areas(group: Group, whole: float) -> Iterator[Lane]:
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
    """Return how many were at work in each stretch of the run."""
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
    """Yield marks at round numbers of seconds, five or six of them."""
    scale = 1e-3
    while not any(whole / (scale * nice) <= 6 for nice in _NICE):
        scale *= 10
    step = scale * next(nice for nice in _NICE if whole / (scale * nice) <= 6)
    count = int(whole / step)
    yield from (
        Tick(round(100 * at * step / whole, 2), round(at * step, 3)) for at in range(count + 1)
    )
