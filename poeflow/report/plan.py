"""Plans and states of flows as people read them: plain lines in a pipe, tables on a terminal."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import msgspec

from poeflow.costs import Estimate, Prices, Range, estimate
from poeflow.digest import Json, encode_json
from poeflow.records import InstanceState, InstanceStatus, Measure, step_of
from poeflow.redact import visible
from poeflow.report.terminal.text import Line, Marks, cells, cropped, padded, wrapped

_ORDER: Final = (
    *("new", "stale", "missing", "edited", "needed", "unknown", "fresh", "skipped", "orphaned"),
)


def lines(facts: Sequence[InstanceStatus], *, all_: bool) -> list[str]:
    """Return a line for each instance that a run would touch, or for all of them."""
    shown = [fact for fact in facts if all_ or not fact.is_current]
    width = max((len(fact.id) for fact in shown), default=0)
    return [
        visible(f"{fact.id:<{width}}  {fact.state:<7}  {'; '.join(fact.reasons)}".rstrip())
        for fact in shown
    ]


_MEASURES: Final[dict[Measure, str]] = {
    "instance": "as last time",
    "step": "as others of their step",
    "limit": "at their limit",
    "usual": "as usual",
}
"""How it is said where a guess of the length of answers comes from."""


def summary(facts: Sequence[InstanceStatus], prices: Prices) -> str:
    """Say how many instances stand how, and what a run would send and cost."""
    counts = Counter(fact.state for fact in facts)
    told = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    found = estimate(facts, prices)
    if not found.calls.least:
        unknown = counts["unknown"]
        return f"{told or 'nothing'}: {'calls not known yet' if unknown else 'no calls'}"
    noun = "call" if found.calls.least == found.calls.most == 1 else "calls"
    calls = _range(found.calls, "{:,}", "{} or more")
    return f"{told}: {calls} {noun}, {spending(found)}"


def spending(found: Estimate) -> str:
    """Say what requests are estimated to use and cost, and where that comes from."""
    cost = "cost unknown"
    if found.cost_usd is not None:
        cost = f"{_range(found.cost_usd, '{:.4f}', 'from {}')} USD (estimated)"
    return f"about {found.prompt_tokens:,} prompt tokens, {_answers(found)}, {cost}"


def _answers(found: Estimate) -> str:
    """Say how long the answers may be, and how that is known."""
    if not found.measures:
        return "answers of unknown length"
    total = found.unmeasured + sum(found.measures.values())
    parts = [(_MEASURES[measure], count) for measure, count in found.measures.items()]
    parts += [("of unknown length", found.unmeasured)] if found.unmeasured else []
    how = ", ".join(said if count == total else f"{count:,} {said}" for said, count in parts)
    return f"about {found.answer_tokens:,} answer tokens ({how})"


def _range(found: Range, form: str, without_end: str) -> str:
    """Say `3`, `3 to 7`, or what is said where there is no telling the most."""
    least = form.format(found.least)
    if found.most is None:
        return without_end.format(least)
    most = form.format(found.most)
    return least if least == most else f"{least} to {most}"


def as_json(facts: Sequence[InstanceStatus], prices: Prices) -> str:
    """Return all facts as one JSON document, requests and estimates included."""
    return encode_json(
        [msgspec.to_builtins(fact) | {"estimate": _estimated(fact, prices)} for fact in facts]
    ).decode()


def _estimated(fact: InstanceStatus, prices: Prices) -> dict[str, Json] | None:
    """Return what one instance is estimated to use and cost, None where nothing is asked."""
    if not fact.kinds:
        return None
    found = estimate([fact], prices)
    cost = found.cost_usd
    return {
        "prompt_tokens": found.prompt_tokens,
        "answer_tokens": found.answer_tokens,
        "answer_from": next(iter(found.measures), None),
        "cost_usd": None
        if cost is None
        else {
            "least": float(cost.least),
            "most": None if cost.most is None else float(cost.most),
        },
    }


MAX_REASONS: Final = 3


def status_lines(flows: Mapping[str, Sequence[InstanceStatus]]) -> Iterator[str]:
    """Yield the name of each flow and a line for each of its steps, in order."""
    for flow, facts in flows.items():
        yield visible(flow)
        steps = steps_of(facts)
        width = max(map(len, steps), default=0)
        for step, of in steps.items():
            yield visible(f"  {step:<{width}}  {told(of)}")


def steps_of(facts: Sequence[InstanceStatus]) -> dict[str, list[InstanceStatus]]:
    """Return instances by their steps, in order."""
    steps: dict[str, list[InstanceStatus]] = {}
    for fact in facts:
        steps.setdefault(step_of(fact.id), []).append(fact)
    return steps


def told(facts: Sequence[InstanceStatus]) -> str:
    """Say how the instances of a step stand: `2 stale, 1 fresh: prompt changed`.

    A reason of some of them has their number: `2 stale: prompt changed (1); file changed (1)`.
    """
    counts: Counter[InstanceState] = Counter(fact.state for fact in facts)
    is_alone = len(facts) == 1
    states = ", ".join(
        state if is_alone else f"{count} {state}" for state, count in counts.most_common()
    )
    reasons = _reasons(facts)
    more = f"; and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
    return f"{states}: {'; '.join(reasons[:MAX_REASONS])}{more}" if reasons else states


def _reasons(facts: Sequence[InstanceStatus]) -> list[str]:
    """Return all reasons, each with how many instances it is of where that is not all of them."""
    counts = Counter(reason for fact in facts for reason in fact.reasons)
    concerned = sum(bool(fact.reasons) for fact in facts)
    return [
        reason if count == concerned else f"{reason} ({count:,})"
        for reason, count in counts.items()
    ]


_SERIOUS: Final[tuple[InstanceState, ...]] = (
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

    state: InstanceState
    name: str
    said: str
    why: str = ""
    more: int = 0


def plan_sheet(
    facts: Sequence[InstanceStatus], *, all_: bool, marks: Marks, width: int
) -> Iterator[Line]:
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
    flows: Mapping[str, Sequence[InstanceStatus]], *, marks: Marks, width: int
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


def _told(facts: Sequence[InstanceStatus]) -> tuple[str, str]:
    """Say how the instances of a step stand, and why."""
    said, _, why = told(facts).partition(": ")
    return said, why


def _standing(fact: InstanceStatus) -> tuple[str, str]:
    """Return what is told of an instance besides its name."""
    return f"{fact.state:<7}{_asked(fact)}", "; ".join(fact.reasons)


def _asked(fact: InstanceStatus) -> str:
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
