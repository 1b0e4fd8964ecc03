"""How instances and steps stand, as a terminal shows it: a mark, a name, a state, and why.

In a pipe `plan` and `status` are plain lines; these are for the eye.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from poeflow.facts import Fact, Standing, step_of
from poeflow.report.status import steps_of, told
from poeflow.report.terminal.marks import Marks
from poeflow.report.terminal.text import Line, cells, cropped, padded, wrapped

_SERIOUS: Final[tuple[Standing, ...]] = (
    "edited",
    "orphaned",
    "missing",
    "stale",
    "new",
    "needed",
    "unknown",
    "fresh",
    "skipped",
)
"""Which state of its instances marks a step, first things first."""


ALIKE: Final = 3
"""Of more instances than these that stand alike, the first is shown and the others counted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: what is said of it stands behind its name, why it is so beside it or below.

    `more` is how many follow of which the same is told.
    """

    state: Standing
    name: str
    said: str
    why: str = ""
    more: int = 0


def plan_sheet(facts: Sequence[Fact], *, all_: bool, marks: Marks, width: int) -> Iterator[Line]:
    """Yield instances with their reasons: those a run would touch, or all of them."""
    shown = [fact for fact in facts if all_ or not fact.is_current]
    entries: list[Entry] = []
    for _, run in groupby(shown, key=lambda fact: (step_of(fact.id), _standing(fact))):
        alike = list(run)
        count = len(alike) if len(alike) <= ALIKE else 1
        entries += [Entry(fact.state, fact.id, *_standing(fact)) for fact in alike[:count]]
        entries[-1] = replace(entries[-1], more=len(alike) - count)
    return _rows(entries, marks, width)


def status_sheet(
    flows: Mapping[str, Sequence[Fact]], *, marks: Marks, width: int
) -> Iterator[Line]:
    """Yield the name of each flow and a row for each of its steps."""
    for flow, facts in flows.items():
        yield ((marks.shown(flow), "bold"),)
        yield from _rows(
            [
                Entry(min((fact.state for fact in of), key=_SERIOUS.index), step, *_told(of))
                for step, of in steps_of(facts).items()
            ],
            marks,
            width,
        )


def _told(facts: Sequence[Fact]) -> tuple[str, str]:
    """Say how the instances of a step stand, and why."""
    said, _, why = told(facts).partition(": ")
    return said, why


def _standing(fact: Fact) -> tuple[str, str]:
    """Return what is told of an instance besides its name."""
    return f"{fact.state:<7}{_asked(fact)}", "; ".join(fact.reasons)


def _asked(fact: Fact) -> str:
    """Say whom an instance asks, and how often where that is not once."""
    if not fact.calls:
        return ""
    if fact.most_calls is None:
        often = f", {fact.calls} or more calls"
    elif fact.most_calls > fact.calls:
        often = f", {fact.calls} to {fact.most_calls} calls"
    else:
        often = f", {fact.calls} calls" if fact.calls > 1 else ""
    return f" {fact.model or ''}{often}"


def _rows(entries: Sequence[Entry], marks: Marks, width: int) -> Iterator[Line]:
    names = [marks.shown(entry.name) for entry in entries]
    longest = max((cells(((name, ""),)) for name in names), default=0)
    column = min(longest, max(width // 3, 12))
    for entry, name in zip(entries, names, strict=True):
        mark, style = marks.of(entry.state)
        dim = "dim" if style == "dim" else ""
        head: Line = (
            (f"{mark} ", style),
            (f"{padded(name, column)}  ", dim),
            (marks.shown(entry.said), style),
        )
        why = marks.shown(entry.why)
        if cells(head) + cells(((why, ""),)) + 2 <= width:
            yield (*head, (f"  {why}" if why else "", "dim"))
        else:
            yield cropped(head, width, marks.more)
            yield from (((f"    {line}", "dim"),) for line in wrapped(why, max(width - 4, 8)))
        if entry.more:
            yield ((f"  {marks.more} {entry.more:,} more like it", "dim"),)
