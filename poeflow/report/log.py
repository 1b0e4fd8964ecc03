"""A run as plain lines on stderr: for logs, pipes and terminals that cannot do more."""

from dataclasses import dataclass
from typing import Final, TextIO

from poeflow.clock import spoken
from poeflow.errors import EXIT_CLASSES
from poeflow.events import (
    Event,
    Expected,
    FellBack,
    FileWritten,
    Purpose,
    RequestSent,
    RetryPlanned,
    RunEstimated,
    RunFinished,
    RunStarted,
    StepExpanded,
    StepFailed,
    StepFinished,
    StepSkipped,
    ToolCalled,
    Warned,
)
from poeflow.records import Counts, going_on, step_of, wholes_of
from poeflow.redact import visible
from poeflow.report.github_commands import inert

FAR: Final = 40
"""After so many lines failures are told once more at the end, the first of them in full."""
MAX_AGAIN: Final = 20
MANY: Final = 50
"""Of a loop with more instances than these, only what goes wrong has lines of its own."""
PAUSE: Final = 10.0
"""Seconds between two lines that say how far such a loop has come."""
_FOR: Final[dict[Purpose, str]] = {
    "answer": "",
    "repair": " to repair its answer",
    "tools": " with what the tools gave",
    "judge": " to judge the answer",
    "fallback": " in its place",
}
"""How a log says what a request is for."""


class PlainReport:
    """Writes one line for each event that matters to a reader of a log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines = 0
        self._failed = 0
        self._failures: list[str] = []
        self._loops: dict[str, LongLoop] = {}

    def __call__(self, event: Event) -> None:
        line = line_of(event) if not self._is_counted(event) else ""
        if isinstance(event, StepFailed) and not (event.is_told or event.is_tolerated):
            self._failed += 1
            if len(self._failures) < MAX_AGAIN:
                self._failures.append(f"failed: {event.step}: {event.message}")
        if isinstance(event, RunFinished) and self._failed and self._lines > FAR:
            self._write(*self._failures)
            if self._failed > MAX_AGAIN:
                self._write(f"failed: {self._failed - MAX_AGAIN:,} more")
        if line:
            self._write(line)
        if isinstance(event, RunFinished):
            self._write(*ending(event))

    def _is_counted(self, event: Event) -> bool:
        """Count what goes well in a long loop, and say now and then how far it has come."""
        match event:
            case StepExpanded() if event.instances > MANY:
                self._loops[event.step] = LongLoop(event.step, event.instances, event.at, event.at)
            case RequestSent() | FileWritten():
                return self._loop_of(event.step) is not None
            case StepFinished() | StepFailed() | StepSkipped() if self._loops:
                loop = self._loop_of(event.step)
                if loop is None:
                    return False
                if loop.step == step_of(event.step):
                    self._progress(loop, event)
                return isinstance(event, StepFinished)
            case _:
                pass
        return False

    def _loop_of(self, instance: str) -> "LongLoop | None":
        """Return the long loop that an instance is of, or is run by."""
        names = wholes_of(instance) if self._loops else ()
        return next((self._loops[name] for name in names if name in self._loops), None)

    def _progress(self, loop: "LongLoop", event: StepFinished | StepFailed | StepSkipped) -> None:
        loop.done += 1
        loop.failed += isinstance(event, StepFailed)
        is_last = loop.done == loop.total
        if is_last or event.at - loop.told >= PAUSE:
            loop.told = event.at
            self._write(loop.line(event.at))

    def _write(self, *lines: str) -> None:
        self._lines += len(lines)
        for line in lines:
            self._stream.write(inert(visible(line).replace("\n", " ")) + "\n")
        self._stream.flush()


@dataclass
class LongLoop:
    """A long loop on its way: of `total` instances, which began at `began` by the run's clock."""

    step: str
    total: int
    began: float
    told: float
    done: int = 0
    failed: int = 0

    def line(self, now: float) -> str:
        """Say how far it has come, and how long the rest takes at this pace."""
        told = f"{self.step}: {self.done:,} of {self.total:,} done"
        if self.failed:
            told += f", {self.failed:,} failed"
        if self.done == self.total:
            return f"{told} in {spoken(now - self.began)}"
        rest = (now - self.began) / self.done * (self.total - self.done)
        return f"{told}, about {spoken(rest)} to go"


