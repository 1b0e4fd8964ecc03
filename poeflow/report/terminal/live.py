"""Draws a run on a terminal: a tree of its steps, which stays when the run has ended.

Events change the tree, each in constant time; a thread draws it ten times a second.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, Literal, Self, TextIO

import msgspec

from poeflow.clock import Clock, Ticker, spoken
from poeflow.events import Event
from poeflow.report.terminal.notes import Note, by_cause
from poeflow.report.terminal.run_summary import final_lines
from poeflow.report.terminal.screen import Screen
from poeflow.report.terminal.step_lines import (
    Frame,
    alone,
    ended_lines,
    header,
    name_width,
    row_line,
    step_line,
)
from poeflow.report.terminal.text import Line, cells, cropped, marks_for, wrapped
from poeflow.report.terminal.tree import Branch, Row, Tree

MAX_TOLD: Final = 20
"""How many failures, and how many warnings, are shown in full."""
Word = Literal["failed", "warning"]
FAR: Final = 8
"""With so many steps a failure may be out of sight, and is shown again at the end."""
WITH_HEAD: Final = 6
"""From this many rows on the name of the flow is shown above the steps."""
MAX_ROWS: Final = 24
"""How many running instances have a line."""
MAX_TAIL: Final = 12
"""How many lines of an arriving answer are shown."""
MIN_TAIL: Final = 8
"""The least width of such lines, in cells."""
_Rank = Literal["running", "failed", "waiting", "ended"]
_AFTER: Final[tuple[tuple[_Rank, Literal["running", "failed", "waiting"], str], ...]] = (
    ("running", "running", "more at work"),
    ("failed", "failed", "more failed"),
    ("waiting", "waiting", "more waiting"),
)
TICK: Final = 0.1
"""Seconds between two drawings."""


class LiveReport:
    """A listener that draws the run on `stream`. Use it as a context manager.

    If the terminal goes away, the run continues without it.
    """

    def __init__(self, stream: TextIO, clock: Clock, *, color: bool) -> None:
        self._clock = clock
        self._marks = marks_for(stream)
        self._screen = Screen(stream, color=color)
        self._tree = Tree()
        self._lock = threading.Lock()
        self._ticker = Ticker(self.draw, pause=TICK, name="terminal")

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ticker.stop()
        with self._lock:
            frame = self._frame()
            self._tree.end(frame.now)
        with suppress(OSError):
            self._screen.leave(list(closing(self._tree, frame)))

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._tree.hear(event, self._clock.monotonic())

    def draw(self) -> None:
        """Draw the current state of the run."""
        frame = self._frame()
        with self._lock:
            lines = picture(self._tree, frame)
        self._screen.draw(lines)

    def _frame(self) -> Frame:
        width, height = self._screen.size
        return Frame(width, height, self._marks, self._clock.monotonic())


def closing(tree: Tree, frame: Frame) -> Iterator[Line]:
    """Yield the lines that stay: steps in order, warnings, failures with hints, the summary.

    The line of a failed step says why; if it is cut, may have scrolled away, or belongs to a loop,
    the failure is shown again in full.
    """
    marks = frame.marks
    steps = tuple(tree.roots())
    names = name_width(steps, frame.width)
    if tree.flow:
        yield header(tree, frame)
    for branch in steps:
        yield from ended_lines(branch, frame, names)
    yield from _notes(tree.warnings, "warning", tree.totals["warnings"], frame)
    failures = tree.failures
    if len(steps) >= FAR or not all(_is_in_sight(tree, note, names, frame) for note in failures):
        yield from _notes(failures, "failed", tree.totals["failed"], frame)
    if tree.finished is not None:
        for text in final_lines(tree.finished):
            yield from (
                ((line, "bold"),) for line in wrapped(marks.shown(text), max(frame.width, 8))
            )


def picture(tree: Tree, frame: Frame) -> list[Line]:
    """Return the lines of a run in progress: at most `frame.height`, and not wider than it."""
    foot = _foot(tree, frame)
    if frame.height < 2:
        return [foot]
    if tree.remark and frame.height >= WITH_HEAD + 2:
        remark = cropped(
            ((frame.marks.shown(tree.remark), "yellow"),), frame.width, frame.marks.more
        )
        return [
            *_steps(tree, msgspec.structs.replace(frame, height=frame.height - 2)),
            remark,
            foot,
        ]
    return [*_steps(tree, msgspec.structs.replace(frame, height=frame.height - 1)), foot]


def _is_in_sight(tree: Tree, note: Note, names: int, frame: Frame) -> bool:
    """Whether the line of a step has room for the whole message of a failure."""
    branch = tree.branches.get(note.step)
    return branch is not None and names + cells(((branch.outcome, ""),)) + 3 <= frame.width


def _notes(notes: list[Note], word: Word, total: int, frame: Frame) -> Iterator[Line]:
    """Yield notes in full, wrapped, those of one cause together. `total` is how many there are."""
    mark, style = frame.marks.of("failed" if word == "failed" else "tolerated")
    for told in by_cause(notes)[:MAX_TOLD]:
        first, *rest = wrapped(frame.marks.shown(told.line(word)), max(frame.width - 2, 8))
        yield ((f"{mark} ", style), (first, ""))
        yield from (((f"  {line}", ""),) for line in rest)
        total -= len(told.steps)
    if total:
        yield ((f"  {total:,} more {'warnings' if word == 'warning' else word}", style),)


def _steps(tree: Tree, frame: Frame) -> list[Line]:
    """Return the lines of the steps, below the name of the flow."""
    lines = [header(tree, frame)] if frame.height >= WITH_HEAD else []
    shown, left = _chosen(tuple(tree.roots()), frame.height - len(lines))
    if left["ended"]:
        lines.append(_counted(frame, "done", f"{left['ended']:,} done"))
    after = [
        _counted(frame, state, f"{left[rank]:,} {word}")
        for rank, state, word in _AFTER
        if left[rank]
    ]
    room = frame.height - len(lines) - len(shown) - len(after)
    names = name_width(shown, frame.width)
    below = _below(shown, room, frame)
    for branch in shown:
        is_brief = branch in below and alone(branch) is not None
        lines += [step_line(branch, frame, names, is_brief=is_brief), *below.get(branch, ())]
    return [*lines, *after]


def _chosen(steps: Sequence[Branch], room: int) -> tuple[list[Branch], Counter[_Rank]]:
    """Return which steps to show, in order, and how many of each rank are left out."""
    if len(steps) <= room:
        return list(steps), Counter()
    ranked: dict[_Rank, list[int]] = {"running": [], "failed": [], "waiting": [], "ended": []}
    for index, step in enumerate(steps):
        ranked[_rank(step)].append(index)
    wanted = [*ranked["running"], *ranked["failed"], *ranked["waiting"][:2], *ranked["ended"][::-1]]
    totals = Counter({rank: len(found) for rank, found in ranked.items()})
    for count in range(room, 0, -1):
        left = totals - Counter(_rank(steps[index]) for index in wanted[:count])
        if count + len(left) <= room:
            return [steps[index] for index in sorted(wanted[:count])], left
    return [steps[index] for index in sorted(wanted[:room])], Counter()


def _rank(step: Branch) -> _Rank:
    if step.state in ("running", "failed", "waiting"):
        return step.state
    return "ended"


def _below(shown: Iterable[Branch], room: int, frame: Frame) -> dict[Branch, list[Line]]:
    """Return the lines below steps: their running instances, and the text that arrives."""
    working = [branch for branch in shown if branch.rows]
    rows = _rows(working, min(room, MAX_ROWS))
    room -= sum(len(found) + (len(found) < len(one.rows)) for one, found in rows.items())
    singles = [row for row in map(alone, working) if row is not None]
    streaming = [row for found in (singles, *rows.values()) for row in found if row.has_text]
    height = min(room // max(len(streaming), 1), MAX_TAIL)
    below: dict[Branch, list[Line]] = {}
    for branch in working:
        indent = 2 * branch.depth + 2
        one = alone(branch)
        lines = [] if one is None else _tail(one, indent, height, frame)
        for row in rows.get(branch, ()):
            tail = _tail(row, indent + 2, height, frame)
            line = row_line(row, frame, indent, labels=branch.labels, is_brief=bool(tail))
            lines += [line, *tail]
        hidden = len(branch.rows) - len(rows.get(branch, branch.rows))
        if hidden:
            mark, text = frame.marks.more, f"{hidden:,} more at work"
            lines.append(cropped(((f"{' ' * indent}{mark} {text}", "dim"),), frame.width, mark))
        if lines:
            below[branch] = lines
    return below


def _rows(working: Iterable[Branch], room: int) -> dict[Branch, list[Row]]:
    """Share `room` lines among steps with running instances; one line counts those left out."""
    apart = [branch for branch in working if alone(branch) is None]
    found: dict[Branch, list[Row]] = {}
    for index, branch in enumerate(apart):
        share = room // (len(apart) - index)
        if share == 0:
            continue
        count = len(branch.rows) if len(branch.rows) <= share else share - 1
        found[branch] = list(islice(branch.rows.values(), count))
        room -= count + (count < len(branch.rows))
    return found


def _tail(row: Row, indent: int, height: int, frame: Frame) -> list[Line]:
    """Return the last lines of an arriving answer, if at least two fit."""
    marks = frame.marks
    head = f"{' ' * indent}{marks.wall} "
    room = frame.width - len(head)
    if height < 2 or room < MIN_TAIL or not row.has_text:
        return []
    lines = row.tail(room, height)
    return [((head, "dim"), (marks.shown(line), "dim")) for line in lines]


def _foot(tree: Tree, frame: Frame) -> Line:
    """Return the last line: how long the run has taken, and how many instances are running."""
    waiting = sum(branch.state == "waiting" for branch in tree.branches.values())
    totals = tree.totals
    counts = (
        (len(tree.rows), "at work"),
        (waiting, "waiting"),
        (totals["failed"], "failed"),
        (totals["retries"], "retries" if totals["retries"] != 1 else "retry"),
        (totals["tokens"], "tokens"),
    )
    parts = [spoken(frame.now - tree.began), *(f"{n:,} {word}" for n, word in counts if n)]
    return cropped(((", ".join(parts), "dim"),), frame.width, frame.marks.more)


def _counted(
    frame: Frame, state: Literal["done", "running", "failed", "waiting"], text: str
) -> Line:
    mark, _ = frame.marks.of(state)
    return cropped(((f"{mark} {text}", "dim"),), frame.width, frame.marks.more)
