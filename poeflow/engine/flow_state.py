"""One flow under way: what is known of its steps, and how their instances end."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from poeflow.digest import Json
from poeflow.engine.asking import UnaskedError
from poeflow.engine.course import Course
from poeflow.engine.freshness import Freshness
from poeflow.engine.instances import Instance
from poeflow.engine.plan import Plan
from poeflow.engine.prepare import Prepared
from poeflow.engine.standing import Facts
from poeflow.engine.states import State, StepState
from poeflow.engine.texts import Values
from poeflow.errors import PoeflowError, StepError
from poeflow.store.lockfile import Block


class Current(NamedTuple):
    """An instance that the lock proves, with the block that does."""

    prepared: Prepared
    block: Block


class UnknownError(UnaskedError):
    """What an instance would be cannot be told: an answer it builds on is not here."""


class UsedFlowError(StepError):
    """A flow that a step uses failed; its own steps have told how."""


class FlowState:
    """What is known of a flow's steps by now.

    `prefix` stands before the ids of its instances. `units` are the instances of each step,
    `ended` how they ended, `again` what an instance is run with whose answer is not here.
    """

    def __init__(self, plan: Plan, course: Course, *, prefix: str) -> None:
        self.plan = plan
        self.course = course
        self.units: dict[str, tuple[Instance | Prepared | Current, ...]] = {}
        self.again: dict[str, tuple[Prepared, Values, State | None]] = {}
        self.ended: dict[str, list[asyncio.Future[State]]] = {}
        self.states: dict[str, StepState] = {}
        self._prefix = prefix
        self.freshness = Freshness(plan, course, self.states, name=self.name)
        self.facts = Facts(course, self.freshness)

    def name(self, instance: str) -> str:
        return f"{self._prefix}{instance}"

    def values(self, steps: Iterable[str]) -> dict[str, Json]:
        values = self.plan.early_values()
        values["steps"] = {step: self.states[step].value for step in steps}
        return values

    def _planned(self, name: str, key: str | None) -> tuple[Prepared, ...]:
        """Return the instances of a step that `name` is as a whole, as far as they are known."""
        return self.plan.prepared.get(name.removeprefix(self._prefix), ()) if key is None else ()

    def unknown(self, name: str, key: str | None, error: UnaskedError) -> State:
        """Return the state of an instance that cannot be told without asking."""
        self.facts.blocked(name, error.message, self._planned(name, key))
        return State(name=name, key=key, status="failed", blocks=True, is_pending=True)

    def current(self, name: str, unit: Current) -> State:
        """Return the state of an instance that is current by the lock alone."""
        self.course.memory.keep(name, unit.block)
        self.facts.current(name, unit.block)
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

    def failed(
        self, step: str, name: str, key: str | None, error: PoeflowError, began: float
    ) -> State:
        is_tolerated = self.plan.file.flow.steps[step].continue_on_error
        is_told = isinstance(error, UsedFlowError)
        self.course.memory.retain(name)
        self.facts.failed(name, error)
        self.course.fail(name, error, began=began, is_tolerated=is_tolerated, is_told=is_told)
        return State(name=name, key=key, status="failed", blocks=not is_tolerated, error=str(error))
