"""A session: run, wait for a change that matters, run what it concerns, and so on.

A change during a run keeps what has not started from starting; what is under way is paid for, so
it finishes, and the rerun takes it from the cache.
"""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final, assert_never

from poeflow.clock import Clock
from poeflow.errors import PoeflowError
from poeflow.operations.watch.changes import (
    SWEEP,
    Ended,
    Item,
    Settling,
    Source,
    Touched,
    Wish,
    Wished,
    git_locks,
)
from poeflow.operations.watch.errand import Errand, Screen, why
from poeflow.operations.watch.flow import WatchedFlow
from poeflow.operations.watch.watched_files import Change
from poeflow.operations.watch.work import Work
from poeflow.project.read_log import Stamp

CHANGED: Final = "the files changed"
QUITTING: Final = "the session ends"
SHARE: Final = 50
"""A sweep may take one part in so many of the time."""


class Session:
    """Watches `flows`, with `work` to run them. `source` brings what there is to react to."""

    def __init__(
        self,
        flows: Sequence[WatchedFlow],
        work: Work,
        *,
        source: Source,
        screen: Screen,
        clock: Clock,
    ) -> None:
        self._flows = tuple(flows)
        self._work = work
        self._source = source
        self._screen = screen
        self._clock = clock
        self._settling = Settling(
            clock,
            held=[lock for flow in flows for lock in git_locks(flow.root)],
            before=self._before,
        )
        self._group = asyncio.TaskGroup()
        self._is_running = False
        self._is_paused = False
        self._is_ending = False
        self._wish: Wish | None = None
        self._pending: dict[WatchedFlow, tuple[Change, ...]] = {}
        self._sweep_at = 0.0

    async def serve(self) -> None:
        """Run the flows and go on until the user quits. Raises `AccountError` without a key."""
        try:
            async with self._group:
                self._begin(Errand(flows=self._flows, is_first=True))
                while not self._is_ending or self._is_running:
                    self._react(await self._source.next(self._patience()))
                    self._proceed()
        except* PoeflowError as errors:
            raise errors.exceptions[0] from None

    def _before(self, path: Path) -> Stamp | None:
        """Return how a file was when a flow read it last."""
        sights = (flow.inputs.log.files.get(path) for flow in self._flows)
        return next((sight.stamp for sight in sights if sight is not None), None)

    def _patience(self) -> float:
        due = self._settling.due_in
        if due is not None:
            return due
        return min(SWEEP, max(0.0, self._sweep_at - self._clock.monotonic()))

    def _react(self, item: Item | None) -> None:
        match item:
            case Touched():
                inputs = [flow.inputs for flow in self._flows]
                own = [path for path in item.paths if any(one.concerns(path) for one in inputs)]
                self._settling.touch(own)
            case Wished():
                self._obey(item.wish)
            case Ended():
                self._is_running = False
                self._look(sweeps=True)
            case None:
                pass
            case _:
                assert_never(item)
        if self._settling.due_in == 0:
            self._look(touched=self._settling.take())
        elif self._settling.due_in is None and self._clock.monotonic() >= self._sweep_at:
            self._look(sweeps=True)

    def _look(self, touched: frozenset[Path] = frozenset(), *, sweeps: bool = False) -> None:
        """Find what has changed since it was read."""
        began = self._clock.monotonic()
        found = {flow: tuple(flow.changes(touched, sweeps=sweeps)) for flow in self._flows}
        found = {flow: changes for flow, changes in found.items() if changes}
        now = self._clock.monotonic()
        if sweeps:
            self._sweep_at = now + max(SWEEP, SHARE * (now - began))
        self._source.arm(frozenset().union(*(flow.inputs.folders() for flow in self._flows)))
        if self._is_running:
            self._work.reason = self._work.reason or (CHANGED if found else "")
        else:
            is_news = found.keys() - self._pending.keys()
            self._pending = found
            if self._is_paused and is_news:
                self._screen.say("paused, and files have changed; p goes on")

    def _proceed(self) -> None:
        """Start what there is to run, if now is the time."""
        if self._is_running or self._is_ending or self._settling.due_in is not None:
            return
        if self._wish is not None:
            errand = Errand(flows=self._flows, wish=self._wish)
        elif (self._pending or self._work.cut_short) and not self._is_paused:
            due = tuple(
                flow for flow in self._flows if flow in self._pending.keys() | self._work.cut_short
            )
            changes = sorted({one for each in self._pending.values() for one in each})
            errand = Errand(flows=due, changes=tuple(changes))
        else:
            return
        self._begin(errand)

    def _obey(self, wish: Wish) -> None:
        match wish:
            case "quit":
                self._is_ending, self._work.reason = True, QUITTING
                if self._is_running:
                    self._screen.say("ending when what is asked is answered; ctrl-c ends at once")
            case "pause":
                self._is_paused = not self._is_paused
                self._screen.say("paused; p goes on" if self._is_paused else "watching again")
            case "rerun" | "refresh":
                self._wish = wish
            case _:
                assert_never(wish)

    def _begin(self, errand: Errand) -> None:
        self._is_running, self._wish, self._work.reason = True, None, ""
        self._pending.clear()
        self._work.cut_short.clear()
        if not errand.is_first:
            self._screen.begin(why(errand))
        self._group.create_task(self._run(errand))

    async def _run(self, errand: Errand) -> None:
        await self._work.run(errand, on_read=self._look if errand.is_first else _pass)
        self._source.put(Ended())


def _pass() -> None:
    """Do nothing: the folders are watched already."""
