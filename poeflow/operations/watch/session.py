"""A session of `poeflow watch`: run, wait for a change that matters, run the flows it affects.

A change during a run stops the steps that have not started; those under way are paid for, so they
finish, and the next run takes their answers from the cache.
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol, assert_never

import msgspec

from poeflow.clock import Clock
from poeflow.engine.asking.spending import Budget, Spent
from poeflow.engine.results import Outcome
from poeflow.errors import AccountError, BudgetError, BusyError, PoeflowError, first_error
from poeflow.events import Listener
from poeflow.operations.check import Checkup
from poeflow.operations.run_options import RunOptions
from poeflow.operations.watch.changes import (
    SWEEP,
    CommandGiven,
    Debouncer,
    FilesTouched,
    ItemQueue,
    RunEnded,
    SessionItem,
    WatchCommand,
    git_locks,
)
from poeflow.operations.watch.watched_files import FileChange
from poeflow.operations.watch.watched_flow import RewrittenText, WatchedFlow
from poeflow.problems import errors_only
from poeflow.project.read_log import FileStat

MAX_NAMED: Final = 5
"""How many changed files are named in a message."""
BETWEEN: Final = 0.5
"""Seconds between two attempts to lock a project that another run has locked."""
CHANGED: Final = "the files changed"
QUITTING: Final = "the session ends"
SHARE: Final = 50
"""Sweeps take at most one part in so many of the time."""


class Rerun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of some flows and its reason: the start, a `command`, or `changes`."""

    flows: tuple[WatchedFlow, ...]
    command: WatchCommand | None = None
    changes: tuple[FileChange, ...] = ()
    is_first: bool = False


class SessionScreen(Protocol):
    """Shows a session."""

    def begin(self, why: str) -> None:
        """Show that flows run again, and why."""

    def problems(self, found: Checkup) -> None:
        """Show the problems of a flow."""

    def listening(self) -> AbstractContextManager[Listener]:
        """Yield the listener of a run."""

    def result(self, shown: str, outcome: Outcome, texts: Sequence[RewrittenText] | None) -> None:
        """Show the results of a flow, and the texts that changed; None for its first run."""

    def failed(self, shown: str, error: PoeflowError) -> None:
        """Show the error that prevented a run."""

    def say(self, line: str) -> None:
        """Show a line."""


class RerunExecutor:
    """Runs flows. `options` is called before every run; `budget` is that of the session.

    While there is a `reason` to stop, nothing new is started; flows that did not finish because of
    it are `cut_short`.
    """

    def __init__(
        self,
        options: Callable[[], RunOptions],
        *,
        budget: Budget,
        screen: SessionScreen,
        clock: Clock,
    ) -> None:
        self.reason = ""
        self.cut_short: set[WatchedFlow] = set()
        self._options = options
        self._budget = budget
        self._screen = screen
        self._clock = clock
        self._is_spent = False

    async def run(self, rerun: Rerun, *, on_read: Callable[[], None]) -> None:
        """Run the flows of `rerun`. `on_read` is called after one was read.

        An error that prevents a run is shown. Raises `AccountError` if the key is missing in the
        first run, since it cannot be added later.
        """
        before = self._budget.summary().requests
        for flow in rerun.flows:
            if not self.reason:
                await self._run_flow(rerun, flow, on_read)
            if self.reason:
                self.cut_short.add(flow)
        spent = self._budget.summary()
        if not rerun.is_first and spent.requests != before:
            self._screen.say(_spending(spent))
        self._report_spent_budget()

    async def _run_flow(self, rerun: Rerun, flow: WatchedFlow, on_read: Callable[[], None]) -> None:
        try:
            found = flow.begin()
            on_read()
            self._screen.problems(found)
            if errors_only(found.problems):
                flow.end(is_whole=False)
                return
            outcome = await self._run_once_free(flow, found, is_refresh=rerun.command == "refresh")
        except PoeflowError as error:
            if rerun.is_first and isinstance(error, AccountError):
                raise
            if not isinstance(error, BusyError):
                self._screen.failed(flow.shown, error)
        else:
            texts = flow.rewritten_texts(outcome)
            self._screen.result(flow.shown, outcome, None if rerun.is_first else texts)

    async def _run_once_free(
        self, flow: WatchedFlow, found: Checkup, *, is_refresh: bool
    ) -> Outcome:
        """Run a flow as soon as no other run has locked the project."""
        is_announced = False
        while True:
            try:
                with self._screen.listening() as listen:
                    options = msgspec.structs.replace(
                        self._options(),
                        refresh=is_refresh,
                        budget=self._budget,
                        listen=listen,
                        stop=lambda: self.reason,
                        wait=0.0,
                    )
                    return await flow.run(found, options)
            except BusyError as error:
                if self.reason:
                    raise
                if not is_announced:
                    self._screen.say(f"waiting: {error.message}")
                is_announced = True
                await self._clock.asleep(BETWEEN)

    def _report_spent_budget(self) -> None:
        try:
            self._budget.check()
        except BudgetError as error:
            if not self._is_spent:
                self._screen.say(f"{error.message}: watching and checking go on, nothing is sent")
            self._is_spent = True


