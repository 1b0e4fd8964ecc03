"""One flow of a run: steps start when what they need is done, their instances side by side."""

import asyncio

from poeflow.digest import Json
from poeflow.engine.asking import KnownError, UnaskedError
from poeflow.engine.course import Course
from poeflow.engine.demand import Demand
from poeflow.engine.flow_outputs import outputs_of, wanted
from poeflow.engine.flow_state import FlowState, UnknownError, UsedFlowError
from poeflow.engine.instance_run import InstanceRunner
from poeflow.engine.instances import Instance
from poeflow.engine.plan import Plan
from poeflow.engine.result import StepResult
from poeflow.engine.states import State, StepState, step_state
from poeflow.engine.texts import Values
from poeflow.engine.units import Unit, current_units, found_units
from poeflow.errors import PoeflowError
from poeflow.events import StepExpanded
from poeflow.spec.loops import is_fan_out


class FlowRun:
    """Runs a flow. `prefix` stands before the ids of its instances: empty for the outermost."""

    def __init__(self, plan: Plan, course: Course, *, prefix: str = "") -> None:
        self._flow = FlowState(plan, course, prefix=prefix)
        self._demand = Demand(self._flow, InstanceRunner(self._flow, self._used_flow))
        self._done = {step: asyncio.Event() for step in plan.order}
        self._expanded = {step: asyncio.Event() for step in plan.order}

    async def run(self) -> None:
        """Run every step. A step's failure is no exception here: it is in the course."""
        async with asyncio.TaskGroup() as group:
            for step in self._flow.plan.order:
                group.create_task(self._step(step))

    async def outputs(self) -> dict[str, Json]:
        """Return what the flow declares, else the texts of the steps nothing depends on.

        Answers that are current and not here are asked again: somebody wants to see them. Raises
        `PoeflowError`.
        """
        await self._demand.fetch(wanted(self._flow))
        return outputs_of(self._flow)

    @property
    def states(self) -> dict[str, StepState]:
        """How each step ended, once the flow has run."""
        return self._flow.states

    async def _step(self, step: str) -> None:
        source = self._flow.plan.checked.chains.get(step)
        for need in self._flow.plan.edges[step]:
            await (self._expanded if need == source else self._done)[need].wait()
        states: list[State] = []
        began = self._flow.course.elapsed()
        try:
            reason = self._blocked_by(step, source)
            if reason:
                states = [self._flow.skipped(self._flow.name(step), None, reason, blocks=True)]
            elif source is not None and source not in self._flow.ended:
                reason = f"{self._flow.name(source)} was skipped"
                states = [self._flow.skipped(self._flow.name(step), None, reason, blocks=False)]
            else:
                states = await self._instances(step, source)
        except UnaskedError as error:
            states = [self._flow.unknown(self._flow.name(step), None, error)]
        except PoeflowError as error:
            states = [self._flow.failed(step, self._flow.name(step), None, error, began)]
        finally:
            fans_out = is_fan_out(self._flow.plan.file.flow.steps[step]) and not (
                len(states) == 1 and states[0].key is None
            )
            if states or fans_out:
                self._flow.states[step] = step_state(states, is_fan_out=fans_out)
            self._expanded[step].set()
            self._done[step].set()

    async def _instances(self, step: str, source: str | None) -> list[State]:
        """Run the instances of a step, no more at a time than the run's concurrency."""
        needs = [need for need in self._flow.plan.edges[step] if need != source]
        values: dict[str, Json] = {}
        units: tuple[Unit, ...] | None = None
        if any(self._flow.states[need].is_absent for need in needs):
            units = current_units(self._flow, step)
        if units is None:
            await self._demand.fetch(needs)
            values = self._flow.values(needs)
            units = found_units(self._flow, step, source, values)
        loop = asyncio.get_running_loop()
        self._flow.ended[step] = [loop.create_future() for _ in units]
        self._flow.units[step] = units
        self._expanded[step].set()
        if is_fan_out(self._flow.plan.file.flow.steps[step]):
            event = StepExpanded(
                at=self._flow.course.elapsed(), step=self._flow.name(step), instances=len(units)
            )
            self._flow.course.means.listen(event)
        waiting = iter(enumerate(units))

        async def work() -> None:
            for index, unit in waiting:
                state = await self._demand.run(step, source, index, unit, values)
                self._flow.ended[step][index].set_result(state)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(units), self._flow.plan.concurrency)):
                group.create_task(work())
        return [ended.result() for ended in self._flow.ended[step]]

    async def _used_flow(
        self, instance: Instance, values: Values, *, is_wanted: bool
    ) -> StepResult:
        """Run the flow a step uses, as part of this run."""
        step = instance.step
        written = self._flow.plan.file.flow.steps[step].with_
        given = self._flow.plan.texts.value(("steps", step, "with"), dict(written or {}), values)
        planner = self._flow.course.planner
        inputs = planner.arguments(self._flow.plan, step, given)
        plan = planner.plan(
            self._flow.plan.checked.children[step], inputs, concurrency=self._flow.plan.concurrency
        )
        child = FlowRun(plan, self._flow.course, prefix=f"{self._flow.name(instance.id)}/")
        await child.run()
        blocking = [state.blocked_by for state in child.states.values() if state.blocks]
        if any(one.is_pending for state in child.states.values() for one in state.instances):
            raise UnknownError(blocking[0])
        if blocking:
            raise UsedFlowError(f"in the flow it uses, {blocking[0]}")
        if not is_wanted and any(state.is_absent for state in child.states.values()):
            raise KnownError("")
        outputs = await child.outputs()
        return StepResult(text="", source="ran", key=instance.key, outputs=outputs)

    def _blocked_by(self, step: str, source: str | None) -> str:
        """Return why a step does not run; one whose `if` looks at a step's status runs."""
        tested = self._flow.plan.checked.tested[step]
        for need in self._flow.plan.edges[step]:
            state = self._flow.states.get(need)
            if state is None or (need == source and source in self._flow.ended):
                continue
            if need in tested and not any(one.is_pending for one in state.instances):
                continue
            if state.blocked_by:
                return state.blocked_by
        return self._flow.course.reason_to_stop(is_cleaning_up=bool(tested))
