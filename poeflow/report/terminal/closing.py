"""What stays on the screen when a run has ended: its whole tree, what went wrong, and the sum."""

from collections.abc import Iterator
from typing import Final, Literal

from poeflow.report.log import ending
from poeflow.report.terminal.branch import Note
from poeflow.report.terminal.step_lines import Frame, header, name_width, step_line
from poeflow.report.terminal.text import Line, cells, wrapped
from poeflow.report.terminal.tree import Tree

MAX_TOLD: Final = 20
"""How many failures, and how many warnings, are told in full."""
Word = Literal["failed", "warning"]
FAR: Final = 8
"""So many lines above the sum, a failure is out of sight and told once more."""


def closing(tree: Tree, frame: Frame) -> Iterator[Line]:
    """Yield the lines that stay: steps in order, warnings, failures with what to do, the sum.

    A failed step says why in its own line; where that is cut, or has scrolled away, or instances
    of a loop failed, it is told again in full.
    """
    marks = frame.marks
    steps = tuple(tree.roots())
    names = name_width(steps, frame.width)
    if tree.flow:
        yield header(tree, frame)
    for branch in steps:
        yield step_line(branch, frame, names)
    yield from _notes(tree.warnings, "warning", tree.totals["warnings"], frame)
    failures = tree.failures
    if len(steps) >= FAR or not all(_is_in_sight(tree, note, names, frame) for note in failures):
        yield from _notes(failures, "failed", tree.totals["failed"], frame)
    if tree.finished is not None:
        for said in ending(tree.finished):
            yield from (
                ((line, "bold"),) for line in wrapped(marks.shown(said), max(frame.width, 8))
            )


def _is_in_sight(tree: Tree, note: Note, names: int, frame: Frame) -> bool:
    """Whether the line of a step says all that there is to say of a failure."""
    branch = tree.branches.get(note.step)
    return branch is not None and names + cells(((branch.said, ""),)) + 3 <= frame.width


def _notes(notes: list[Note], word: Word, total: int, frame: Frame) -> Iterator[Line]:
    """Yield notes in full: who, what, and what to do, wrapped. `total` is how many there are."""
    mark, style = frame.marks.of("failed" if word == "failed" else "tolerated")
    told: dict[str, list[str]] = {}
    for note in notes:
        told.setdefault(note.message, []).append(note.step)
    for message, steps in list(told.items())[:MAX_TOLD]:
        text = frame.marks.shown(f"{_who(steps)}{word}: {message}")
        first, *rest = wrapped(text, max(frame.width - 2, 8))
        yield ((f"{mark} ", style), (first, ""))
        yield from (((f"  {line}", ""),) for line in rest)
        total -= len(steps)
    if total:
        yield ((f"  {total:,} more {'warnings' if word == 'warning' else word}", style),)


def _who(steps: list[str]) -> str:
    """Name the instances of which the same is told; nobody where it is told of the run."""
    named = ", ".join(step for step in steps[:3] if step)
    more = len(steps) - 3
    return f"{named}{f' and {more:,} more' if more > 0 else ''}: " if named else ""
