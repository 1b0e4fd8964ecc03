"""What a session does at a time, in which words it tells of it, and who is told."""

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

import msgspec

from poeflow.engine.budget import Spent
from poeflow.engine.run import Outcome
from poeflow.errors import PoeflowError
from poeflow.events import Listener
from poeflow.operations.check import Checkup
from poeflow.operations.watch.changes import Wish
from poeflow.operations.watch.flow import Rewritten, WatchedFlow
from poeflow.operations.watch.watched_files import Change

MAX_NAMED: Final = 5
"""How many changed files are named."""


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """A run of some flows, and why: at the start, by a key, or for `changes`."""

    flows: tuple[WatchedFlow, ...]
    wish: Wish | None = None
    changes: tuple[Change, ...] = ()
    is_first: bool = False


class Screen(Protocol):
    """Shows a session."""

    def begin(self, why: str) -> None:
        """Show that flows are run again, and why."""

    def problems(self, found: Checkup) -> None:
        """Show what is wrong with a flow, if anything is."""

    def listening(self) -> AbstractContextManager[Listener]:
        """Yield who hears what happens in a run."""

    def result(self, shown: str, outcome: Outcome, texts: Sequence[Rewritten] | None) -> None:
        """Show what a flow came to, and which texts are others; None where it ran first."""

    def failed(self, shown: str, error: PoeflowError) -> None:
        """Show what kept a flow from running."""

    def say(self, line: str) -> None:
        """Show a line by the way."""


def why(errand: Errand) -> str:
    """Say why flows are run again: `prompts/a.md changed, data/b.csv new`."""
    if errand.wish is not None:
        return f"{errand.wish} asked for"
    if not errand.changes:
        return "files changed, and are as before"
    told = [f"{_path(change.path)} {change.kind}" for change in errand.changes[:MAX_NAMED]]
    more = len(errand.changes) - MAX_NAMED
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")


def spending(spent: Spent) -> str:
    """Say what a session has spent."""
    told = f"session: {spent.requests:,} request{'s' * (spent.requests != 1)}"
    told += f", {spent.tokens:,} tokens"
    told += "" if spent.cost_usd is None else f", about {spent.cost_usd:.4f} USD"
    return told + (f", {spent.unknown:,} of unknown outcome" if spent.unknown else "")


def _path(path: Path) -> str:
    return Path(os.path.relpath(path)).as_posix()
