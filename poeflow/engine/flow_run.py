"""One flow of a run: steps start when what they need is done, their instances side by side."""

import asyncio
from collections.abc import Iterable, Mapping

from poeflow.client.messages import Message
from poeflow.digest import Json
from poeflow.engine.course import Course, NotStartedError
from poeflow.engine.instances import Instance
from poeflow.engine.job import Job
from poeflow.engine.plan import Plan, prepare, reason_to_skip
from poeflow.engine.prepare import Prepared
from poeflow.engine.result import StepResult
from poeflow.engine.states import State, StepState, step_state
from poeflow.engine.step import StepRunner
from poeflow.engine.texts import Values
from poeflow.errors import PoeflowError, StepError
from poeflow.events import StepExpanded
from poeflow.spec.loops import is_fan_out

Unit = Instance | Prepared


class UsedFlowError(StepError):
    """A flow that a step uses failed; its own steps have told how."""


class FlowRun:
    """Runs a flow. `prefix` stands before the ids of its instances: empty for the outermost."""

    def __init__(self, plan: Plan, course: Course, *, prefix: str = "") -> None:
        self._plan = plan
        self._course = course
        self._prefix = prefix
        self._steps = StepRunner(plan, course)
        self._done = {step: asyncio.Event() for step in plan.order}
        self._expanded = {step: asyncio.Event() for step in plan.order}
        self._units: dict[str, tuple[Unit, ...]] = {}
        self._ended: dict[str, list[asyncio.Future[State]]] = {}
        self._states: dict[str, StepState] = {}

    async def run(self) -> None:
        """Run every step. A step's failure is no exception here: it is in the course."""
        async with asyncio.TaskGroup() as group:
            for step in self._plan.order:
                group.create_task(self._step(step))

    @property
    def states(self) -> Mapping[str, StepState]:
        """How each step ended, once the flow has run."""
        return self._states

    def outputs(self) -> dict[str, Json]:
        """Return what the flow declares, else the texts of the steps nothing depends on."""
        declared = self._plan.file.flow.outputs
        if declared:
            values = self._values(self._plan.order)
            return {
                name: self._plan.texts.value(("outputs", name), written, values)
                for name, written in declared.items()
            }
        needed = {need for needs in self._plan.edges.values() for need in needs}
        last = [step for step in self._plan.order if step not in needed]
        results = {step: _shown(self._states[step]) for step in last}
        return {step: shown for step, shown in results.items() if shown is not None}

    async def _step(self, step: str) -> None:
        source = self._plan.checked.chains.get(step)
        for need in self._plan.edges[step]:
            await (self._expanded if need == source else self._done)[need].wait()
        states: list[State] = []
        began = self._course.elapsed()
        try:
            reason = self._blocked_by(step, source)
            if reason:
                states = [self._skipped(self._name(step), None, reason, blocks=True)]
            elif source is not None and source not in self._ended:
                reason = f"{self._name(source)} was skipped"
                states = [self._skipped(self._name(step), None, reason, blocks=False)]
            else:
                states = await self._instances(step, source)
        except PoeflowError as error:
            states = [self._failed(step, self._name(step), None, error, began)]
        finally:
            fans_out = is_fan_out(self._plan.file.flow.steps[step]) and not (
                len(states) == 1 and states[0].key is None
            )
            if states or fans_out:
                self._states[step] = step_state(states, is_fan_out=fans_out)
            self._expanded[step].set()
            self._done[step].set()

    async def _instances(self, step: str, source: str | None) -> list[State]:
        """Run the instances of a step, no more at a time than the run's concurrency."""
        values = self._values(need for need in self._plan.edges[step] if need != source)
        units = self._found_units(step, source, values)
        loop = asyncio.get_running_loop()
        self._ended[step] = [loop.create_future() for _ in units]
        self._units[step] = units
        self._expanded[step].set()
        if is_fan_out(self._plan.file.flow.steps[step]):
            event = StepExpanded(
                at=self._course.elapsed(), step=self._name(step), instances=len(units)
            )
            self._course.means.listen(event)
        waiting = iter(enumerate(units))

        async def work() -> None:
            for index, unit in waiting:
                state = await self._instance(step, source, index, unit, values)
                self._ended[step][index].set_result(state)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(units), self._plan.concurrency)):
                group.create_task(work())
        return [ended.result() for ended in self._ended[step]]

    def _found_units(self, step: str, source: str | None, values: Values) -> tuple[Unit, ...]:
        """Return a step's instances: as planned, else as what it needs has made them known."""
        if step in self._plan.prepared:
            return self._plan.prepared[step]
        condition = ("steps", step, "if")
        if condition not in self._plan.checked.varying:
            skip = reason_to_skip(self._plan, step, values)
            if skip:
                return (Prepared(instance=Instance(step=step), skip=skip),)
        if source is not None:
            sources = (_instance_of(unit) for unit in self._units.get(source, ()))
            return self._plan.fan_out.chained(step, sources)
        return self._plan.fan_out.instances(step, values)

    async def _instance(
        self, step: str, source: str | None, index: int, unit: Unit, values: Values
    ) -> State:
        instance = _instance_of(unit)
        name, began = self._name(instance.id), self._course.elapsed()
        upstream: State | None = None
        if source is not None and instance.key is not None:
            upstream = await asyncio.shield(self._ended[source][index])
            if upstream.status != "ok":
                reason = f"{upstream.name} {_happened(upstream)}"
                return self._skipped(name, instance.key, reason, blocks=upstream.blocks)
        own = {**values, **instance.names}
        if upstream is not None:
            own["source"] = upstream.values()
        try:
            prepared = self._prepared(unit, own)
            if prepared.skip:
                return self._skipped(name, instance.key, prepared.skip, blocks=False)
            result = await self._course.work(
                lambda: asyncio.ensure_future(self._result(prepared, own, upstream))
            )
        except NotStartedError as error:
            return self._skipped(name, instance.key, error.message, blocks=True)
        except PoeflowError as error:
            return self._failed(step, name, instance.key, error, began)
        if result is None:
            stop = self._course.reason_to_stop() or "another step failed"
            return self._skipped(name, instance.key, stop, blocks=True)
        self._course.succeed(name, result, began=began)
        return State(name=name, key=instance.key, status="ok", result=result)

    def _prepared(self, unit: Unit, values: Values) -> Prepared:
        """Return an instance ready to run, its `if` decided. Raises `StepError`."""
        instance = _instance_of(unit)
        if ("steps", instance.step, "if") in self._plan.checked.late:
            skip = reason_to_skip(self._plan, instance.step, values)
            if skip:
                return Prepared(instance=instance, skip=skip)
        if isinstance(unit, Prepared):
            return unit
        prepared, problems = prepare(self._plan, instance, values)
        if problems:
            raise StepError(str(problems[0]))
        return prepared

    async def _result(
        self, prepared: Prepared, values: Values, upstream: State | None
    ) -> StepResult:
        step = prepared.instance.step
        spec = self._plan.file.flow.steps[step]
        if spec.kind == "flow":
            return await self._used_flow(prepared.instance, values)
        before: tuple[Message, ...] = ()
        if spec.history is not None:
            is_chained = upstream is not None and spec.history == self._plan.checked.chains[step]
            states = (upstream,) if is_chained else self._states[spec.history].instances
            before = next((s.conversation for s in states if s is not None), ())
        name = self._name(prepared.instance.id)
        return await self._steps.run(
            Job(prepared=prepared, name=name, values=values, before=before)
        )

    async def _used_flow(self, instance: Instance, values: Values) -> StepResult:
        """Run the flow a step uses, as part of this run."""
        step = instance.step
        written = self._plan.file.flow.steps[step].with_
        given = self._plan.texts.value(("steps", step, "with"), dict(written or {}), values)
        planner = self._course.planner
        inputs = planner.arguments(self._plan, step, given)
        plan = planner.plan(
            self._plan.checked.children[step], inputs, concurrency=self._plan.concurrency
        )
        child = FlowRun(plan, self._course, prefix=f"{self._name(instance.id)}/")
        await child.run()
        blocking = [state.blocked_by for state in child.states.values() if state.blocks]
        if blocking:
            raise UsedFlowError(f"in the flow it uses, {blocking[0]}")
        return StepResult(text="", source="ran", key=instance.key, outputs=child.outputs())

    def _blocked_by(self, step: str, source: str | None) -> str:
        """Return why a step does not run; one whose `if` looks at a step's status runs."""
        tested = self._plan.checked.tested[step]
        for need in self._plan.edges[step]:
            state = self._states.get(need)
            if need in tested or state is None or (need == source and source in self._ended):
                continue
            if state.blocked_by:
                return state.blocked_by
        return self._course.reason_to_stop(is_cleaning_up=bool(tested))

    def _skipped(self, name: str, key: str | None, reason: str, *, blocks: bool) -> State:
        self._course.skip(name, reason)
        return State(name=name, key=key, status="skipped", blocks=blocks)

    def _failed(
        self, step: str, name: str, key: str | None, error: PoeflowError, began: float
    ) -> State:
        is_tolerated = self._plan.file.flow.steps[step].continue_on_error
        is_told = isinstance(error, UsedFlowError)
        self._course.fail(name, error, began=began, is_tolerated=is_tolerated, is_told=is_told)
        return State(name=name, key=key, status="failed", blocks=not is_tolerated, error=str(error))

    def _values(self, steps: Iterable[str]) -> dict[str, Json]:
        values = self._plan.early_values()
        values["steps"] = {step: self._states[step].value for step in steps}
        return values

    def _name(self, instance: str) -> str:
        return f"{self._prefix}{instance}"


def _instance_of(unit: Unit) -> Instance:
    return unit.instance if isinstance(unit, Prepared) else unit


def _happened(state: State) -> str:
    return "failed" if state.status == "failed" else "was skipped"


def _shown(state: StepState) -> Json:
    """Return a step's result where a flow declares none."""
    if len(state.instances) == 1 and state.instances[0].key is None:
        result = state.instances[0].result
        if result is None:
            return None
        return dict(result.outputs) if result.source == "ran" else result.text
    return {
        one.key or "": one.result.text if one.result.source != "ran" else dict(one.result.outputs)
        for one in state.instances
        if one.result is not None
    }
