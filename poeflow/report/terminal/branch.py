"""One step of a run as it is drawn: its state, its counts, and its instances at work."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from poeflow.events import StepFailed, StepFinished, StepSkipped
from poeflow.report.log import finished
from poeflow.report.terminal.marks import Work
from poeflow.report.terminal.row import Row

Part = Literal["whole", "instance", "within"]
"""What of a step an event is about: all of it, one of its instances, or what one of them runs."""


@dataclass(frozen=True, slots=True)
class Note:
    """Something to tell of an instance at the end of a run."""

    step: str
    message: str


class Branch:
    """A step, or all that a loop over a flow runs. `total` is None where it runs once.

    `began` and `seconds` are by the report's clock; `said` is what is told of one that has ended.
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
        self.files = 0
        self.path = ""
        self.began = 0.0
        self.seconds = 0.0
        self.said = ""
        self.trouble = ""
        self.rows: dict[str, Row] = {}
        self.children: list[Branch] = []

    @property
    def ended(self) -> int:
        """How many instances have ended, one way or another."""
        return sum(self.counts.values())

    def walk(self) -> Iterator["Branch"]:
        """Yield the branch and then all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def start(self, now: float) -> None:
        """Note that something of it is at work, and so of what it is nested in."""
        if self.state == "waiting":
            self.state, self.began = "running", now
            if self.above is not None:
                self.above.start(now)

    def expand(self, instances: int, now: float) -> None:
        self.total = instances
        self._settle(now)

    def finish(self, event: StepFinished, part: Part, now: float) -> None:
        self.tokens += (event.prompt_tokens or 0) + (event.completion_tokens or 0)
        if part == "instance":
            self.counts[event.source] += 1
            self._settle(now)
        elif part == "whole":
            self._end("done", now, finished(event))

    def fail(self, event: StepFailed, part: Part, now: float) -> None:
        self.trouble = event.message
        self.tokens += (event.prompt_tokens or 0) + (event.completion_tokens or 0)
        if part == "instance":
            self.counts["tolerated" if event.is_tolerated else "failed"] += 1
            self._settle(now)
        elif part == "whole":
            self._end("tolerated" if event.is_tolerated else "failed", now, event.message)

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
        """Note that nothing more will be heard: what has not ended is now in `state`."""
        self.rows.clear()
        if self.state == "running":
            self._end(state, now, "")
        elif self.state == "waiting" and state == "current":
            self.start(now)
            self._end(state, now, "current")
        elif self.state == "waiting":
            self.said = "not started"

    def _settle(self, now: float) -> None:
        """End the step where all of its instances have."""
        if self.total is None or self.ended < self.total:
            return
        if self.counts["failed"]:
            self._end("failed", now, "")
        elif self.counts["tolerated"]:
            self._end("tolerated", now, "")
        else:
            is_skipped = self.total and self.counts["skipped"] == self.total
            self._end("skipped" if is_skipped else "done", now, "")

    def _end(self, state: Work, now: float, said: str) -> None:
        self.state, self.said = state, said
        self.seconds = now - self.began
