"""A run as plain lines on stderr: for logs, pipes and terminals that cannot do more."""

from typing import TextIO

from poeflow.durations import spoken
from poeflow.events import (
    Event,
    FileWritten,
    RetryPlanned,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
    Warned,
)
from poeflow.redact import visible


class PlainReport:
    """Writes one line for each event that matters to a reader of a log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        line = line_of(event)
        if line:
            self._stream.write(visible(line).replace("\n", " ") + "\n")
            self._stream.flush()


def line_of(event: Event) -> str:
    """Return the line for an event, empty where there is nothing to say."""
    match event:
        case RunStarted(simulated=True):
            return f"{event.flow}: simulated run, nothing is sent to Poe"
        case StepStarted(model=str()):
            return f"{event.step}: asking {event.model}"
        case RetryPlanned():
            return f"{event.step}: {event.reason}, waiting {spoken(event.wait)}"
        case FileWritten():
            return f"{event.step}: wrote {event.path}"
        case StepFinished():
            return f"{event.step}: {finished(event)}"
        case StepFailed():
            return f"{event.step}: failed after {spoken(event.seconds)}: {event.message}"
        case StepSkipped():
            return f"{event.step}: skipped, {event.reason}"
        case Warned():
            return f"{event.step or 'run'}: warning: {event.message}"
        case RunFinished():
            return summary(event)
        case _:
            return ""


def finished(event: StepFinished) -> str:
    """Say how a step's text came to be: `answered in 2.1 s, 34 tokens, simulated`."""
    words = {"asked": "answered", "cached": "from the cache", "rendered": "rendered"}
    parts = [words[event.source]]
    if event.source == "asked":
        parts[0] += f" in {spoken(event.seconds)}"
        if event.completion_tokens is not None:
            parts.append(f"{event.completion_tokens} tokens")
    if event.simulated and event.source != "rendered":
        parts.append("simulated")
    return ", ".join(parts)


def summary(event: RunFinished) -> str:
    """Say what a whole run did: `3 asked, 1 cached in 4.2 s`."""
    counts = {
        "asked": event.asked,
        "cached": event.cached,
        "rendered": event.rendered,
        "failed": event.failed,
        "skipped": event.skipped,
    }
    said = (
        ", ".join(f"{count} {word}" for word, count in counts.items() if count) or "nothing to do"
    )
    mark = " (simulated)" if event.simulated else ""
    return f"{said or 'nothing to do'} in {spoken(event.seconds)}{mark}"
