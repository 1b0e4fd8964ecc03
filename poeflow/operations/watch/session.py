"""A session of `poeflow watch`: run, wait for a change that matters, run what it concerns.

A change during a run keeps what has not started from starting; what is under way is paid for, so
it finishes, and the rerun takes it from the cache.
"""

import asyncio
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol, assert_never

import msgspec

from poeflow.clock import Clock
from poeflow.engine.budget import Budget, Spent
from poeflow.engine.run import Outcome
from poeflow.errors import AccountError, BudgetError, BusyError, PoeflowError
from poeflow.events import Listener
from poeflow.operations.check import Checkup, checkup
from poeflow.operations.run import run_checked
from poeflow.operations.run_options import RunOptions
from poeflow.operations.watch.changes import (
    SWEEP,
    CommandGiven,
    Ended,
    Item,
    Settling,
    Source,
    Touched,
    WatchCommand,
    git_locks,
)
from poeflow.operations.watch.watched_files import Change, Inputs, joined, note
from poeflow.problems import errors_only
from poeflow.project.project import Project
from poeflow.project.read_log import FileStat, ReadLog


class Rewritten(msgspec.Struct, frozen=True):
    """The text of an instance, and the one it had before; that is None for a new instance."""

    instance: str
    old: str | None
    new: str


class WatchedFlow:
    """A flow at the path `path` of a project, called `shown`; `steps` are those it is named with.

    `outside` are files it is given that the project need not hold.
    """

    def __init__(
        self,
        project: Project,
        path: str,
        *,
        shown: str,
        steps: tuple[str, ...] = (),
        outside: Collection[Path] = (),
    ) -> None:
        self.root = project.root
        self._project = project
        self.shown = shown
        self._path = path
        self._steps = steps
        self._outside = outside
        self._log = ReadLog()
        self._earlier = ReadLog()
        self._inputs = Inputs(self._log, self.root)
        self._is_running = False
        self._texts: dict[str, str] = {}

    @property
    def inputs(self) -> Inputs:
        """What the flow is read from, as far as it is known by now."""
        if self._is_running:
            return Inputs(joined(self._log, self._earlier), self.root)
        return self._inputs

    def changes(self, touched: Collection[Path] = (), *, sweeps: bool = True) -> list[Change]:
        """Return what is not as the last run read it."""
        return self.inputs.changes(touched, sweeps=sweeps)

    def begin(self) -> Checkup:
        """Read and check the flow. What is read counts as its inputs from now on."""
        self._inputs.accept()
        self._earlier, self._log, self._is_running = self._inputs.log, ReadLog(), True
        for path in self._outside:
            note(self._log, path)
        return checkup(
            msgspec.structs.replace(self._project, log=self._log), self._path, self.shown
        )

    async def run(self, found: Checkup, options: RunOptions) -> Outcome:
        """Run the flow as it was found. Raises as `run_checked` does."""
        self._is_running, is_whole = True, False
        try:
            outcome = await run_checked(found, replace(options, steps=self._steps))
            is_whole = outcome.exit_code == 0 and not options.stop()
        finally:
            self.end(is_whole=is_whole)
        return outcome

    def end(self, *, is_whole: bool) -> None:
        """Settle what the flow is read from. Of one that did not run as a whole, all before too."""
        self._inputs = Inputs(joined(self._log, None if is_whole else self._earlier), self.root)
        self._is_running = False

    def rewritten(self, outcome: Outcome) -> list[Rewritten]:
        """Return the instances whose text is another than it was, and remember the new ones."""
        found = []
        for name, result in outcome.results.items():
            old = self._texts.get(name)
            if result.text and result.text != old:
                found.append(Rewritten(name, old, result.text))
            self._texts[name] = result.text
        return found


MAX_NAMED: Final = 5
"""How many changed files are named."""


class Rerun(msgspec.Struct, frozen=True, kw_only=True):
    """A run of some flows, and why: at the start, by a key, or for `changes`."""

    flows: tuple[WatchedFlow, ...]
    command: WatchCommand | None = None
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


def why(rerun: Rerun) -> str:
    """Say why flows are run again: `prompts/a.md changed, data/b.csv new`."""
    if rerun.command is not None:
        return f"{rerun.command} asked for"
    if not rerun.changes:
        return "files changed, and are as before"
    told = [f"{_path(change.path)} {change.kind}" for change in rerun.changes[:MAX_NAMED]]
    more = len(rerun.changes) - MAX_NAMED
    return ", ".join(told) + (f" and {more} more" if more > 0 else "")


def spending(spent: Spent) -> str:
    """Say what a session has spent."""
    told = f"session: {spent.requests:,} request{'s' * (spent.requests != 1)}"
    told += f", {spent.tokens:,} tokens"
    told += "" if spent.cost_usd is None else f", about {spent.cost_usd:.4f} USD"
    return told + (f", {spent.unknown:,} of unknown outcome" if spent.unknown else "")


def _path(path: Path) -> str:
    return Path(os.path.relpath(path)).as_posix()


BETWEEN: Final = 0.5
"""Seconds between two tries to hold a project that another run holds."""


