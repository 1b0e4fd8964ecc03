"""The state that a flow and those it uses share in a run: slots, failures, results, the next lock.

After a failure a run starts nothing new, unless it keeps going. It never goes on after a failure
that every other step would meet: no key, no points, a spent budget, a full disk.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import Final, TypeVar

import msgspec

from poeflow.clock import spoken
from poeflow.engine.asking.asker import Asker
from poeflow.engine.asking.context import RunContext
from poeflow.engine.asking.message_parts import AttachmentReader
from poeflow.engine.asking.request_data import MediaFolder
from poeflow.engine.asking.tools import Toolboxes
from poeflow.engine.lock_entries import Accepting
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.record import EventEmitter, event_of, record_of
from poeflow.engine.results import (
    InstanceOutcome,
    StepResult,
    UsedFlowError,
    has_unusable_answer,
)
from poeflow.engine.saver import Saver
from poeflow.errors import (
    APIConnectionError,
    APITimeoutError,
    PoeflowError,
)
from poeflow.events import Source, Warned
from poeflow.planning.planner import Planner
from poeflow.planning.selection import Selection
from poeflow.records import InstanceStatus, wholes_of
from poeflow.store.lock.entries import served_otherwise

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")
_AT_WORK: Final = frozenset({"made", "failed", "tolerated"})
"""How instances end that took time."""


class FailurePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """After a failure: start nothing new, run what does not need it, or cancel running steps."""

    keep_going: bool = False
    fail_fast: bool = False


class StoppedError(PoeflowError):
    """The run stopped before an instance was done. The message is the reason."""


class RunState:
    """Collects and reports the outcome of every instance, by its name."""

    _answered_in_vain: int = 0
    _held_back: int = 0
    _stopped_by: str = ""
    _is_hopeless: bool = False
    _tolerant: frozenset[str] = frozenset()

    def __init__(
        self,
        context: RunContext,
        planner: Planner,
        toolboxes: Toolboxes,
        *,
        lock_update: LockUpdate,
        concurrency: int,
        failure_policy: FailurePolicy,
        accepting: Accepting | None = None,
    ) -> None:
        self.context = context
        self.planner = planner
        self.toolboxes = toolboxes
        self.lock_update = lock_update
        self.accepting = accepting
        self.statuses: dict[str, InstanceStatus] = {}
        self.loops: dict[str, Sequence[str | None]] = {}
        self._slots = asyncio.Semaphore(concurrency)
        self._gates = _gates(max(1, concurrency // 2))
        """For aliases that wait for limits of their own: others have the rest of the slots."""
        self.attachments = AttachmentReader(context.project, forbidden=context.keys)
        self.media_folders = _media_folders(context)
        self._time_limits = TimeLimits()
        self.asker = Asker(context, elapsed=self.elapsed, pause=self._time_limits.pause)
        self.saver = Saver(context, elapsed=self.elapsed)
        self.results: dict[str, StepResult] = {}
        """The results of this run, if the context holds results."""
        self._made: Counter[Source] = Counter()
        self._served: dict[str, tuple[str, int]] = {}
        """An instance for each message about a served model, and how many more there are."""
        self.failures: dict[str, PoeflowError] = {}
        self.tolerated: dict[str, PoeflowError] = {}
        self.skipped: dict[str, str] = {}
        self.unsurveyed: set[str] = set()
        """What a survey leaves out; nothing of a sample, which leaves out nearly all."""
        self._failure_policy = failure_policy
        self._began = context.clock.monotonic()
        self._working: dict[asyncio.Task[object], str] = {}
        self._interrupted: set[asyncio.Task[object]] = set()

    def emitter(self, name: str) -> EventEmitter:
        """Return the reporter for events of the instance `name`."""
        return EventEmitter(self.context.listen, self.elapsed, name)

    @property
    def selection(self) -> Selection:
        return self.context.selection

    def elapsed(self) -> float:
        return self.context.clock.monotonic() - self._began

    def reason_to_stop(self, *, is_cleaning_up: bool = False) -> str:
        """Return why nothing new is started, empty if it is.

        A step that handles failures runs nevertheless, unless the caller asked to stop.
        """
        asked = self.context.stop()
        if asked:
            return asked
        if not self._stopped_by or (is_cleaning_up and not self._is_hopeless):
            return ""
        return self._stopped_by if self._is_hopeless or not self._failure_policy.keep_going else ""

    def slot(
        self,
        name: str,
        *,
        limit: float | None,
        paced: str | None = None,
        is_cleaning_up: bool,
        is_tolerated: bool,
    ) -> AbstractAsyncContextManager[None]:
        """Wait for a slot, then limit the block to `limit` seconds, if given.

        `paced` is the alias it asks if that has limits of its own. A failure stops the run before
        the next waiting block begins. Raises `StoppedError` if the run has stopped by then, and
        `APITimeoutError`.
        """

        def begin() -> None:
            reason = self.reason_to_stop(is_cleaning_up=is_cleaning_up)
            if reason:
                raise StoppedError(reason)

        def end(error: BaseException | None) -> None:
            if not isinstance(error, PoeflowError):
                return
            if error.is_shared or not (is_tolerated or self._is_tolerated(name)):
                self._stop(name, error)

        slot = Slot(self._slots, begin, end)
        is_plain = limit is None and paced is None
        return slot if is_plain else self._limited(slot, limit, paced)

    @contextlib.asynccontextmanager
    async def _limited(
        self, slot: "Slot", limit: float | None, paced: str | None
    ) -> AsyncIterator[None]:
        gate = contextlib.nullcontext() if paced is None else self._gates[paced]
        within = contextlib.nullcontext() if limit is None else self._time_limits.limit(limit)
        async with gate, slot, within:
            yield

    def interruptible(self, name: str) -> AbstractContextManager[None]:
        """End the block when another instance fails, if the run fails fast.

        Raises `StoppedError` then.
        """
        return Interruptible(name, self._working, self._interrupted, self.reason_to_stop)

    def settle(self, outcome: InstanceOutcome, began: float | None = None) -> InstanceOutcome:
        """Add the outcome of an instance to the lock and the history, count and report it.

        It `began` so many seconds into the run, if it did anything. Returns the outcome to hold in
        memory: without its request, which is in the history.
        """
        name = outcome.name
        if outcome.ending == "failed" and self._is_tolerated(name):
            is_passed_over = outcome.error is not None and not outcome.error.is_shared
            outcome = msgspec.structs.replace(outcome, is_passed_over=is_passed_over)
        if outcome.result is not None:
            self._note_served(outcome, outcome.result)
        if outcome.ending != "pending":
            self._update_lock(outcome)
        for status in outcome.statuses:
            self.statuses[status.id] = status
        match outcome.ending:
            case "skipped" | "blocked":
                self.skipped[name] = outcome.reason
                self._held_back += outcome.is_held_back
            case "failed" | "tolerated" if outcome.is_tolerated and outcome.error is not None:
                self.tolerated[name] = outcome.error
            case "failed" if not isinstance(outcome.error, UsedFlowError | None):
                self.failures[name] = outcome.error
                self._stop(name, outcome.error)
        if not self.context.asks:
            return outcome if outcome.result is None else self._note_result(outcome)
        at = self.elapsed()
        if began is None or outcome.ending not in _AT_WORK:
            began = at
        seconds = at - began
        used = self.asker.take_used(name)
        if used is not None and outcome.ending in ("failed", "tolerated"):
            self._answered_in_vain += 1
        record = record_of(outcome, used, began=began, seconds=seconds)
        if record is not None:
            self.context.recorder.instance(record)
        simulated = self.context.simulated
        event = event_of(outcome, used, seconds=seconds, at=at, simulated=simulated)
        if event is not None:
            self.context.listen(event)
        return self._note_result(outcome)

    def _note_result(self, outcome: InstanceOutcome) -> InstanceOutcome:
        """Count and hold the result of an instance; return its outcome without the request."""
        if outcome.result is None:
            return outcome
        result = msgspec.structs.replace(outcome.result, request=None)
        if outcome.ending == "made":
            self._made[result.source] += 1
            if self.context.holds_results:
                self.results[outcome.name] = result
        return msgspec.structs.replace(outcome, result=result)

    def note_left_out(self, name: str) -> None:
        """Note that an instance, or a whole step, is not selected: the lock retains its entries."""
        if self.context.asks:
            self.lock_update.keep_last(name)
        elif not self.selection.is_sample:
            self.unsurveyed.add(name)

    def warn_served(self) -> None:
        """Report which models answered by another name, once for all instances that are alike."""
        for message, (name, more) in self._served.items():
            text = f"{message} ({name}{f' and {more:,} more' if more else ''})"
            self.context.listen(Warned(at=self.elapsed(), step=None, message=text))

    def _note_served(self, outcome: InstanceOutcome, result: StepResult) -> None:
        entry = outcome.entry
        if entry is None or result.source != "asked":
            return
        message = served_otherwise(entry, self.lock_update.entry(outcome.name))
        if message:
            first, more = self._served.get(message, (outcome.name, -1))
            self._served[message] = (min(first, outcome.name), more + 1)

    def _update_lock(self, outcome: InstanceOutcome) -> None:
        if outcome.ending in ("made", "current", "skipped"):
            if outcome.entry is not None:
                self.lock_update.put(outcome.name, outcome.entry)
        else:
            self.lock_update.keep_last(outcome.name)

    def count(self, source: Source) -> int:
        """Return how many instances have a result that came from `source`."""
        return self._made[source]

    @property
    def is_working(self) -> bool:
        """Whether any instance is under way that the lock did not prove at once."""
        return bool(self._working)

    @property
    def asked(self) -> int:
        """How many instances were answered in this run, also if they failed."""
        return self.count("asked") + self._answered_in_vain

    @property
    def passed_over(self) -> int:
        """How many failures stopped nothing; a used flow reports its own."""
        return sum(not isinstance(error, UsedFlowError) for error in self.tolerated.values())

    @property
    def held_back(self) -> int:
        """How many instances did not run that would have, had the run kept going.

        None if the server was not reached: the others would not reach it, either.
        """
        is_cut_off = all(isinstance(one, APIConnectionError) for one in self.failures.values())
        is_able = not (self._is_hopeless or self._failure_policy.keep_going or self.context.stop())
        is_able &= not is_cut_off
        return self._held_back if self._stopped_by and is_able else 0

    @property
    def unusable(self) -> int:
        """How many instances failed with an answer that the same run takes again."""
        return sum(map(has_unusable_answer, self.failures.values()))

    def tolerate(self, step: str) -> None:
        """Go on after any failure in the flow that a step uses, as it tolerates them."""
        self._tolerant |= {step}

    def _is_tolerated(self, name: str) -> bool:
        return bool(self._tolerant) and not self._tolerant.isdisjoint(wholes_of(name))

    def _stop(self, name: str, error: PoeflowError) -> None:
        self._stopped_by = self._stopped_by or f"the run stopped when {name} failed"
        if error.is_shared:
            self._is_hopeless = True
        if self._failure_policy.fail_fast:
            whole = frozenset(wholes_of(name))
            for task, working in self._working.items():
                if working not in whole and task not in self._interrupted:
                    self._interrupted.add(task)
                    task.cancel()


class Interruptible(AbstractContextManager[None]):
    """The work of an instance, which may be interrupted: a class, as every instance has it.

    `working` has its name by its task, `interrupted` the tasks that were cancelled for `reason`.
    """

    def __init__(
        self,
        name: str,
        working: dict[asyncio.Task[object], str],
        interrupted: set[asyncio.Task[object]],
        reason: Callable[[], str],
    ) -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("an instance runs in a task")
        self._name = name
        self._task = task
        self._working = working
        self._interrupted = interrupted
        self._reason = reason

    def __enter__(self) -> None:
        self._working[self._task] = self._name

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        del self._working[self._task]
        if self._task not in self._interrupted:
            return
        self._interrupted.remove(self._task)
        if isinstance(error, asyncio.CancelledError) and self._task.uncancel() <= 0:
            raise StoppedError(self._reason() or "another step failed") from None


class Slot(AbstractAsyncContextManager[None]):
    """A place among those that run at the same time: a class, as each instance waits for one.

    `begin` is called with it and may raise, `end` before it is given back.
    """

    def __init__(
        self,
        slots: asyncio.Semaphore,
        begin: Callable[[], None],
        end: Callable[[BaseException | None], None],
    ) -> None:
        self._slots = slots
        self._begin = begin
        self._end = end

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        try:
            self._begin()
        except BaseException:
            self._slots.release()
            raise

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        try:
            self._end(error)
        finally:
            self._slots.release()


class TimeLimits:
    """The time limits of running steps, each that of the task that it runs in."""

    def __init__(self) -> None:
        self._running: dict[asyncio.Task[object] | None, asyncio.Timeout] = {}

    @contextlib.asynccontextmanager
    async def limit(self, seconds: float) -> AsyncIterator[None]:
        """Limit the block to `seconds`, its pauses left out. Raises `APITimeoutError`."""
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(seconds) as running:
                self._running[task] = running
                try:
                    yield
                finally:
                    del self._running[task]
        except TimeoutError:
            message = f"the step took longer than {spoken(seconds)}"
            raise APITimeoutError(message, hint="raise timeout.step") from None

    def pause(self) -> Callable[[], None]:
        """Stop the time limit of the current step until what is returned is called."""
        running = self._running.get(asyncio.current_task())
        end = running.when() if running is not None else None
        if running is None or end is None:
            return lambda: None
        now = asyncio.get_running_loop().time
        left = end - now()
        running.reschedule(None)
        return lambda: running.reschedule(now() + left)


def _gates(width: int) -> defaultdict[str, asyncio.Semaphore]:
    """Return a semaphore for each name that is looked up."""
    return defaultdict(lambda: asyncio.Semaphore(width))


def _media_folders(context: RunContext) -> list[MediaFolder]:
    """Return where media of earlier steps are: those of a trial come first."""
    trees = [tree for tree in (context.trial_tree, context.output_tree) if tree is not None]
    return [MediaFolder(tree, AttachmentReader(tree, forbidden=context.keys)) for tree in trees]


async def side_by_side(
    items: Sequence[_Item], work: Callable[[_Item], Awaitable[_Found]], *, width: int
) -> list[_Found]:
    """Call `work` for each item, at most `width` at a time; return the results in order.

    A failure does not stop the others; the first `PoeflowError` is raised at the end.
    """
    waiting = iter(enumerate(items))
    found: dict[int, _Found] = {}
    errors: list[PoeflowError] = []

    async def worker() -> None:
        for index, item in waiting:
            try:
                found[index] = await work(item)
            except PoeflowError as error:
                errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(len(items), width)):
            group.create_task(worker())
    if errors:
        raise errors[0]
    return [found[index] for index in range(len(items))]