class Session:
    """Watches `flows`, and runs them with `reruns`. `queue` yields the items to react to."""

    def __init__(
        self,
        flows: Sequence[WatchedFlow],
        reruns: RerunExecutor,
        *,
        queue: ItemQueue,
        screen: SessionScreen,
        clock: Clock,
    ) -> None:
        self._flows = tuple(flows)
        self._reruns = reruns
        self._queue = queue
        self._screen = screen
        self._clock = clock
        self._debouncer = Debouncer(
            clock,
            locks=[lock for flow in flows for lock in git_locks(flow.root)],
            before=self._before,
        )
        self._group = asyncio.TaskGroup()
        self._is_running = False
        self._is_paused = False
        self._is_ending = False
        self._command: WatchCommand | None = None
        self._pending: dict[WatchedFlow, tuple[FileChange, ...]] = {}
        self._sweep_at = 0.0

    async def serve(self) -> None:
        """Run the flows, and again after changes, until the user quits. Raises `AccountError`."""
        try:
            async with self._group:
                self._begin(Rerun(flows=self._flows, is_first=True))
                while not self._is_ending or self._is_running:
                    self._react(await self._queue.next(self._seconds_to_wait()))
                    self._proceed()
        except* PoeflowError as group:
            raise first_error(group) from None

    def _before(self, path: Path) -> FileStat | None:
        """Return the status of a file when a flow read it last."""
        logs = (flow.inputs.log for flow in self._flows)
        snapshots = (log.files.get(path) for log in logs)
        return next((snapshot.stamp for snapshot in snapshots if snapshot is not None), None)

    def _seconds_to_wait(self) -> float:
        due = self._debouncer.due_in
        if due is not None:
            return due
        return min(SWEEP, max(0.0, self._sweep_at - self._clock.monotonic()))

    def _react(self, item: SessionItem | None) -> None:
        match item:
            case FilesTouched():
                inputs = [flow.inputs for flow in self._flows]
                own = [path for path in item.paths if any(one.concerns(path) for one in inputs)]
                self._debouncer.touch(own)
            case CommandGiven():
                self._carry_out(item.command)
            case RunEnded():
                self._is_running = False
                self._find_changes(sweeps=True)
            case None:
                pass
            case _:
                assert_never(item)
        if self._debouncer.due_in == 0:
            self._find_changes(touched=self._debouncer.take())
        elif self._debouncer.due_in is None and self._clock.monotonic() >= self._sweep_at:
            self._find_changes(sweeps=True)

    def _find_changes(
        self, touched: frozenset[Path] = frozenset(), *, sweeps: bool = False
    ) -> None:
        """Find the files that changed since they were read."""
        began = self._clock.monotonic()
        found = {flow: tuple(flow.changes(touched, sweeps=sweeps)) for flow in self._flows}
        found = {flow: changes for flow, changes in found.items() if changes}
        now = self._clock.monotonic()
        if sweeps:
            self._sweep_at = now + max(SWEEP, SHARE * (now - began))
        self._queue.arm(frozenset().union(*(flow.inputs.folders() for flow in self._flows)))
        if self._is_running:
            self._reruns.reason = self._reruns.reason or (CHANGED if found else "")
        elif sweeps and self._debouncer.wait_for(
            one.path for each in found.values() for one in each
        ):
            self._pending = {}  # the sweep came before the events of what is being written
        else:
            has_news = found.keys() - self._pending.keys()
            self._pending = found
            if self._is_paused and has_news:
                self._screen.say("paused, and files have changed; p goes on")

    def _proceed(self) -> None:
        """Start the next run if one is due."""
        if self._is_running or self._is_ending or self._debouncer.due_in is not None:
            return
        if self._command is not None:
            rerun = Rerun(flows=self._flows, command=self._command)
        elif (self._pending or self._reruns.cut_short) and not self._is_paused:
            due = tuple(
                flow
                for flow in self._flows
                if flow in self._pending.keys() | self._reruns.cut_short
            )
            changes = sorted({one for each in self._pending.values() for one in each})
            rerun = Rerun(flows=due, changes=tuple(changes))
        else:
            return
        self._begin(rerun)

    def _carry_out(self, command: WatchCommand) -> None:
        match command:
            case "quit":
                self._is_ending, self._reruns.reason = True, QUITTING
                if self._is_running:
                    self._screen.say("ending when what is asked is answered; ctrl-c ends at once")
            case "pause":
                self._is_paused = not self._is_paused
                self._screen.say("paused; p goes on" if self._is_paused else "watching again")
            case "rerun" | "refresh":
                self._command = command
            case _:
                assert_never(command)

    def _begin(self, rerun: Rerun) -> None:
        self._is_running, self._command, self._reruns.reason = True, None, ""
        self._pending.clear()
        self._reruns.cut_short.clear()
        if not rerun.is_first:
            self._screen.begin(_reason_of(rerun))
        self._group.create_task(self._run(rerun))

    async def _run(self, rerun: Rerun) -> None:
        await self._reruns.run(rerun, on_read=self._find_changes if rerun.is_first else _pass)
        self._queue.put(RunEnded())


def _pass() -> None:
    """Do nothing: the folders are watched already."""


def _reason_of(rerun: Rerun) -> str:
    """Return the reason why flows run again: `prompts/a.md changed, data/b.csv new`."""
    if rerun.command is not None:
        return f"{rerun.command} asked for"
    if not rerun.changes:
        return "files changed, and are as before"
    named = [f"{_path(change.path)} {change.kind}" for change in rerun.changes[:MAX_NAMED]]
    more = len(rerun.changes) - MAX_NAMED
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def _spending(spent: Spent) -> str:
    """Return what a session has spent, in words."""
    text = f"session: {spent.requests:,} request{'s' * (spent.requests != 1)}"
    text += f", {spent.tokens:,} tokens"
    text += "" if spent.cost_usd is None else f", about {spent.cost_usd:.4f} USD"
    return text + (f", {spent.unknown:,} of unknown outcome" if spent.unknown else "")


def _path(path: Path) -> str:
    return Path(os.path.relpath(path)).as_posix()