class RerunExecutor:
    """Runs flows. `options` are asked for anew for every run; `budget` is the session's.

    While there is a `reason` to stop nothing new is started; flows that it kept from running as a
    whole are `cut_short`.
    """

    def __init__(
        self, options: Callable[[], RunOptions], *, budget: Budget, screen: Screen, clock: Clock
    ) -> None:
        self.reason = ""
        self.cut_short: set[WatchedFlow] = set()
        self._options = options
        self._budget = budget
        self._screen = screen
        self._clock = clock
        self._is_spent = False

    async def run(self, rerun: Rerun, *, on_read: Callable[[], None]) -> None:
        """Run the flows of an errand. `on_read` is called when one was read.

        What keeps a flow from running is shown. Raises `AccountError` where that is a missing key
        at the start, for it cannot come any more.
        """
        before = self._budget.summary().requests
        for flow in rerun.flows:
            if not self.reason:
                await self._flow(rerun, flow, on_read)
            if self.reason:
                self.cut_short.add(flow)
        spent = self._budget.summary()
        if not rerun.is_first and spent.requests != before:
            self._screen.say(spending(spent))
        self._tell_spent()

    async def _flow(self, rerun: Rerun, flow: WatchedFlow, on_read: Callable[[], None]) -> None:
        try:
            found = flow.begin()
            on_read()
            self._screen.problems(found)
            if errors_only(found.problems):
                flow.end(is_whole=False)
                return
            outcome = await self._outcome(flow, found, is_refresh=rerun.command == "refresh")
        except PoeflowError as error:
            if rerun.is_first and isinstance(error, AccountError):
                raise
            if not isinstance(error, BusyError):
                self._screen.failed(flow.shown, error)
        else:
            texts = flow.rewritten(outcome)
            self._screen.result(flow.shown, outcome, None if rerun.is_first else texts)

    async def _outcome(self, flow: WatchedFlow, found: Checkup, *, is_refresh: bool) -> Outcome:
        """Run a flow, as soon as no other run holds the project."""
        is_told = False
        while True:
            try:
                with self._screen.listening() as listen:
                    options = replace(
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
                if not is_told:
                    self._screen.say(f"waiting: {error.message}")
                is_told = True
                await self._clock.asleep(BETWEEN)

    def _tell_spent(self) -> None:
        try:
            self._budget.check()
        except BudgetError as error:
            if not self._is_spent:
                self._screen.say(f"{error.message}: watching and checking go on, nothing is sent")
            self._is_spent = True


CHANGED: Final = "the files changed"
QUITTING: Final = "the session ends"
SHARE: Final = 50
"""A sweep may take one part in so many of the time."""


class Session:
    """Watches `flows`, with `work` to run them. `source` brings what there is to react to."""

    def __init__(
        self,
        flows: Sequence[WatchedFlow],
        work: RerunExecutor,
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
        self._wish: WatchCommand | None = None
        self._pending: dict[WatchedFlow, tuple[Change, ...]] = {}
        self._sweep_at = 0.0

    async def serve(self) -> None:
        """Run the flows and go on until the user quits. Raises `AccountError` without a key."""
        try:
            async with self._group:
                self._begin(Rerun(flows=self._flows, is_first=True))
                while not self._is_ending or self._is_running:
                    self._react(await self._source.next(self._patience()))
                    self._proceed()
        except* PoeflowError as errors:
            raise errors.exceptions[0] from None

    def _before(self, path: Path) -> FileStat | None:
        """Return how a file was when a flow read it last."""
        sights = (flow.inputs.log.files.get(path) for flow in self._flows)
        return next((snapshot.stamp for snapshot in sights if snapshot is not None), None)

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
            case CommandGiven():
                self._obey(item.command)
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
            rerun = Rerun(flows=self._flows, command=self._wish)
        elif (self._pending or self._work.cut_short) and not self._is_paused:
            due = tuple(
                flow for flow in self._flows if flow in self._pending.keys() | self._work.cut_short
            )
            changes = sorted({one for each in self._pending.values() for one in each})
            rerun = Rerun(flows=due, changes=tuple(changes))
        else:
            return
        self._begin(rerun)

    def _obey(self, command: WatchCommand) -> None:
        match command:
            case "quit":
                self._is_ending, self._work.reason = True, QUITTING
                if self._is_running:
                    self._screen.say("ending when what is asked is answered; ctrl-c ends at once")
            case "pause":
                self._is_paused = not self._is_paused
                self._screen.say("paused; p goes on" if self._is_paused else "watching again")
            case "rerun" | "refresh":
                self._wish = command
            case _:
                assert_never(command)

    def _begin(self, rerun: Rerun) -> None:
        self._is_running, self._wish, self._work.reason = True, None, ""
        self._pending.clear()
        self._work.cut_short.clear()
        if not rerun.is_first:
            self._screen.begin(why(rerun))
        self._group.create_task(self._run(rerun))

    async def _run(self, rerun: Rerun) -> None:
        await self._work.run(rerun, on_read=self._look if rerun.is_first else _pass)
        self._source.put(Ended())


def _pass() -> None:
    """Do nothing: the folders are watched already."""
