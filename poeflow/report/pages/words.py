"""Values and states as the pages say them."""

import json
import re
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
_JOINERS: Final = re.compile("([\u200c\u200d])")
_UNKNOWN: Final = "\u2013"


def harmless(text: str) -> str:
    r"""Escape what could hide or turn text round; LF and tab stay, and so do joiners.

    Joiners are invisible, but emoji and several scripts are spelled with them.
    """
    parts = _JOINERS.split(text.replace("\r\n", "\n"))
    return "".join(part if at % 2 else visible(part) for at, part in enumerate(parts))


def beginning(text: str | None) -> str:
    """Return the first words of a text, on one line."""
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
    """Return an estimated cost; small ones with the digits that tell them apart."""
    if amount is None:
        return _UNKNOWN
    return f"${amount:.2f}" if amount >= 1 or amount == 0 else f"${amount:.4f}"


def took(seconds: float | None) -> str:
    """Return a duration; what took no time to speak of is told in milliseconds."""
    if seconds is None:
        return _UNKNOWN
    return f"{seconds * 1000:.0f} ms" if 0 < seconds < 0.1 else spoken(seconds)


def size(characters: int) -> str:
    return f"{characters:,} character{'' if characters == 1 else 's'}"


def moment(seconds: float, zone: tzinfo | None) -> str:
    """Return a time in Unix seconds as a date and a time of day; `zone` None is the user's own."""
    try:
        when = datetime.fromtimestamp(seconds, UTC).astimezone(zone)
    except (OverflowError, OSError, ValueError):
        return _UNKNOWN
    return when.strftime("%Y-%m-%d %H:%M:%S") + (" UTC" if zone is UTC else "")


def iso(seconds: float) -> str:
    """Return a time in Unix seconds as machines read it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):
        return ""


def query(values: Mapping[str, object]) -> str:
    """Return a query string of the values that are there, `?` included; empty without any."""
    given = {name: str(value) for name, value in values.items() if value not in (None, "")}
    return f"?{urlencode(given, errors='replace')}" if given else ""


RunState = Literal["ok", "failed", "interrupted", "unfinished"]
RUN_STATES: Final[tuple[RunState, ...]] = ("ok", "failed", "interrupted", "unfinished")
_INTERRUPTED: Final = "interrupted"


def run_state(row: RunRow) -> RunState:
    """Return how a run stands, in the words of `RunFilter.state`."""
    if row.end is None:
        return "unfinished"
    if row.end.exit_code == 0:
        return "ok"
    return "interrupted" if row.result == _INTERRUPTED else "failed"


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
