"""A run as a tree of steps, updated by its events, each in constant time."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from poeflow.clock import spoken
from poeflow.errors import EXIT_CLASSES
from poeflow.events import (
    Event,
    Expected,
    FellBack,
    FileWritten,
    RequestSent,
    RetryPlanned,
    RunEstimated,
    RunFinished,
    RunStarted,
    StepExpanded,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
    TextArrived,
    ToolCalled,
    Warned,
)
from poeflow.lazy_pattern import lazy_pattern
from poeflow.records import step_of
from poeflow.redact import visible
from poeflow.report.terminal.notes import MAX_NOTES, Note
from poeflow.report.terminal.run_summary import estimated, finished
from poeflow.report.terminal.text import Work, paired, wrapped

TAIL_CHARACTERS: Final = 4_000
MAX_LABEL: Final = 200
MAX_STATUS: Final = 20
"""A longer reason for a retry stands behind what is done about it, as it may be cut."""
_AT_WORK: Final = {
    "judge": "judging",
    "repair": "repairing",
    "tools": "going on",
    "repeat": "repeating",
}
"""The words for a request that is not the first of its instance."""


class Row:
    """A running instance, updated by its events, each in constant time.

    `label` names it among others of its step, `began` is a time of the report's clock.
    """

    __slots__ = ("_kept", "_note", "_pieces", "_size", "_until", "began", "label", "model")

    def __init__(self, label: str, model: str, began: float) -> None:
        self.label = label[:MAX_LABEL]
        self.model = model[:MAX_LABEL]
        self.began = began
        self._note = ""
        self._until = 0.0
        self._size = 0
        self._pieces: list[str] = []
        self._kept = 0

    def grow(self, event: TextArrived) -> None:
        if event.kind == "reasoning":
            self._note = "thinking"
            return
        self._note = ""
        self._size += len(event.text)
        self._kept += len(event.text)
        self._pieces.append(event.text)
        if self._kept > 2 * TAIL_CHARACTERS or len(self._pieces) > TAIL_CHARACTERS:
            self._pieces = ["".join(self._pieces)[-TAIL_CHARACTERS:]]
            self._kept = len(self._pieces[0])

    def begin(self, event: RequestSent) -> None:
        """Record that a request was sent: text that arrives from now on answers it."""
        self._pieces, self._kept, self._size = [], 0, 0
        self.model = event.model[:MAX_LABEL]
        if event.purpose in _AT_WORK:
            self.say(_AT_WORK[event.purpose])

    def start_over(self, event: RetryPlanned, now: float) -> None:
        """Drop the text so far: the next attempt answers from the beginning."""
        self._pieces, self._kept, self._size = [], 0, 0
        self._note = event.reason if event.status is None else str(event.status)
        self._until = now + event.wait

    def say(self, note: str) -> None:
        """Show a note until text arrives."""
        self._note, self._until = note, 0.0

    @property
    def has_text(self) -> bool:
        return self._size > 0

    @property
    def is_waiting(self) -> bool:
        """Whether an attempt failed and the next one has no text yet."""
        return bool(self._note) and self._until > 0

    def note(self, now: float) -> str:
        """Say what the instance is doing; empty if nothing has happened yet."""
        if self.is_waiting:
            left = self._until - now
            what = f"waiting {spoken(left)}" if left > 0 else "asking again"
            return (
                f"{self._note}, {what}"
                if len(self._note) <= MAX_STATUS
                else f"{what}: {self._note}"
            )
        return self._note or (f"{self._size:,} characters" if self._size else "")

    def words(self, count: int) -> str:
        """Return about the last `count` characters on one line, without control characters."""
        found: list[str] = []
        for piece in reversed(self._pieces):
            if count <= 0:
                break
            found.append(piece[-TAIL_CHARACTERS:])
            count -= len(piece)
        return " ".join(_harmless(found[::-1]).split())

    def tail(self, width: int, height: int) -> list[str]:
        """Return the last lines of the text: at most `height`, of at most `width` cells.

        Wrapping starts at the beginning of the stored text, so that lines do not jump.
        """
        text = _harmless(self._pieces).rstrip("\n").replace("\t", "    ")
        paragraphs = text.split("\n")[-max(height, 1) :]
        lines = [line for paragraph in paragraphs for line in wrapped(paragraph, max(width, 2))]
        return lines[-max(height, 1) :]


def _harmless(pieces: Iterable[str]) -> str:
    """Return the joined pieces with control characters escaped, except line breaks and tabs."""
    return visible(paired("".join(pieces)).replace("\r\n", "\n"))


Part = Literal["whole", "instance", "within"]
"""The part of a step that an event is about: all, one instance, or what an instance runs."""


class Branch:
    """A step, with all that a loop over a flow runs. `total` is None if it runs once.

    `began` and `seconds` are by the report's clock; `outcome` says how it ended. `labels` is the
    length of the longest label of its instances so far.
    """

    def __init__(self, name: str, above: "Branch | None" = None) -> None:
        self.name = name
        self.above = above
        self.depth: int = 0 if above is None else above.depth + 1
        self.state: Work = "waiting"
        self.total: int | None = None
        self.counts: Counter[str] = Counter()
        self.tokens = 0
        self.retries = 0
        self.scores: list[float] = []
        self.files = 0
        self.labels = 0
        self.path = ""
        self.began = 0.0
        self.seconds = 0.0
        self.outcome = ""
        self.trouble = ""
        self.rows: dict[str, Row] = {}
        self.children: list[Branch] = []

    @property
    def ended(self) -> int:
        """How many instances have ended."""
        return sum(self.counts.values())

    def walk(self) -> Iterator["Branch"]:
        """Yield the branch and then all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def start(self, now: float) -> None:
        """Mark the branch, and those around it, as running."""
        if self.state == "waiting":
            self.state, self.began = "running", now
            if self.above is not None:
                self.above.start(now)

    def expand(self, instances: int, now: float) -> None:
        self.total = instances
        self._settle(now)

    def finish(self, event: StepFinished, part: Part, now: float) -> None:
        self._add_up(event, part)
        if part == "instance":
            self.counts[event.source] += 1
            self._settle(now)
        elif part == "whole":
            self._end("done", now, finished(event))

    def fail(self, event: StepFailed, part: Part, now: float) -> None:
        self.trouble = event.message
        self._add_up(event, part)
        if part == "instance":
            self.counts["tolerated" if event.is_tolerated else "failed"] += 1
            self._settle(now)
        elif part == "whole":
            self._end("tolerated" if event.is_tolerated else "failed", now, event.message)

    def _add_up(self, event: StepFinished | StepFailed, part: Part) -> None:
        self.tokens += (event.prompt_tokens or 0) + (event.completion_tokens or 0)
        if event.score is not None and part != "within":
            self.scores.append(event.score)

    def skip(self, event: StepSkipped, part: Part, now: float) -> None:
        if part == "instance":
            self.counts["skipped"] += 1
            self._settle(now)
        elif part == "whole":
            self._end("skipped", now, f"skipped, {event.reason}")

    def wrote(self, path: str) -> None:
        self.files += 1
        self.path = path

    def close(self, state: Work, now: float) -> None:
        """Close the branch at the end of the run: if it was running, it is now in `state`."""
        self.rows.clear()
        if self.state == "running":
            self._end(state, now, "")
        elif self.state == "waiting" and state == "current":
            self.start(now)
            self._end(state, now, "current")
        elif self.state == "waiting":
            self.outcome = "not started"

    def _settle(self, now: float) -> None:
        """End the step if all of its instances have ended."""
        if self.total is None or self.ended < self.total:
            return
        if self.counts["failed"]:
            self._end("failed", now, "")
        elif self.counts["tolerated"]:
            self._end("tolerated", now, "")
        else:
            is_skipped = self.total and self.counts["skipped"] == self.total
            self._end("skipped" if is_skipped else "done", now, "")

    def _end(self, state: Work, now: float, outcome: str) -> None:
        self.state, self.outcome = state, outcome
        self.seconds = now - self.began