def line_of(event: Event) -> str:
    """Return the line for an event, empty where there is nothing to say."""
    match event:
        case RunStarted(simulated=True):
            return f"{event.flow}: simulated run, nothing is sent to Poe"
        case RunEstimated():
            return estimated(event)
        case RequestSent():
            return f"{event.step}: asking {event.model}{_FOR[event.purpose]}"
        case RetryPlanned():
            return f"{event.step}: {event.reason}, waiting {spoken(event.wait)}"
        case FellBack():
            return f"{event.step}: {event.reason}; asking {event.model} in its place"
        case ToolCalled():
            return f"{event.step}: ran {event.tool}{', which failed' if event.is_error else ''}"
        case Expected():
            level = "warning: " if event.level == "warn" else ""
            return f"{event.step}: {level}{event.message}"
        case StepExpanded():
            return f"{event.step}: {event.instances} to do"
        case FileWritten():
            return f"{event.step}: wrote {event.path}"
        case StepFinished():
            is_made_up = event.simulated and event.source in ("asked", "cached")
            return f"{event.step}: {finished(event)}{', simulated' if is_made_up else ''}"
        case StepFailed():
            how = "failed, and the run goes on," if event.is_tolerated else "failed"
            return f"{event.step}: {how} after {spoken(event.seconds)}: {event.message}"
        case StepSkipped():
            return f"{event.step}: skipped, {event.reason}"
        case Warned():
            return f"{event.step or 'run'}: warning: {event.message}"
        case _:
            return ""


def finished(event: StepFinished) -> str:
    """Say how a step's text came to be: `answered in 2.1 s, 34 tokens`."""
    words = {"asked": "answered", "cached": "from the cache", "rendered": "rendered", "ran": "ran"}
    parts = [words[event.source]]
    if event.source == "asked":
        parts[0] += f" in {spoken(event.seconds)}"
        tokens = (event.prompt_tokens or 0) + (event.completion_tokens or 0)
        if tokens:
            parts.append(f"{tokens:,} tokens")
    if event.answered_by is not None:
        parts.append(f"by {event.answered_by}")
    return ", ".join(parts)


def estimated(event: RunEstimated) -> str:
    """Say what a run will send: `5,000 requests to send, about 45,000 prompt tokens`."""
    most = event.most_requests
    often = f" to {most:,}" if most is not None and most > event.requests else ""
    often += " or more" if most is None else ""
    noun = "request" if event.requests == event.most_requests == 1 else "requests"
    told = [f"{event.requests:,}{often} {noun} to send"]
    told += [f"about {event.prompt_tokens:,} prompt tokens"]
    told += [] if event.answer_tokens is None else [f"{event.answer_tokens:,} answer tokens"]
    told += [] if event.cost_usd is None else [f"about {event.cost_usd:.4f} USD (estimated)"]
    return ", ".join(told)


def ending(event: RunFinished) -> tuple[str, ...]:
    """Say what a whole run did, and how to go on where it did not come to its end: in lines."""
    told = going_on(
        Counts(done=event.done, instances=event.instances),
        exit_code=event.exit_code,
        is_simulated=event.simulated,
        is_refresh=event.is_refresh,
    )
    return (summary(event), told) if told else (summary(event),)


def summary(event: RunFinished) -> str:
    """Say what a whole run did: `3 asked, 1 cached in 4.2 s`."""
    counts = {
        "asked": event.asked,
        "cached": event.cached,
        "rendered": event.rendered,
        "failed": event.failed,
        "skipped": event.skipped,
    }
    said = [f"{count:,} {word}" for word, count in counts.items() if count]
    spent = [
        f"{event.requests:,} request{'' if event.requests == 1 else 's'}" if event.requests else "",
        f"{event.tokens:,} tokens" if event.tokens else "",
        f"about {event.cost_usd:.4f} USD" if event.cost_usd and not event.simulated else "",
        unknown_outcome(event.unknown),
    ]
    took = f"{spoken(event.seconds)}{' (simulated)' if event.simulated else ''}"
    if EXIT_CLASSES.get(event.exit_code) == "interrupted":
        told = ", ".join(filter(None, (*said, *spent)))
        return f"interrupted after {took}: {told or 'nothing was asked'}"
    return ", ".join((f"{', '.join(said) or 'nothing to do'} in {took}", *filter(None, spent)))


def unknown_outcome(count: int) -> str:
    """Say how many requests may have been billed, and nobody knows; empty for none."""
    return f"{count:,} of unknown outcome" if count else ""
