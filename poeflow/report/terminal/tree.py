"""A run as a tree of steps, kept up to date by its events, each in constant time.

It knows nothing of terminals: how the tree is drawn is left to others.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

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
from poeflow.facts import step_of
from poeflow.report.log import estimated
from poeflow.report.terminal.branch import Branch, Note, Part
from poeflow.report.terminal.row import Row

_STEPS: Final = re.compile(r"[a-z_][a-z0-9_]*(?:/[a-z_][a-z0-9_]*)*", re.IGNORECASE)
_SAMPLE: Final = re.compile(r"#\d+\Z")
_KEYED: Final = re.compile(r"\[(.*)\](#\d+)?", re.DOTALL)
MAX_NOTES: Final = 500
"""How many failures and warnings are kept for the end, of all steps together."""


class Tree:
    """Hears the events of a run. `branches` are its steps in order, outermost first.

    `remark` is what was last told of the run as a whole.
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

    def hear(self, event: Event, now: float) -> None:
        """Note what happened at `now`, a time of the report's clock."""
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
                branch, part = self._end(event.step, now)
                self.totals["tokens"] += (event.prompt_tokens or 0) + (event.completion_tokens or 0)
                branch.finish(event, part, now)
            case StepFailed():
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
        """Note what is told of an instance at work."""
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
            case Expected() if event.level == "warn" or _SAMPLE.search(event.step):
                self._warn(event.step, event.message)
            case Warned():
                self._warn(event.step or "", event.message)

    def end(self, now: float) -> None:
        """Note that nothing more will be heard: what is not done was stopped."""
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
        whole = _SAMPLE.sub("", event.step)
        if whole != event.step:
            self._samples.setdefault(whole, []).append(event.step)

    def _end(self, instance: str, now: float) -> tuple[Branch, Part]:
        """Drop what was at work for an instance, its samples too, and say what it is of a step."""
        branch, inner = self._place(instance)
        branch.start(now)
        for name in (instance, *self._samples.pop(instance, ())):
            self.rows.pop(name, None)
            branch.rows.pop(name, None)
        if not inner:
            return branch, "whole"
        return branch, "within" if _is_within(instance, inner) else "instance"

    def _place(self, instance: str) -> tuple[Branch, str]:
        """Return the step an instance is of, and what tells the instance from others of it.

        What a loop over a flow runs counts as that loop's: it is one line, however many there are.
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
    """Whether an instance is run by another: by what `inner` tells from others of its step."""
    return step_of(instance) != instance.removesuffix(inner)


def _label(instance: str, inner: str) -> str:
    """Return what an instance is called below its step: its key, its sample, or what it runs."""
    keyed = None if _is_within(instance, inner) else _KEYED.fullmatch(inner)
    return inner if keyed is None else f"{keyed[1]} {keyed[2] or ''}".rstrip()
