"""One flow of a run: steps start when what they need is done, their instances side by side."""

import asyncio
from collections.abc import Sequence

from poeflow.digest import Json
from poeflow.engine.ask import KnownError, UnaskedError
from poeflow.engine.demand import Demand
from poeflow.engine.flow_outputs import (
    FlowOutputs,
    outputs_of,
    part_of_outputs,
    steps_run,
    wanted,
)
from poeflow.engine.flow_state import FlowState, UnknownError, UsedFlowError
from poeflow.engine.instance_runner import InstanceRunner
from poeflow.engine.results import StepResult
from poeflow.engine.run_state import Course, NotStartedError
from poeflow.engine.states import State
from poeflow.engine.units import (
    Unit,
    current_units,
    expand,
    found_units,
    instance_of,
    left_out,
    side_by_side,
)
from poeflow.errors import PoeflowError
from poeflow.planning.instances import Instance
from poeflow.planning.plan import Plan
from poeflow.planning.prepare import Prepared
from poeflow.planning.selection import check_keys
from poeflow.templates.texts import Values


class FlowRun:
    """Runs a flow. `prefix` stands before the ids of its instances: empty for the outermost."""

    def __init__(
        self, plan: Plan, course: Course, *, prefix: str = "", is_left_out: bool = False
    ) -> None:
        self._flow = FlowState(plan, course, prefix=prefix, is_left_out=is_left_out)
        self._demand = Demand(self._flow, InstanceRunner(self._flow, self._used_flow))
        self._done = {step: asyncio.Event() for step in plan.order}
        self._expanded = {step: asyncio.Event() for step in plan.order}

    async def run(self) -> None:
        """Run every step. A step's failure is no exception here: it is in the course."""
        async with asyncio.TaskGroup() as group:
            for step in self._flow.plan.order:
                group.create_task(self._step(step))

    async def outputs(self, *, reader: str = "") -> FlowOutputs:
        """Return what the flow declares, else the texts of the steps nothing depends on.

        An answer that is current and not here is asked again only for a `reader`, the step that
        uses the flow: nothing is paid for to be printed. Raises `PoeflowError`.
        """
        steps = wanted(self._flow)
        if reader:
            await self._demand.fetch(steps, reader=reader)
        else:
            await self._demand.recall(steps)
        return outputs_of(self._flow)

    async def part_of_outputs(self) -> FlowOutputs:
        """Return the results of the steps the run was about, as far as they are here."""
        await self._demand.recall(steps_run(self._flow))
        return part_of_outputs(self._flow)

    def progress(self) -> tuple[int, int]:
        """Return how many instances are done, of how many that are known by now."""
        counts = [self._counted(s) for s in self._flow.plan.order if self._flow.touches(s)]
        return sum(done for done, _ in counts), sum(known for _, known in counts)

    def _counted(self, step: str) -> tuple[int, int]:
        """Return how many instances of a step are done, of those the run is about."""
        units: tuple[Unit, ...] = self._flow.units.get(step, ())
        if step not in self._flow.units:
            state = self._flow.states.get(step)
            is_done = state is not None and all(one.is_done for one in state.instances)
            units = self._flow.plan.prepared.get(step, ())
            known = sum(self._flow.covers(instance_of(one), at) for at, one in enumerate(units))
            return int(is_done), known if units else 1
        ended = self._flow.ended[step]
        covered = [at for at, unit in enumerate(units) if self._flow.covers(instance_of(unit), at)]
        return sum(ended[at].done() and ended[at].result().is_done for at in covered), len(covered)

    @property
    def known(self) -> FlowState:
        """What is known of the flow by now."""
        return self._flow

    async def _step(self, step: str) -> None:
        source = self._flow.plan.checked.chains.get(step)
        for need in self._flow.plan.edges[step]:
            await (self._expanded if need == source else self._done)[need].wait()
        states: list[State] = []
        began = self._flow.course.elapsed()
        try:
            culprit = self._culprit(step, source)
            is_cleaning_up = bool(self._flow.plan.checked.tested[step])
            stop = self._flow.course.reason_to_stop(is_cleaning_up=is_cleaning_up)
            if not self._flow.touches(step):
                states = left_out(self._flow, step)
            elif culprit is not None:
                states = [self._flow.blocked(step, self._flow.name(step), None, culprit, began)]
            elif stop:
                states = [self._flow.skipped(self._flow.name(step), None, stop, blocks=True)]
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
            self._flow.settle(step, states)
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
            await self._demand.fetch(needs, reader=self._flow.name(step))
            values = self._flow.values(needs)
            units = found_units(self._flow, step, source, values)
        self._check_named(step, units)
        expand(self._flow, step, units)
        self._expanded[step].set()

        async def work(index: int, unit: Unit) -> None:
            state = await self._demand.run(step, source, index, unit, values)
            self._flow.ended[step][index].set_result(state)

        await side_by_side(units, work, width=self._flow.plan.concurrency)
        return [ended.result() for ended in self._flow.ended[step]]

    def _check_named(self, step: str, units: Sequence[Unit]) -> None:
        """Raise `UsageError` if the caller named an instance that the step does not have."""
        is_skipped = any(isinstance(unit, Prepared) and unit.skip for unit in units)
        wanted = self._flow.course.means.selection.wanted
        if wanted and not is_skipped:
            keys = [instance_of(unit).key for unit in units]
            check_keys(self._flow.name(step), keys, wanted)

    async def _used_flow(
        self, instance: Instance, values: Values, *, is_wanted: bool, is_left_out: bool
    ) -> StepResult:
        """Run the flow a step uses, as part of this run."""
        step = instance.step
        written = self._flow.plan.file.flow.steps[step].with_
        given = self._flow.plan.texts.value(("steps", step, "with"), dict(written or {}), values)
        planner = self._flow.course.planner
        inputs = planner.arguments(self._flow.plan, step, given)
        prefix = f"{self._flow.name(instance.id)}/"
        plan = planner.plan(
            self._flow.plan.checked.children[step],
            inputs,
            concurrency=self._flow.plan.concurrency,
            allowance=self._flow.plan.allowance,
            prefix=prefix,
        )
        child = FlowRun(
            plan,
            self._flow.course,
            prefix=prefix,
            is_left_out=is_left_out,
        )
        await child.run()
        states = child.known.states.values()
        blocking = [state.blocked_by for state in states if state.blocks]
        if any(one.is_pending for state in states for one in state.instances):
            raise UnknownError(blocking[0])
        if any(state.culprit.is_left_out for state in states if state.culprit is not None):
            raise NotStartedError(blocking[0])
        if blocking:
            raise UsedFlowError(f"in the flow it uses, {blocking[0]}")
        if not is_wanted and any(state.is_absent for state in states):
            raise KnownError("")
        outputs = await child.outputs(reader=self._flow.name(instance.id))
        return StepResult(text="", source="ran", key=instance.key, outputs=outputs.values)

    def _culprit(self, step: str, source: str | None) -> State | None:
        """Return what keeps a step from running; one whose `if` looks at a step's status runs."""
        tested = self._flow.plan.checked.tested[step]
        for need in self._flow.plan.edges[step]:
            state = self._flow.states.get(need)
            if state is None or (need == source and source in self._flow.ended):
                continue
            if need in tested and not any(one.is_pending for one in state.instances):
                continue
            if state.culprit is not None:
                return state.culprit
        return None
