"""How runs, steps and instances stand, in one word each that pages colour by."""

from collections.abc import Iterable
from typing import Final, Literal

from poeflow.errors import EXIT_CLASSES
from poeflow.records import InstanceRecord, RunRow

RunState = Literal["ok", "failed", "interrupted", "unfinished"]
RUN_STATES: Final[tuple[RunState, ...]] = ("ok", "failed", "interrupted", "unfinished")
_INTERRUPTED: Final = "interrupted"


def run_state(row: RunRow) -> RunState:
    """Return how a run stands, in the words of `RunFilter.state`."""
    if row.end is None:
        return "unfinished"
    if row.end.exit_code == 0:
        return "ok"
    return "interrupted" if EXIT_CLASSES.get(row.end.exit_code) == _INTERRUPTED else "failed"


def result_of(row: RunRow) -> str:
    """Return how a run ended: `ok`, or the class of its exit code."""
    return "unfinished" if row.end is None else EXIT_CLASSES.get(row.end.exit_code, "failed")


def instance_state(record: InstanceRecord) -> str:
    """Return how an instance ended.

    `failed`, `skipped`, where its result came from, or `current`: nothing had to be done for it.
    """
    return record.status if record.status != "ok" else record.source or "current"


def together(states: Iterable[str]) -> str:
    """Return the state a step is coloured by: the worst of its instances, else the busiest."""
    found = set(states)
    order = ("failed", "asked", "ran", "rendered", "cached", "current", "skipped")
    return next((state for state in order if state in found), "waiting")
