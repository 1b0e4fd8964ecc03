"""Formats plans and the status of flows: plain lines for a pipe, tables for a terminal, JSON."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final

import msgspec

from poeflow.costs import Estimate, Prices, Range, estimate
from poeflow.digest import Json, encode_json
from poeflow.records import InstanceState, InstanceStatus, Measure, step_of
from poeflow.redact import visible
from poeflow.report.terminal.notes import cause_of, without_finding
from poeflow.report.terminal.text import (
    Line,
    Marks,
    aligned_columns,
    cells,
    cropped,
    fitted,
    wrapped,
)

_ORDER: Final = (
    *("new", "stale", "missing", "edited", "needed", "unknown", "fresh", "skipped", "orphaned"),
)
_MEASURES: Final[dict[Measure, str]] = {
    "instance": "as last time",
    "step": "as others of their step",
    "limit": "at their limit",
    "usual": "as usual",
}
"""The words for what an estimated length of answers is based on."""
MAX_REASONS: Final = 3
_MAX_NAMES: Final = 3
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
"""A step has the first of these states that one of its instances has."""
ALIKE: Final = 3
"""If more instances in a row than these are alike, the first is shown and the rest counted."""


class TableRow(msgspec.Struct, frozen=True):
    """A row: `text` follows the name, `why` follows the text or stands below.

    `more` is how many further rows would say the same.
    """

    state: InstanceState
    name: str
    text: str
    why: str = ""
    more: int = 0


def plan_lines(statuses: Sequence[InstanceStatus], *, all_: bool) -> Iterator[str]:
    """Yield a line for each instance that a run would touch, or for all of them."""
    shown = _to_show(statuses, all_=all_)
    names, whys = [one.id for one in shown], {one.reasons: "" for one in shown}
    if not "".join(names).isprintable():
        names = list(map(visible, names))
    for reasons in whys:  # a table has many rows with the same
        whys[reasons] = visible("; ".join(reasons))
    states = {state: f"{state:<7}" for state in _ORDER}
    columns = (names, [states[one.state] for one in shown], [whys[one.reasons] for one in shown])
    return aligned_columns(columns, words=3)


def _to_show(statuses: Sequence[InstanceStatus], *, all_: bool) -> Sequence[InstanceStatus]:
    """Return the instances that a run would touch, or all of them."""
    return statuses if all_ else [one for one in statuses if one.calls or not one.is_current]


def plan_table(
    statuses: Sequence[InstanceStatus], *, all_: bool, marks: Marks, width: int
) -> Iterator[Line]:
    """Yield instances with their reasons: those a run would touch, or all of them."""
    shown = _to_show(statuses, all_=all_)
    entries: list[TableRow] = []
    for _, run in groupby(
        shown, key=lambda status: (step_of(status.id), _state_and_reasons(status))
    ):
        alike = list(run)
        count = len(alike) if len(alike) <= ALIKE else 1
        entries += [
            TableRow(status.state, status.id, *_state_and_reasons(status))
            for status in alike[:count]
        ]
        entries[-1] = msgspec.structs.replace(entries[-1], more=len(alike) - count)
    return _rows(entries, marks, width)


def plan_summary(statuses: Sequence[InstanceStatus], prices: Prices) -> str:
    """Say how many instances have which state, and what a run would send and cost."""
    counts = Counter([status.state for status in statuses])
    states = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    found = estimate(statuses, prices)
    if not found.calls.least and (counts["unknown"] or not found.calls.most):
        unknown = counts["unknown"]
        return f"{states or 'nothing'}: {'calls not known yet' if unknown else 'no calls'}"
    noun = "call" if found.calls.least == found.calls.most == 1 else "calls"
    calls = _range(found.calls, "{:,}", "{} or more")
    return f"{states}: {calls} {noun}, {spending(found)}"


def spending(found: Estimate) -> str:
    """Say what requests are estimated to use and cost, and what the estimate is based on."""
    cost = "cost unknown"
    if found.cost_usd is not None:
        cost = f"{_range(found.cost_usd, '{:.4f}', 'from {}')} USD (estimated)"
    return f"about {found.prompt_tokens:,} prompt tokens, {_answers(found)}, {cost}"


def as_json(statuses: Sequence[InstanceStatus], prices: Prices) -> str:
    """Return the status of all instances as one JSON document, with requests and estimates."""
    return encode_json(
        [
            msgspec.to_builtins(status) | {"estimate": _estimated(status, prices)}
            for status in statuses
        ]
    ).decode()


def status_lines(flows: Mapping[str, Sequence[InstanceStatus]]) -> Iterator[str]:
    """Yield the name of each flow and a line for each of its steps, in order."""
    for flow, statuses in flows.items():
        yield visible(flow)
        steps = steps_of(statuses)
        width = max(map(len, steps), default=0)
        for step, of in steps.items():
            yield visible(f"  {step:<{width}}  {step_status(of)}")


def status_table(
    flows: Mapping[str, Sequence[InstanceStatus]], *, marks: Marks, width: int
) -> Iterator[Line]:
    """Yield the name of each flow and a row for each of its steps."""
    for flow, statuses in flows.items():
        yield ((marks.shown(flow), "bold"),)
        yield from _rows(
            [
                TableRow(
                    min((status.state for status in of), key=_SERIOUS.index),
                    step,
                    *_state_and_why(of),
                )
                for step, of in steps_of(statuses).items()
            ],
            marks,
            width,
        )


def steps_of(statuses: Sequence[InstanceStatus]) -> dict[str, list[InstanceStatus]]:
    """Return instances by their steps, in order."""
    steps: dict[str, list[InstanceStatus]] = {}
    for status in statuses:
        name, step = status.id, status.id.partition("[")[0]
        is_file = status.state == "orphaned"
        if is_file or step not in steps or name[-1:] != "]" or "/" in name or "#" in name:
            step = step_of(name)
        if step not in steps:
            steps[step] = []
        steps[step].append(status)
    return steps


def step_status(statuses: Sequence[InstanceStatus]) -> str:
    """Say which states the instances of a step have: `2 stale, 1 fresh: prompt changed`.

    A reason of only some of them is counted: `2 stale: prompt changed (1); file changed (1)`.
    """
    counts: Counter[InstanceState] = Counter([status.state for status in statuses])
    is_alone = len(statuses) == 1
    states = ", ".join(
        state if is_alone else f"{count} {state}" for state, count in counts.most_common()
    )
    states += "".join(_names(statuses))
    reasons = _reasons(statuses)
    more = f"; and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
    return f"{states}: {'; '.join(reasons[:MAX_REASONS])}{more}" if reasons else states


def _names(statuses: Sequence[InstanceStatus]) -> Iterator[str]:
    """Yield by which names instances were answered, and last time, those of most of them first."""
    pairs = ((one.answered_by, one.answered_before) for one in statuses if one.answered_by)
    counts = sorted(Counter(pairs).items(), key=lambda item: (-item[1], str(item[0])))
    for (name, before), count in counts[:_MAX_NAMES]:
        some = f"{count:,} " if count < len(statuses) else ""
        yield f", {some}answered by {name}{f', last time by {before}' if before else ''}"
    if len(counts) > _MAX_NAMES:
        yield f", and {len(counts) - _MAX_NAMES:,} more names"


def _state_and_reasons(status: InstanceStatus) -> tuple[str, str]:
    """Return the state and the calls of an instance, and its reasons."""
    return f"{status.state:<7}{_asked(status)}", "; ".join(status.reasons)


def _asked(status: InstanceStatus) -> str:
    """Say which model an instance asks, and how often unless it is once."""
    if not status.calls and (not status.most_calls or status.state == "unknown"):
        return ""
    if status.most_calls is None:
        often = f", {status.calls} or more calls"
    elif status.most_calls > status.calls:
        often = f", {status.calls} to {status.most_calls} calls"
    else:
        often = f", {status.calls} calls" if status.calls > 1 else ""
    return f" {status.model or ''}{often}"


def _rows(entries: Sequence[TableRow], marks: Marks, width: int) -> Iterator[Line]:
    names = [marks.shown(entry.name) for entry in entries]
    longest = max((cells(((name, ""),)) for name in names), default=0)
    texts = max((cells(((marks.shown(entry.text), ""),)) for entry in entries), default=0)
    column = min(longest, max(width // 3, width - texts - 4, 12))
    for entry, name in zip(entries, names, strict=True):
        mark, style = marks.of(entry.state)
        dim = "dim" if style == "dim" else ""
        head: Line = (
            (f"{mark} ", style),
            (f"{fitted(name, column, marks.more)}  ", dim),
            (marks.shown(entry.text), style),
        )
        why = marks.shown(entry.why)
        if cells(head) + cells(((why, ""),)) + 2 <= width:
            yield (*head, (f"  {why}" if why else "", "dim"))
        else:
            yield cropped(head, width, marks.more)
            yield from (((f"    {line}", "dim"),) for line in wrapped(why, max(width - 4, 8)))
        if entry.more:
            yield ((f"  {marks.more} {entry.more:,} more like it", "dim"),)


def _answers(found: Estimate) -> str:
    """Say how long the answers may be, and what the estimate is based on."""
    if not found.measures:
        return "answers of unknown length"
    total = found.unmeasured + sum(found.measures.values())
    parts = [(_MEASURES[measure], count) for measure, count in found.measures.items()]
    parts += [("of unknown length", found.unmeasured)] if found.unmeasured else []
    how = ", ".join(name if count == total else f"{count:,} {name}" for name, count in parts)
    return f"about {found.answer_tokens:,} answer tokens ({how})"


def _range(found: Range, form: str, without_end: str) -> str:
    """Say `3`, `3 to 7`, or the least in the form `without_end` if the most is not known."""
    least = form.format(found.least)
    if found.most is None:
        return without_end.format(least)
    most = form.format(found.most)
    return least if least == most else f"{least} to {most}"


def _estimated(status: InstanceStatus, prices: Prices) -> dict[str, Json] | None:
    """Return what one instance is estimated to use and cost, None if it asks nothing."""
    if not status.kinds:
        return None
    found = estimate([status], prices)
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


def _state_and_why(statuses: Sequence[InstanceStatus]) -> tuple[str, str]:
    """Return the states of the instances of a step, and the reasons."""
    states, _, why = step_status(statuses).partition(": ")
    return states, why


def _reasons(statuses: Sequence[InstanceStatus]) -> list[str]:
    """Return all reasons, each with the number of its instances unless it is all of them.

    Those that differ only in what was found are one.
    """
    concerned = len([status for status in statuses if status.reasons])
    counts = Counter([reason for status in statuses for reason in status.reasons])
    causes: dict[str, list[str]] = {}
    for reason in counts:
        causes.setdefault(cause_of(reason), []).append(reason)
    found = []
    for first, *others in causes.values():
        text = without_finding(first) if others else first
        count = sum(counts[reason] for reason in (first, *others))
        found.append(text if count == concerned else f"{text} ({count:,})")
    return found
