"""A step, or an instance at work, as one line: mark, name, and what there is to say of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from poeflow.clock import spoken
from poeflow.report.terminal.text import Line, Marks, Piece, cells, cropped, ending, padded
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
"""How many cells the time has that an instance has been at work."""
WITH_MODEL: Final = 70
"""From this many cells on the model of an instance at work is shown."""
WITH_BAR: Final = 50


@dataclass(frozen=True, slots=True)
class Frame:
    """The room there is, how to draw in it, and the time."""

    width: int
    height: int
    marks: Marks
    now: float


def name_width(branches: Iterable[Branch], width: int) -> int:
    """Return in how many cells the names of steps are shown, so that what follows lines up."""
    longest = max((len(one.name) + 2 * one.depth for one in branches), default=0)
    return min(longest, max(width // 3, 8))


def step_line(branch: Branch, frame: Frame, names: int, *, is_brief: bool = False) -> Line:
    """Return the line of a step. `names` is the width of the column of names.

    A brief one has no text of its answer: that stands below it.
    """
    marks = frame.marks
    mark, style = marks.of(branch.state)
    if branch.state == "running":
        mark = marks.spin(frame.now)
    indent = "  " * branch.depth
    name = padded(marks.shown(branch.name), max(names - len(indent), 1))
    head: Line = (
        (indent, ""),
        (f"{mark} ", style),
        (name, "dim" if branch.state == "waiting" else ""),
    )
    one = alone(branch)
    if one is not None:
        room = 0 if is_brief else frame.width - cells(head) - 1
        rest = _working(one, frame, room)
    elif branch.state == "running":
        rest = _progress(branch, frame)
    else:
        rest = ((marks.shown(outcome(branch)), "red" if branch.state == "failed" else ""),)
    return cropped((*head, (" ", ""), *rest), frame.width, marks.more)


def row_line(row: Row, frame: Frame, indent: int, *, is_brief: bool = False) -> Line:
    """Return the line of an instance at work, below that of its step."""
    marks = frame.marks
    label = padded(marks.shown(row.label), max(min(frame.width // 4, 24), 6))
    head: Line = ((" " * indent, ""), (f"{marks.spin(frame.now)} ", "cyan"), (f"{label} ", ""))
    room = 0 if is_brief else frame.width - cells(head)
    return cropped((*head, *_working(row, frame, room)), frame.width, marks.more)


def alone(branch: Branch) -> Row | None:
    """Return the one instance at work of a step that runs once."""
    if branch.state != "running" or branch.total is not None or len(branch.rows) != 1:
        return None
    (row,) = branch.rows.values()
    return None if row.label else row


def _working(row: Row, frame: Frame, room: int) -> Line:
    """Say how long an instance has worked, on what, and what it says in the `room` there is."""
    marks = frame.marks
    pieces: list[Piece] = [(padded(spoken(frame.now - row.began), ELAPSED), "")]
    if frame.width >= WITH_MODEL:
        pieces.append((f"{marks.shown(row.model)}  ", "dim"))
    pieces.append((marks.shown(row.note(frame.now)), "yellow" if row.is_waiting else "dim"))
    room -= cells(tuple(pieces)) + 2
    if row.has_text and room > 8:
        said = marks.shown(row.words(room))
        pieces.append((f"  {ending(said, room)}", "dim"))
    return tuple(pieces)


def _progress(branch: Branch, frame: Frame) -> Line:
    """Say how far the instances of a step have come."""
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
        (f"  {elapsed}{_told(branch)}", "dim"),
    )


def outcome(branch: Branch) -> str:
    """Say how a step ended."""
    if branch.state == "stopped":
        done = "" if branch.total is None else f", {branch.ended:,} of {branch.total:,} done"
        return f"stopped after {spoken(branch.seconds)}{done}"
    if branch.said or branch.total is None or branch.state == "waiting":
        return f"{branch.said}{_told(branch)}"
    counts = [f"{count:,} {_WORDS[how]}" for how, count in branch.counts.items() if count]
    current = branch.total - branch.ended
    if current > 0:
        counts.append(f"{current:,} current")
    told = ", ".join(counts) or "nothing to do"
    return f"{told} in {spoken(branch.seconds)}{_told(branch)}"


def _told(branch: Branch) -> str:
    """Say what a step took and left: tokens where it ran more than once, retries, files."""
    parts = []
    if branch.tokens and not branch.said:
        parts.append(f"{branch.tokens:,} tokens")
    if branch.retries and branch.state != "running":
        parts.append("1 retry" if branch.retries == 1 else f"{branch.retries:,} retries")
    if branch.files and branch.state != "running":
        parts.append(f"wrote {branch.path if branch.files == 1 else f'{branch.files:,} files'}")
    return "".join(f", {part}" for part in parts)


def header(tree: Tree, frame: Frame) -> Line:
    """Return the line above the steps: what runs, and whether it is real."""
    note = "  simulated, nothing is sent to Poe" if tree.is_simulated else ""
    line = ((frame.marks.shown(tree.flow), "bold"), (note, "dim"))
    return cropped(line, frame.width, frame.marks.more)
