"""The mark before a line of the live report, and its colour."""

from typing import Final

from poeflow.events import Event, RunFinished, StepFailed, StepFinished, StepSkipped

_MARKS: Final = {"ok": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("-", "dim")}


def mark_of(event: Event) -> tuple[str, str]:
    """Return the mark of an event and its style; both may be empty."""
    match event:
        case StepFinished():
            return _MARKS["ok"]
        case StepFailed():
            return _MARKS["failed"]
        case StepSkipped():
            return _MARKS["skipped"]
        case RunFinished(exit_code=0):
            return "", "bold"
        case _:
            return "", ""
