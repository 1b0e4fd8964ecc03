"""Formats a step, or a running instance, as one line: mark, name, progress or outcome."""

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from poeflow.clock import spoken
from poeflow.report.terminal.text import (
    Line,
    Marks,
    Piece,
    cells,
    cropped,
    end_of,
    fitted,
    padded,
    wrapped,
)
from poeflow.report.terminal.tree import Branch, Row, Tree

_WORDS: Final = {
    "asked": "answered",
    "cached": "from the cache",
    "rendered": "rendered",
    "ran": "ran",
    "tolerated": "failed and were passed over",
    "failed": "failed",
    "skipped": "skipped",
}
ELAPSED: Final = 8
"""The width of an instance's running time, in cells."""
WITH_MODEL: Final = 70
"""From this width on the model of a running instance is shown."""
WITH_BAR: Final = 50
LEAST: Final = 20
"""The least width, in cells, in which how a step ended is wrapped."""


class Frame(msgspec.Struct, frozen=True):
    """The size of the terminal, the marks it can show, and the time."""

    width: int
    height: int
    marks: Marks
    now: float


def name_width(branches: Iterable[Branch], width: int) -> int:
    """Return the width of the column of step names, in cells."""
    longest = max((len(one.name) + 2 * one.depth for one in branches), default=0)
    return min(longest, max(width // 3, 8))


def step_line(branch: Branch, frame: Frame, names: int, *, is_brief: bool = False) -> Line:
    """Return the line of a step. `names` is the width of the column of names.

    A brief line has no text of the answer, which is shown below it.
    """
    marks = frame.marks
    head = _head(branch, frame, names)
    one = alone(branch)
    if one is not None:
        room = 0 if is_brief else frame.width - cells(head) - 1
        rest = _working(one, frame, room)
    elif branch.state == "running":
        rest = _progress(branch, frame)
    else:
        rest = ((marks.shown(outcome(branch)), "red" if branch.state == "failed" else ""),)
    return cropped((*head, (" ", ""), *rest), frame.width, marks.more)


def ended_lines(branch: Branch, frame: Frame, names: int) -> Iterator[Line]:
    """Yield the line of a step that has ended, wrapped: only the reason of a failure is cut."""
    head = (*_head(branch, frame, names), (" ", ""))
    room = frame.width - cells(head)
    if (branch.state == "failed" and branch.outcome) or room < LEAST:
        yield step_line(branch, frame, names)
        return
    first, *more = wrapped(frame.marks.shown(outcome(branch)), room)
    yield (*head, (first, ""))
    yield from (((" " * cells(head) + line, ""),) for line in more)


def _head(branch: Branch, frame: Frame, names: int) -> Line:
    """Return the mark and the name of a step."""
    marks = frame.marks
    mark, style = marks.of(branch.state)
    if branch.state == "running":
        mark = marks.spin(frame.now)
    indent = "  " * branch.depth
    name = fitted(marks.shown(branch.name), max(names - len(indent), 1), marks.more)
    return (
        (indent, ""),
        (f"{mark} ", style),
        (name, "dim" if branch.state == "waiting" else ""),
    )


def row_line(
    row: Row, frame: Frame, indent: int, *, labels: int = 0, is_brief: bool = False
) -> Line:
    """Return the line of a running instance, to be shown below that of its step.

    `labels` is the width of the longest label of its step so far.
    """
    marks = frame.marks
    width = max(min(frame.width // 4, 24), min(labels, frame.width // 3), 6)
    label = fitted(marks.shown(row.label), width, marks.more)
    head: Line = ((" " * indent, ""), (f"{marks.spin(frame.now)} ", "cyan"), (f"{label} ", ""))
    room = 0 if is_brief else frame.width - cells(head)
    return cropped((*head, *_working(row, frame, room)), frame.width, marks.more)


def alone(branch: Branch) -> Row | None:
    """Return the running instance of a step that runs once, None if there is none."""
    if branch.state != "running" or branch.total is not None or len(branch.rows) != 1:
        return None
    (row,) = branch.rows.values()
    return None if row.label else row


def _working(row: Row, frame: Frame, room: int) -> Line:
    """Say how long an instance has run, what it does, and the end of its text in `room` cells."""
    marks = frame.marks
    pieces: list[Piece] = [(padded(spoken(frame.now - row.began), ELAPSED), "")]
    if frame.width >= WITH_MODEL:
        pieces.append((f"{marks.shown(row.model)}  ", "dim"))
    pieces.append((marks.shown(row.note(frame.now)), "yellow" if row.is_waiting else "dim"))
    room -= cells(tuple(pieces)) + 2
    if row.has_text and room > 8:
        words = marks.shown(row.words(room))
        pieces.append((f"  {end_of(words, room)}", "dim"))
    return tuple(pieces)


def _progress(branch: Branch, frame: Frame) -> Line:
    """Show the progress of the instances of a step."""
    marks, width = frame.marks, frame.width
    elapsed = spoken(frame.now - branch.began)
    if branch.total is None:
        return ((elapsed, ""),)
    bar: Line = ()
    if width >= WITH_BAR:
        size = min(width // 4, 30)
        full = min(branch.ended * size // max(branch.total, 1), size)
        bar = ((marks.bar * full, "green"), (marks.groove * (size - full), "dim"), (" ", ""))
    failed = branch.counts["failed"] + branch.counts["tolerated"]
    count = f"{branch.ended:,}/{branch.total:,}"
    return (
        *bar,
        (count, ""),
        (f", {failed:,} failed" if failed else "", "red"),
        (f"  {elapsed}{_usage(branch)}", "dim"),
    )


def outcome(branch: Branch) -> str:
    """Say how a step ended."""
    if branch.state == "stopped":
        without = sum(branch.counts[how] for how in ("failed", "tolerated", "skipped"))
        done = f", {branch.ended - without:,} of {branch.total or 0:,} done"
        return f"stopped after {spoken(branch.seconds)}{'' if branch.total is None else done}"
    if branch.outcome or branch.total is None or branch.state == "waiting":
        return f"{branch.outcome}{_usage(branch)}"
    counts = [f"{count:,} {_WORDS[how]}" for how, count in branch.counts.items() if count]
    current = branch.total - branch.ended
    if current > 0:
        counts.append(f"{current:,} current")
    ends = ", ".join(counts) or "nothing to do"
    return f"{ends} in {spoken(branch.seconds)}{_usage(branch)}"


def _usage(branch: Branch) -> str:
    """Say what a step used and wrote: scores and tokens if it ran often, retries, files."""
    parts = []
    if min(branch.scores, default=1) < 1 and branch.state != "running" and not branch.outcome:
        parts.append(f"mean score {sum(branch.scores) / len(branch.scores):.2f}")
    if branch.tokens and not branch.outcome:
        parts.append(f"{branch.tokens:,} tokens")
    if branch.retries and branch.state != "running":
        parts.append("1 retry" if branch.retries == 1 else f"{branch.retries:,} retries")
    if branch.files and branch.state != "running":
        parts.append(f"wrote {branch.path if branch.files == 1 else f'{branch.files:,} files'}")
    return "".join(f", {part}" for part in parts)


def header(tree: Tree, frame: Frame) -> Line:
    """Return the line above the steps: the flow, and whether the run is simulated."""
    note = "  simulated, nothing is sent to Poe" if tree.is_simulated else ""
    line = ((frame.marks.shown(tree.flow), "bold"), (note, "dim"))
    return cropped(line, frame.width, frame.marks.more)
