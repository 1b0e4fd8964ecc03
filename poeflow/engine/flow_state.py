"""One flow under way: what is known of its steps, and how their instances end."""

import asyncio
from collections.abc import Iterable

from poeflow.digest import Json
from poeflow.engine.ask import UnaskedError
from poeflow.engine.freshness import Current, Freshness
from poeflow.engine.record import current as recorded
from poeflow.engine.run_state import Course
from poeflow.engine.standing import Facts, kept_because
from poeflow.engine.states import State, StepState, step_state
from poeflow.engine.stored_results import KeptResults
from poeflow.errors import PoeflowError, StepError, UsageError
from poeflow.flowfile.loops import is_fan_out
from poeflow.planning.instances import Instance
from poeflow.planning.plan import Plan
from poeflow.planning.prepare import Prepared
from poeflow.store.lockfile import Block
from poeflow.templates.instances import OWN
from poeflow.templates.texts import Values


class UnknownError(UnaskedError):
    """What an instance would be cannot be told: an answer it builds on is not here."""


class UsedFlowError(StepError):
    """A flow that a step uses failed; its own steps have told how."""


class FlowState:
    """What is known of a flow's steps by now.

    `prefix` stands before the ids of its instances. `units` are the instances of each step,
    `ended` how they ended, `again` what an instance is run with whose answer is not here. The run
    is about none of them where the flow as a whole `is_left_out`.
    """

    def __init__(
        self, plan: Plan, course: Course, *, prefix: str, is_left_out: bool = False
    ) -> None:
        self.plan = plan
        self.course = course
        self.units: dict[str, tuple[Instance | Prepared | Current, ...]] = {}
        self.again: dict[str, tuple[Prepared, Values, State | None]] = {}
        self.ended: dict[str, list[asyncio.Future[State]]] = {}
        self.states: dict[str, StepState] = {}
        self._prefix = prefix
        self._is_left_out = is_left_out
        self.kept = KeptResults(plan, course.means)
        self.freshness = Freshness(plan, course, self.states, name=self.name)
        self.facts = Facts(plan, course, self.freshness)

    def name(self, instance: str) -> str:
        return f"{self._prefix}{instance}"

    def settle(self, step: str, states: list[State]) -> None:
        """Note how a step ended, from how its instances did."""
        is_alone = len(states) == 1 and states[0].key is None
        fans_out = is_fan_out(self.plan.file.flow.steps[step]) and not is_alone
        if states or fans_out:
            own = self._own(step) if fans_out else {}
            self.states[step] = step_state(states, is_fan_out=fans_out, own=own)

    def _own(self, step: str) -> dict[str, dict[str, Json]]:
        """Return by key what the instances of a step ran over, where no step decided that."""
        planned = (one.instance for one in self.plan.prepared.get(step, ()))
        return {
            one.key or "": {name: one.names[name] for name in OWN if name in one.names}
            for one in planned
        }

    def values(self, steps: Iterable[str]) -> dict[str, Json]:
        values = self.plan.early_values()
        values["steps"] = {step: self.states[step].value for step in steps}
        return values

    def covers(self, instance: Instance, index: int) -> bool:
        """Whether the run is about an instance, the `index`th of its step."""
        name = self.name(instance.id)
        is_meant = self.course.means.selection.covers(name, instance.key, index)
        return is_meant and not self._is_left_out

    def touches(self, step: str) -> bool:
        """Whether the run is about any instance of a step."""
        return not self._is_left_out and self.course.means.selection.touches(self.name(step))

    def left_out(self, name: str, key: str | None) -> State:
        """Return the state of an instance the run is not about: as the last run left it."""
        block = self.course.memory.block(name)
        self.course.memory.retain(name)
        self.course.left_out.add(name)
        if block is None:
            return State(name=name, key=key, status="skipped", blocks=True, is_left_out=True)
        is_ok = block.status == "ok"
        return State(
            name=name,
            key=key,
            status=block.status,
            block=block,
            is_absent=is_ok,
            is_left_out=True,
        )

    def _planned(self, name: str, key: str | None) -> tuple[Prepared, ...]:
        """Return the instances of a step that `name` is as a whole, as far as they are known."""
        return self.plan.prepared.get(name.removeprefix(self._prefix), ()) if key is None else ()

    def unknown(self, name: str, key: str | None, error: UnaskedError) -> State:
        """Return the state of an instance that cannot be told without asking."""
        self.facts.blocked(name, error.message, self._planned(name, key))
        return State(name=name, key=key, status="failed", blocks=True, is_pending=True)

    def current(self, name: str, unit: Current) -> State:
        """Return the state of an instance that need not run, and tell of files that stay."""
        self.course.memory.keep(name, unit.block)
        self.facts.current(name, unit)
        if self.course.means.asks and unit.edited:
            self.course.saver.warn_kept(name, unit.edited)
        elif self.course.means.asks and unit.stale:
            self.course.teller(name).warned([kept_because(unit)])
        self.course.means.recorder.instance(
            recorded(name, unit.block.request, at=self.course.elapsed())
        )
        is_ok = unit.block.status == "ok"
        return State(
            name=name,
            key=unit.prepared.instance.key,
            status=unit.block.status,
            block=unit.block,
            is_absent=is_ok,
        )

    def skipped(
        self,
        name: str,
        key: str | None,
        reason: str,
        *,
        blocks: bool,
        block: Block | None = None,
    ) -> State:
        self.course.skip(name, reason)
        if block is not None:
            self.course.memory.keep(name, block)
        if blocks:
            self.course.memory.retain(name)
            self.facts.blocked(name, reason, self._planned(name, key))
        is_pending = blocks and not self.course.means.asks
        return State(
            name=name,
            key=key,
            status="skipped",
            blocks=blocks,
            block=block,
            is_pending=is_pending,
        )

    def blocked(self, step: str, name: str, key: str | None, culprit: State, began: float) -> State:
        """Return the state of an instance that needs one which blocks it."""
        if culprit.is_left_out and self.course.means.selection.named:
            hint = "run it first, or everything up to this step with --until"
            error = UsageError(culprit.blocks_because, hint=hint)
            return self.failed(step, name, key, error, began)
        return self.skipped(name, key, culprit.blocks_because, blocks=culprit.blocks)

    def failed(
        self, step: str, name: str, key: str | None, error: PoeflowError, began: float
    ) -> State:
        is_tolerated = self.plan.file.flow.steps[step].continue_on_error
        is_told = isinstance(error, UsedFlowError)
        self.course.memory.retain(name)
        self.facts.failed(name, error)
        self.course.fail(name, error, began=began, is_tolerated=is_tolerated, is_told=is_told)
        return State(name=name, key=key, status="failed", blocks=not is_tolerated, error=str(error))
