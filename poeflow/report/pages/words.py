"""Formats values and states for the pages."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, tzinfo
from typing import Final, Literal
from urllib.parse import urlencode

from poeflow.clock import spoken
from poeflow.digest import Json
from poeflow.records import InstanceRecord, RunRow
from poeflow.redact import visible

MOST_TEXT: Final = 200_000
"""Characters of one text that a page shows; the rest is one click away."""
_BEGINNING: Final = 140
_UNKNOWN: Final = "\u2013"


def harmless(text: str) -> str:
    """Escape characters that hide or reverse text, except LF, tab and joiners."""
    return visible(text.replace("\r\n", "\n"), with_joiners=True)


def beginning(text: str | None) -> str:
    """Return the first words of a text on one line."""
    line = " ".join((text or "")[: 4 * _BEGINNING].split())
    return line if len(line) <= _BEGINNING else line[: _BEGINNING - 1] + "…"


def pretty(value: Json) -> str:
    """Return a value as indented JSON."""
    try:
        return json.dumps(value, indent=2, ensure_ascii=False)
    except RecursionError:
        return "nested too deeply to be shown"


def count(number: int | None) -> str:
    return _UNKNOWN if number is None else f"{number:,}"


def usd(amount: float | None) -> str:
    """Return an estimated cost; small ones have more digits."""
    if amount is None:
        return _UNKNOWN
    return f"${amount:.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def took(seconds: float | None) -> str:
    """Return a duration; a very short one in milliseconds."""
    if seconds is None:
        return _UNKNOWN
    return f"{seconds * 1000:.0f} ms" if 0 < seconds < 0.1 else spoken(seconds)


def size(characters: int) -> str:
    return f"{characters:,} character{'' if characters == 1 else 's'}"


def moment(seconds: float, zone: tzinfo | None) -> str:
    """Return Unix seconds as date and time in `zone`, None for the user's own."""
    try:
        when = datetime.fromtimestamp(seconds, UTC).astimezone(zone)
    except (OverflowError, OSError, ValueError):
        return _UNKNOWN
    return when.strftime("%Y-%m-%d %H:%M:%S") + (" UTC" if zone is UTC else "")


def iso(seconds: float) -> str:
    """Return Unix seconds as an ISO 8601 time."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return ""


def query(values: Mapping[str, object]) -> str:
    """Return a query string of the values that are set, with its `?`; empty if none is."""
    given = {name: str(value) for name, value in values.items() if value not in (None, "")}
    return f"?{urlencode(given, errors='replace')}" if given else ""


RunState = Literal["ok", "failed", "interrupted", "unfinished"]
RUN_STATES: Final[tuple[RunState, ...]] = ("ok", "failed", "interrupted", "unfinished")
_INTERRUPTED: Final = "interrupted"


def run_state(row: RunRow) -> RunState:
    """Return the state of a run, in the words of `RunFilter.state`."""
    if row.end is None:
        return "unfinished"
    if row.end.exit_code == 0:
        return "ok"
    return "interrupted" if row.result == _INTERRUPTED else "failed"


def instance_state(record: InstanceRecord) -> str:
    """Return the state of an instance.

    It is `failed`, `skipped`, the source of its result, or `current` if nothing had to be done.
    """
    return record.status if record.status != "ok" else record.source or "current"


def combined_state(states: Iterable[str]) -> str:
    """Return the state that colours a step: the most serious one of its instances."""
    found = set(states)
    order = ("failed", "asked", "ran", "rendered", "cached", "current", "skipped")
    return next((state for state in order if state in found), "waiting")
