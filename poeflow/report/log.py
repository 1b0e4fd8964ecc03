"""Shows a run as plain lines: for logs, pipes and terminals that cannot be drawn on.

An instance has a line when it has ended, and a run of more than ten seconds one on its progress.
"""

import threading
from collections.abc import Iterator
from typing import Final, Self, TextIO, TypeAlias

import msgspec

from poeflow.clock import Clock, Ticker, spoken
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
    StepStarted,
    ToolCalled,
    Warned,
)
from poeflow.records import step_of, whole_instance, wholes_of
from poeflow.redact import visible
from poeflow.report.github_commands import inert
from poeflow.report.terminal.notes import MAX_NOTES, Note, by_cause
from poeflow.report.terminal.run_summary import estimated, final_lines, finished

FAR: Final = 40
"""After so many lines the failures are repeated at the end, by their causes."""
MAX_AGAIN: Final = 20
"""So many causes of them are told."""
MANY: Final = 50
"""In a loop with more instances than these, only failures have lines of their own."""
PAUSE: Final = 10.0
"""Seconds between two lines on the progress of a run."""
TICK: Final = 1.0
"""Seconds between two checks whether such a line is due."""
NAMED: Final = 3
"""Up to so many instances at work are named."""
_AT_HAND: Final = ("cached", "rendered")
"""Where a result came from that took no time."""
_FOR: Final[dict[Purpose, str]] = {
    "answer": "",
    "repair": " to repair its answer",
    "tools": " with what the tools gave",
    "judge": "",
    "fallback": "",
    "repeat": " for another turn",
}
"""The words for the purpose of a request, empty for one without a line of its own."""


Ended: TypeAlias = StepFinished | StepFailed | StepSkipped


class PlainReport:
    """A listener that writes one line for each event that matters in a log.

    As a context manager it also writes a line on the progress of the run every ten seconds, by
    `clock`, while nothing else happens, too. If the log breaks off, the run continues.
    """

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream = stream
        self._clock = clock
        self._lines = 0
        self._failed = 0
        self._failures: list[Note] = []
        self._files: dict[str, list[str]] = {}
        self._unmet: dict[str, list[Expected]] = {}
        self._progress = RunProgress()
        self._began = 0.0
        self._reported = 0.0
        self._lock = threading.Lock()
        self._ticker = Ticker(self.look, pause=TICK, name="log")

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ticker.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            loop = self._progress.hear(event)
            match event:
                case StepFinished() | StepFailed() | StepSkipped():
                    self._show_end(event, loop)
                case StepStarted() | RequestSent(purpose="answer"):  # as most of the others
                    pass
                case _:
                    self._show(event)

    def look(self) -> None:
        """Write a line on the progress if the last one, or the start, is ten seconds ago."""
        with self._lock:
            now = self._clock.monotonic() - self._began
            if self._progress.is_running and now - self._reported >= PAUSE:
                self._reported = now
                self._write(self._progress.line(now))

    def _show(self, event: Event) -> None:
        """Show what happens while instances run, and repeat failures at the end of a long log."""
        if isinstance(event, RunStarted):
            self._began = self._clock.monotonic() - event.at
            self._reported = event.at
        if isinstance(event, RunFinished) and self._failed and self._lines > FAR:
            self._write(*self._told_again())
        if line := self._line_of(event):
            self._write(line)
        if isinstance(event, RunFinished):
            if EXIT_CLASSES.get(event.exit_code) != "interrupted":
                self._write(*self._progress.ends(event.at))
            self._write(*final_lines(event))

    def _show_end(self, event: Ended, loop: "LongLoop | None") -> None:
        """Show how an instance ended, with what was held back until then; remember failures."""
        if isinstance(event, StepFailed) and not (event.is_told or event.is_tolerated):
            self._failed += 1
            if len(self._failures) < MAX_NOTES:
                self._failures.append(Note(event.step, event.message))
        if event.step in self._unmet:
            self._write(*self._unmet_of(event))
        if loop is not None and not isinstance(event, StepFailed):
            self._files.pop(event.step, None)
        elif line := self._line_of(event):
            self._write(line)
        if loop is not None and loop.is_whole and loop.step == step_of(event.step):
            self._write(loop.line(event.at))

    def _told_again(self) -> Iterator[str]:
        """Yield the failures by their causes."""
        left = self._failed
        for told in by_cause(self._failures)[:MAX_AGAIN]:
            left -= len(told.steps)
            yield f"failed: {told.who}: {told.said}"
        if left:
            yield f"failed: {left:,} more"

    def _unmet_of(self, event: Ended) -> Iterator[str]:
        """Yield what was expected of an instance that ends, unless its failure says so."""
        failure = event.message if isinstance(event, StepFailed) else ""
        for one in self._unmet.pop(event.step, ()):
            if one.message not in failure:
                yield line_of(one)

    def _line_of(self, event: Event) -> str:
        """Return the line for an event; the files of an instance are in the line of its end."""
        match event:
            case Expected(level="error"):
                self._unmet.setdefault(whole_instance(event.step), []).append(event)
                return ""
            case FileWritten():
                self._files.setdefault(whole_instance(event.step), []).append(event.path)
                return ""
            case StepFinished():
                first, *more = self._files.pop(event.step, [""])
                wrote = f", wrote {first}{f' and {len(more):,} more' if more else ''}"
                return line_of(event) + (wrote if first else "")
            case StepFailed() | StepSkipped():
                self._files.pop(event.step, None)
        return line_of(event)

    def _write(self, *lines: str) -> None:
        self._lines += len(lines)
        for line in lines:
            self._stream.write(inert(visible(line).replace("\n", " ")) + "\n")
        self._stream.flush()