_STEPS: Final = lazy_pattern(r"[a-z_][a-z0-9_]*(?:/[a-z_][a-z0-9_]*)*", re.IGNORECASE)
_SAMPLE: Final = lazy_pattern(r"#\d+\Z")
_KEYED: Final = lazy_pattern(r"\[(.*)\](#\d+)?", re.DOTALL)


class Tree:
    """A listener that builds the tree. `branches` are the steps in order, outermost first.

    `remark` is the last message about the run as a whole. What samples do not meet is a warning
    if their step does not fail by it.
    """

    def __init__(self) -> None:
        self.flow = ""
        self.is_simulated = False
        self.began = 0.0
        self.branches: dict[str, Branch] = {}
        self.rows: dict[str, Row] = {}
        self.finished: RunFinished | None = None
        self.remark = ""
        self.failures: list[Note] = []
        self.warnings: list[Note] = []
        self.totals: Counter[str] = Counter()
        self._samples: dict[str, list[str]] = {}
        self._unmet: dict[str, list[Note]] = {}

    def hear(self, event: Event, now: float) -> None:
        """Update the tree with an event at `now`, a time of the report's clock."""
        match event:
            case TextArrived():
                if (row := self.rows.get(event.step)) is not None:
                    row.grow(event)
            case RunStarted():
                self.flow, self.is_simulated, self.began = event.flow, event.simulated, now
                for step in event.steps:
                    self._branch(step)
            case RunFinished():
                self.finished = event
                is_cut_short = EXIT_CLASSES.get(event.exit_code) == "interrupted"
                for branch in self.branches.values():
                    branch.close("stopped" if is_cut_short else "current", now)
            case RunEstimated():
                self.remark = estimated(event)
            case Warned(step=None):
                self.remark = event.message
                self._warn("", event.message)
            case _:
                self._hear_of_step(event, now)

    def _hear_of_step(self, event: Event, now: float) -> None:
        match event:
            case StepExpanded():
                branch, part = self._end(event.step, now)
                if part == "whole":
                    branch.expand(event.instances, now)
            case StepStarted():
                self._start(event, now)
            case StepFinished():
                for note in self._unmet.pop(event.step, ()):
                    self._warn(note.step, note.message)
                branch, part = self._end(event.step, now)
                self.totals["tokens"] += (event.prompt_tokens or 0) + (event.completion_tokens or 0)
                branch.finish(event, part, now)
            case StepFailed():
                self._unmet.pop(event.step, None)  # its message says so
                branch, part = self._end(event.step, now)
                self.totals["tokens"] += (event.prompt_tokens or 0) + (event.completion_tokens or 0)
                branch.fail(event, part, now)
                if event.is_told:
                    return
                if event.is_tolerated:
                    self._warn(event.step, event.message)
                else:
                    self.totals["failed"] += 1
                    self._keep(self.failures, Note(event.step, event.message))
            case StepSkipped():
                branch, part = self._end(event.step, now)
                branch.skip(event, part, now)
            case FileWritten():
                self._place(event.step)[0].wrote(event.path)
            case _:
                self._remark(event, now)

    def _remark(self, event: Event, now: float) -> None:
        """Update a running instance with an event."""
        match event:
            case RequestSent() if (row := self.rows.get(event.step)) is not None:
                row.begin(event)
            case RetryPlanned():
                self.totals["retries"] += 1
                self._place(event.step)[0].retries += 1
                if (row := self.rows.get(event.step)) is not None:
                    row.start_over(event, now)
            case FellBack():
                self._warn(event.step, f"{event.reason}; asked {event.model} in its place")
                if (row := self.rows.get(event.step)) is not None:
                    row.model = event.model
            case ToolCalled():
                if (row := self.rows.get(event.step)) is not None:
                    row.say(f"ran {event.tool}{', which failed' if event.is_error else ''}")
            case Expected(level="warn"):
                self._warn(event.step, event.message)
            case Expected() if (whole := _SAMPLE.sub("", event.step)) != event.step:
                self._unmet.setdefault(whole, []).append(Note(event.step, event.message))
            case Warned():
                self._warn(event.step or "", event.message)

    def end(self, now: float) -> None:
        """Close all branches: the steps that have not ended were stopped."""
        self.rows.clear()
        for branch in self.branches.values():
            branch.close("stopped", now)

    def roots(self) -> Iterator[Branch]:
        """Yield the branches as they are drawn: each before those nested below it."""
        return (one for root in self.branches.values() if not root.depth for one in root.walk())

    def _start(self, event: StepStarted, now: float) -> None:
        branch, inner = self._place(event.step)
        branch.start(now)
        row = Row(_label(event.step, inner), event.model or "", now)
        self.rows[event.step] = branch.rows[event.step] = row
        branch.labels = max(branch.labels, len(row.label))
        whole = _SAMPLE.sub("", event.step)
        if whole != event.step:
            self._samples.setdefault(whole, []).append(event.step)

    def _end(self, instance: str, now: float) -> tuple[Branch, Part]:
        """Remove the running rows of an instance and its samples; return its branch and part."""
        branch, inner = self._place(instance)
        branch.start(now)
        for name in (instance, *self._samples.pop(instance, ())):
            self.rows.pop(name, None)
            branch.rows.pop(name, None)
        if not inner:
            return branch, "whole"
        return branch, "within" if _is_within(instance, inner) else "instance"

    def _place(self, instance: str) -> tuple[Branch, str]:
        """Return the branch of an instance, and the rest of its id.

        Whatever a loop over a flow runs belongs to the branch of that loop.
        """
        found = _STEPS.match(instance)
        step = found[0] if found is not None else instance
        return self._branch(step), instance[len(step) :]

    def _branch(self, step: str) -> Branch:
        branch = self.branches.get(step)
        if branch is None:
            above, _, name = step.rpartition("/")
            parent = self._branch(above) if above else None
            branch = Branch(name, parent)
            self.branches[step] = branch
            if parent is not None:
                parent.children.append(branch)
        return branch

    def _warn(self, step: str, message: str) -> None:
        self.totals["warnings"] += 1
        self._keep(self.warnings, Note(step, message))

    def _keep(self, notes: list[Note], note: Note) -> None:
        if len(notes) < MAX_NOTES:
            notes.append(note)


def _is_within(instance: str, inner: str) -> bool:
    """Whether an instance is run by another, given the rest `inner` of its id."""
    return step_of(instance) != instance.removesuffix(inner)


def _label(instance: str, inner: str) -> str:
    """Return the label of an instance below its step: its key, its sample, or what it runs."""
    keyed = None if _is_within(instance, inner) else _KEYED.fullmatch(inner)
    return inner if keyed is None else f"{keyed[1]} {keyed[2] or ''}".rstrip()
