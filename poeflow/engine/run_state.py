"""The course of a run, shared by a flow and those it uses: what works, what came of it, what stops.

A run stops starting new things after a failure unless it keeps going, and in any case after one
that every other step would share: no key, no points, a spent budget, a full disk.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

import msgspec

from poeflow.engine.accept import Accepting
from poeflow.engine.ask import Asker, UnaskedError
from poeflow.engine.context import RunContext
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.record import EventEmitter, failed, skipped, succeeded, tokens
from poeflow.engine.results import Source, StepResult
from poeflow.engine.save import Saver
from poeflow.engine.tools import Toolboxes
from poeflow.errors import EXIT_CLASSES, PoeflowError
from poeflow.events import StepFailed, StepFinished, StepSkipped
from poeflow.planning.plan import Planner, Selection
from poeflow.records import InstanceStatus

SHARED: Final = frozenset({5, 8, 9})
"""Exit codes of failures that every step would meet: account, disk, budget."""


class FailurePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What a run does after a failure: nothing new, what does not need it, or not even finish."""

    keep_going: bool = False
    fail_fast: bool = False


class NotStartedError(PoeflowError):
    """It was an instance's turn, and the run had stopped. The message is the reason."""


class RunState:
    """Collects what becomes of every instance, by its id, and tells it."""

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
        self.facts: dict[str, InstanceStatus] = {}
        self.loops: dict[str, list[str | None]] = {}
        self._slots = asyncio.Semaphore(concurrency)
        self.asker = Asker(context, elapsed=self.elapsed)
        self.saver = Saver(context, elapsed=self.elapsed)
        self.results: dict[str, StepResult] = {}
        self.failures: dict[str, PoeflowError] = {}
        self.tolerated: dict[str, PoeflowError] = {}
        self.skipped: dict[str, str] = {}
        self.left_out: set[str] = set()
        self._persistence = failure_policy
        self._began = context.clock.monotonic()
        self._stopped_by = ""
        self._is_hopeless = False
        self._working: set[asyncio.Task[StepResult]] = set()

    def emitter(self, name: str) -> EventEmitter:
        """Return who tells of the instance `name`."""
        return EventEmitter(self.context.listen, self.elapsed, name)

    @property
    def selection(self) -> Selection:
        return self.context.selection

    def elapsed(self) -> float:
        return self.context.clock.monotonic() - self._began

    @property
    def persists(self) -> bool:
        """Whether steps that do not need what failed still run."""
        return self._persistence.keep_going

    def reason_to_stop(self, *, is_cleaning_up: bool = False) -> str:
        """Return why nothing new is started, empty where it is.

        A step that is there for the case of failure runs all the same, but not where the caller
        asked to stop.
        """
        asked = self.context.stop()
        if asked:
            return asked
        if not self._stopped_by or (is_cleaning_up and not self._is_hopeless):
            return ""
        return self._stopped_by if self._is_hopeless or not self.persists else ""

    @contextlib.asynccontextmanager
    async def slot(
        self, name: str, *, is_cleaning_up: bool, is_tolerated: bool
    ) -> AsyncIterator[None]:
        """Wait for a turn to work. Raises `NotStartedError` where the run has stopped by then.

        A failure stops the run before the next one in line has its turn.
        """
        async with self._slots:
            reason = self.reason_to_stop(is_cleaning_up=is_cleaning_up)
            if reason:
                raise NotStartedError(reason)
            try:
                yield
            except UnaskedError:
                raise
            except PoeflowError as error:
                if not is_tolerated:
                    self._stop(name, error)
                raise

    async def work(self, doing: Callable[[], "asyncio.Task[StepResult]"]) -> StepResult | None:
        """Do an instance's work; None where another one's failure cut it short."""
        task = doing()
        self._working.add(task)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            own = asyncio.current_task()
            if task.cancelled() and not (own is not None and own.cancelling()):
                return None
            task.cancel()
            await asyncio.wait([task])
            raise
        finally:
            self._working.discard(task)

    def succeed(self, name: str, result: StepResult, *, began: float) -> None:
        self.results[name] = result
        seconds = self.elapsed() - began
        used = self.asker.used(name)
        record = succeeded(name, result, used, began=began, seconds=seconds)
        self.context.recorder.instance(record)
        event = StepFinished(
            at=self.elapsed(),
            step=name,
            source=result.source,
            simulated=self.context.simulated,
            seconds=seconds,
            answered_by=result.answered_by,
            **tokens(used),
        )
        self.context.listen(event)

    def fail(
        self, name: str, error: PoeflowError, *, began: float, is_tolerated: bool, is_told: bool
    ) -> None:
        """Note a failure. `is_told` marks that of a used flow, whose own step has told it."""
        if is_tolerated:
            self.tolerated[name] = error
        elif not is_told:
            self.failures[name] = error
            self._stop(name, error)
        seconds = self.elapsed() - began
        used = self.asker.used(name)
        self.context.recorder.instance(failed(name, error, used, began=began, seconds=seconds))
        event = StepFailed(
            at=self.elapsed(),
            step=name,
            message=str(error),
            error_class=EXIT_CLASSES[error.exit_code],
            seconds=seconds,
            is_tolerated=is_tolerated,
            is_told=is_told,
            **tokens(used),
        )
        self.context.listen(event)

    def skip(self, name: str, reason: str) -> None:
        self.skipped[name] = reason
        self.context.recorder.instance(skipped(name, reason, at=self.elapsed()))
        self.context.listen(StepSkipped(at=self.elapsed(), step=name, reason=reason))

    def count(self, source: Source) -> int:
        return sum(result.source == source for result in self.results.values())

    @property
    def asked(self) -> int:
        """How many instances were answered in this run, whatever became of the answer."""
        failed = {*self.failures, *self.tolerated} - self.results.keys()
        in_vain = sum(self.asker.used(name) is not None for name in failed)
        return self.count("asked") + in_vain

    def _stop(self, name: str, error: PoeflowError) -> None:
        self._stopped_by = self._stopped_by or f"{name} failed"
        if error.exit_code in SHARED:
            self._is_hopeless = True
        if self._persistence.fail_fast:
            for task in self._working:
                task.cancel()