class RunProgress:
    """How far a run has come, by its events; times are seconds of the run."""

    def __init__(self) -> None:
        self.is_running = False
        self._loops: dict[str, LongLoop] = {}
        self._estimated: RunEstimated | None = None
        self._at_work: dict[str, None] = {}
        self._sent = 0
        self._done = 0
        self._worked = 0
        self._failed = 0
        self._skipped = 0
        self._cost: float | None = 0.0

    def hear(self, event: Event) -> "LongLoop | None":
        """Count an event. Return the long loop that it belongs to, None if there is none."""
        match event:
            case StepFinished() | StepFailed() | StepSkipped():  # first, as there are so many
                return self._ended(event)
            case StepStarted() | RequestSent():
                self._sent += isinstance(event, RequestSent)
                self._at_work[whole_instance(event.step)] = None
            case RunStarted() | RunFinished():
                self.is_running = isinstance(event, RunStarted)
            case RunEstimated():
                self._estimated = event
            case StepExpanded() if event.instances > MANY:
                self._loops[event.step] = LongLoop(event.step, event.instances, event.at)
        return None

    def line(self, now: float) -> str:
        """Say how far the run is, at which rate, how long the rest takes, and the cost so far."""
        parts = [self._count(), _others(self._failed, self._skipped)]
        running = [one for one in self._at_work if not self._is_around(one)]
        names = f" ({', '.join(running)})" if 0 < len(running) <= NAMED else ""
        parts += [f"{len(running):,} at work{names}" if running else ""]
        rate, rest = self._worked / now if now > 0 else 0.0, self._rest()
        if self._worked:
            parts += [f"{rate:.1f} a second" if rate >= 1 else f"{rate * 60:.1f} a minute"]
            parts += [f"about {spoken(rest / rate)} to go" if rest else ""]
        parts += [f"about {self._cost:.4f} USD so far" if self._cost else ""]
        return f"run: {', '.join(filter(None, parts))}"

    def ends(self, now: float) -> Iterator[str]:
        """Yield how the long loops ended of which some instances were current, without events."""
        return (loop.line(now, are_over=True) for loop in self._loops.values() if not loop.is_whole)

    def _ended(self, event: Ended) -> "LongLoop | None":
        self._at_work.pop(event.step, None)
        step = step_of(event.step)
        loop = self._loops.get(step) or self._loop_of(event.step)
        is_own = loop is not None and loop.step == step
        is_done, is_failed = isinstance(event, StepFinished), isinstance(event, StepFailed)
        is_skipped = isinstance(event, StepSkipped)
        is_at_hand = isinstance(event, StepFinished) and event.source in _AT_HAND
        if is_own or "/" not in step:
            self._done += is_done
            self._failed += is_failed
            self._skipped += is_skipped
        if is_own or not self._loops:
            self._worked += not (is_skipped or is_at_hand)
        if loop is not None and is_own:
            loop.done += is_done
            loop.failed += is_failed
            loop.skipped += is_skipped
        if not isinstance(event, StepSkipped) and self._cost is not None:
            is_priced = event.cost_usd is not None or not event.prompt_tokens
            self._cost = self._cost + (event.cost_usd or 0.0) if is_priced else None
        return loop

    def _loop_of(self, instance: str) -> "LongLoop | None":
        names = wholes_of(instance) if self._loops else ()
        return next((self._loops[name] for name in names if name in self._loops), None)

    def _answered(self) -> int:
        return max(self._sent - len(self._at_work), 0)

    def _count(self) -> str:
        if self._estimated is not None:
            return f"{self._answered():,} of about {self._estimated.requests:,} requests answered"
        if self._loops:
            loops = self._loops.values()
            done, total = sum(one.done for one in loops), sum(one.total for one in loops)
            return f"{done:,} of {total:,} done"
        return f"{self._done:,} done"

    def _rest(self) -> int:
        """Return how many instances are still to do, 0 if that is not known."""
        left = sum(one.total - one.ended for one in self._loops.values())
        if self._estimated is not None:
            left = min(left, max(self._estimated.requests - self._answered(), 0))
        return left

    def _is_around(self, instance: str) -> bool:
        """Whether an instance at work uses a flow, of which one is at work."""
        return any(one.startswith(f"{instance}/") for one in self._at_work)


class LongLoop(msgspec.Struct):
    """The progress of a loop of `total` instances; it `began` at a time of the run."""

    step: str
    total: int
    began: float
    done: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def ended(self) -> int:
        return self.done + self.failed + self.skipped

    @property
    def is_whole(self) -> bool:
        """Whether its last instance has ended."""
        return self.ended == self.total

    def line(self, now: float, *, are_over: bool = False) -> str:
        """Say how many are done, and how long they took; `are_over` if the others are current."""
        current = f"{self.total - self.ended:,} current" if are_over else ""
        done = f"{self.done:,} of {self.total:,} done"
        ends = ", ".join(filter(None, (done, _others(self.failed, self.skipped), current)))
        return f"{self.step}: {ends} in {spoken(now - self.began)}"


def _others(failed: int, skipped: int) -> str:
    """Say how many ended without a result, empty if none did."""
    counts = {"failed": failed, "skipped": skipped}
    return ", ".join(f"{count:,} {word}" for word, count in counts.items() if count)


def line_of(event: Event) -> str:
    """Return the line for an event, empty if it has none."""
    match event:
        case RunStarted(simulated=True):
            return f"{event.flow}: simulated run, nothing is sent to Poe"
        case RunEstimated():
            return estimated(event)
        case RequestSent():
            purpose = _FOR[event.purpose]
            return f"{event.step}: asking {event.model}{purpose}" if purpose else ""
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
