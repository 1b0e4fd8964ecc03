"""One flow under way: what is known of its steps, how their instances end, and its outputs."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from poeflow.digest import Json, encode_json
from poeflow.engine.ask import UnaskedError
from poeflow.engine.freshness import Current, Freshness, StatusCollector, kept_because
from poeflow.engine.record import current as recorded
from poeflow.engine.results import State, StepResult, StepState, step_state
from poeflow.engine.run_state import RunState
from poeflow.engine.stored_results import StoredResults
from poeflow.errors import PoeflowError, StepError, UsageError
from poeflow.events import StepExpanded
from poeflow.flowfile.loops import is_fan_out
from poeflow.planning.instances import Instance
from poeflow.planning.plan import Plan, prepare, reason_to_skip
from poeflow.planning.preparation import Prepared
from poeflow.store.lockfile import LockEntry
from poeflow.templates.render import Values
from poeflow.templates.values import OWN


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
        self, plan: Plan, run_state: RunState, *, prefix: str, is_left_out: bool = False
    ) -> None:
        self.plan = plan
        self.run_state = run_state
        self.units: dict[str, tuple[Instance | Prepared | Current, ...]] = {}
        self.again: dict[str, tuple[Prepared, Values, State | None]] = {}
        self.ended: dict[str, list[asyncio.Future[State]]] = {}
        self.states: dict[str, StepState] = {}
        self._prefix = prefix
        self._is_left_out = is_left_out
        self.kept = StoredResults(plan, run_state.context)
        self.freshness = Freshness(plan, run_state, self.states, name=self.name)
        self.facts = StatusCollector(plan, run_state, self.freshness)

    def name(self, instance: str) -> str:
        return f"{self._prefix}{instance}"

    def settle(self, step: str, states: list[State]) -> None:
        """Note how a step ended, from how its instances did."""
        is_alone = len(states) == 1 and states[0].key is None
        fans_out = is_fan_out(self.plan.flow.steps[step]) and not is_alone
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
        is_meant = self.run_state.selection.covers(name, instance.key, index)
        return is_meant and not self._is_left_out

    def touches(self, step: str) -> bool:
        """Whether the run is about any instance of a step."""
        return not self._is_left_out and self.run_state.selection.touches(self.name(step))

    def left_out(self, name: str, key: str | None) -> State:
        """Return the state of an instance the run is not about: as the last run left it."""
        block = self.run_state.lock_update.block(name)
        self.run_state.lock_update.retain(name)
        self.run_state.left_out.add(name)
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
        self.run_state.lock_update.keep(name, unit.block)
        self.facts.current(name, unit)
        if self.run_state.context.asks and unit.edited:
            self.run_state.saver.warn_kept(name, unit.edited)
        elif self.run_state.context.asks and unit.stale:
            self.run_state.emitter(name).warned([kept_because(unit)])
        self.run_state.context.recorder.instance(
            recorded(name, unit.block.request, at=self.run_state.elapsed())
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
        block: LockEntry | None = None,
    ) -> State:
        self.run_state.skip(name, reason)
        if block is not None:
            self.run_state.lock_update.keep(name, block)
        if blocks:
            self.run_state.lock_update.retain(name)
            self.facts.blocked(name, reason, self._planned(name, key))
        is_pending = blocks and not self.run_state.context.asks
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
        if culprit.is_left_out and self.run_state.selection.named:
            hint = "run it first, or everything up to this step with --until"
            error = UsageError(culprit.blocks_because, hint=hint)
            return self.failed(step, name, key, error, began)
        return self.skipped(name, key, culprit.blocks_because, blocks=culprit.blocks)

    def failed(
        self, step: str, name: str, key: str | None, error: PoeflowError, began: float
    ) -> State:
        is_tolerated = self.plan.flow.steps[step].continue_on_error
        is_told = isinstance(error, UsedFlowError)
        self.run_state.lock_update.retain(name)
        self.facts.failed(name, error)
        self.run_state.fail(name, error, began=began, is_tolerated=is_tolerated, is_told=is_told)
        return State(name=name, key=key, status="failed", blocks=not is_tolerated, error=str(error))


Unit = Instance | Prepared | Current
Item = TypeVar("Item")


def found_units(flow: FlowState, step: str, source: str | None, values: Values) -> tuple[Unit, ...]:
    """Return a step's instances: as planned, else as what it needs has made them known."""
    if step in flow.plan.prepared:
        return flow.plan.prepared[step]
    condition = ("steps", step, "if")
    if condition not in flow.plan.checked.varying:
        skip = reason_to_skip(flow.plan, step, values)
        if skip:
            return (Prepared(instance=Instance(step=step), skip=skip),)
    if source is not None:
        sources = (instance_of(unit) for unit in flow.units.get(source, ()))
        return flow.plan.fan_out.chained(step, sources)
    return flow.plan.fan_out.instances(step, values)


def current_units(flow: FlowState, step: str) -> tuple[Unit, ...] | None:
    """Return a step's instances where the lock proves all of them, without any text."""
    if flow.plan.flow.steps[step].kind == "flow":
        return None
    units = flow.plan.prepared.get(step)
    if units is None:
        is_loop = is_fan_out(flow.plan.flow.steps[step])
        units = flow.freshness.locked_units(step) if is_loop else _alone(flow.plan, step)
    found: list[Current] = []
    for prepared in units or ():
        current = flow.freshness.current(prepared, None) or flow.freshness.kept(prepared, None)
        if current is None:
            return None
        found.append(current)
    return tuple(found) if found else None


def expand(flow: FlowState, step: str, units: tuple[Unit, ...]) -> None:
    """Make a step's instances known to those that run over them, and tell how many run.

    Raises `StepError` where the name of one, which the lock has, holds a key.
    """
    keys = "\n".join(instance_of(unit).key or "" for unit in units)
    flow.run_state.context.refuse_keys(keys.encode("utf-8", "replace"), "the name of an instance")
    loop = asyncio.get_running_loop()
    flow.ended[step] = [loop.create_future() for _ in units]
    flow.units[step] = units
    if is_fan_out(flow.plan.flow.steps[step]) and flow.touches(step):
        instances = [instance_of(unit) for unit in units]
        count = sum(flow.covers(one, index) for index, one in enumerate(instances))
        flow.run_state.loops[flow.name(step)] = [one.key for one in instances]
        at = flow.run_state.elapsed()
        flow.run_state.context.listen(StepExpanded(at=at, step=flow.name(step), instances=count))


def left_out(flow: FlowState, step: str) -> list[State]:
    """Return the instances of a step the run is not about, as the last run left them."""
    keys = flow.run_state.lock_update.keys(flow.name(step))
    late = tuple(Instance(step=step, key=key) for key in keys)
    units: tuple[Unit, ...] = flow.plan.prepared.get(step) or late
    if not units:
        return [flow.left_out(flow.name(step), None)]
    expand(flow, step, units)
    instances = map(instance_of, units)
    states = [flow.left_out(flow.name(one.id), one.key) for one in instances]
    for future, state in zip(flow.ended[step], states, strict=True):
        future.set_result(state)
    return states


async def side_by_side(
    items: Sequence[Item], work: Callable[[int, Item], Awaitable[None]], *, width: int
) -> None:
    """Do `work` for each item and its index, at most `width` at a time, in order.

    One that fails keeps no other from its turn; the first `PoeflowError` is raised at the end.
    """
    waiting = iter(enumerate(items))
    errors: list[PoeflowError] = []

    async def worker() -> None:
        for index, item in waiting:
            try:
                await work(index, item)
            except PoeflowError as error:
                errors.append(error)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(len(items), width)):
            group.create_task(worker())
    if errors:
        raise errors[0]


def prepared_unit(flow: FlowState, unit: Unit, values: Values) -> Prepared:
    """Return an instance ready to run, its `if` decided. Raises `StepError`."""
    instance = instance_of(unit)
    if ("steps", instance.step, "if") in flow.plan.checked.late:
        skip = reason_to_skip(flow.plan, instance.step, values)
        if skip:
            return Prepared(instance=instance, skip=skip)
    if isinstance(unit, Prepared):
        return unit
    prepared, problems = prepare(flow.plan, instance, values)
    if problems:
        raise StepError(str(problems[0]))
    return prepared


def instance_of(unit: Unit) -> Instance:
    match unit:
        case Current():
            return unit.prepared.instance
        case Prepared():
            return unit.instance
        case _:
            return unit


def early(unit: Unit) -> Prepared:
    """Return an instance as far as it is known without texts."""
    match unit:
        case Current():
            return unit.prepared
        case Prepared():
            return unit
        case _:
            return Prepared(instance=unit)


def _alone(plan: Plan, step: str) -> tuple[Prepared, ...] | None:
    """Return the one instance of a step that runs once."""
    prepared, problems = prepare(plan, Instance(step=step), plan.early_values())
    return None if problems else (prepared,)


_STEP: Final = re.compile(r"\bsteps\W+(\w+)(?!\W+status\b)\b")
"""A step named in an output for more than whether it ran: that much the lock has."""


class FlowOutputs(NamedTuple):
    """The outputs by name, and the instances whose answers are current and not here.

    `missing` are the outputs that would be made of those, and so are left out.
    """

    values: dict[str, Json]
    absent: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def wanted(flow: FlowState) -> list[str]:
    """Return the steps whose answers the outputs are made of."""
    declared = flow.plan.flow.outputs
    return _named_in(flow, declared) if declared else _last_steps(flow)


def steps_run(flow: FlowState) -> list[str]:
    """Return the steps a run of a part of the flow is about."""
    return [step for step in flow.plan.order if flow.touches(step)]


def outputs_of(flow: FlowState) -> FlowOutputs:
    """Return the outputs whose answers are all here. Raises `TemplateError`."""
    declared = flow.plan.flow.outputs
    if not declared:
        return _texts(flow, _last_steps(flow))
    values = flow.values(flow.plan.order)
    outputs = {
        name: flow.plan.texts.value(("outputs", name), written, values)
        for name, written in declared.items()
        if not _absent(flow, _named_in(flow, written))
    }
    missing = tuple(name for name in declared if name not in outputs)
    return FlowOutputs(outputs, _absent(flow, wanted(flow)), missing)


def part_of_outputs(flow: FlowState) -> FlowOutputs:
    """Return the results of the last steps that have any, where a run is about a part of a flow."""
    ended = [
        step
        for step in steps_run(flow)
        if _shown(flow, step, flow.states[step]) is not None or _absent(flow, [step])
    ]
    needed = {need for step in ended for need in flow.plan.edges[step]}
    return _texts(flow, [step for step in ended if step not in needed])


def _texts(flow: FlowState, steps: Iterable[str]) -> FlowOutputs:
    """Return the texts of steps, those without any left out."""
    shown = {step: _shown(flow, step, flow.states[step]) for step in steps}
    return FlowOutputs(
        {step: value for step, value in shown.items() if value is not None},
        _absent(flow, shown),
        tuple(step for step in shown if shown[step] is None and _absent(flow, [step])),
    )


def _absent(flow: FlowState, steps: Iterable[str]) -> tuple[str, ...]:
    """Return the instances of steps the run is about whose answers are not here."""
    return tuple(
        one.name
        for step in steps
        for one in flow.states[step].instances
        if one.is_absent and not (one.is_left_out and flow.run_state.selection.named)
    )


def _named_in(flow: FlowState, written: Json | dict[str, Json]) -> list[str]:
    """Return the steps that outputs name."""
    named = set(_STEP.findall(encode_json(written).decode()))
    return [step for step in flow.plan.order if step in named]


def _last_steps(flow: FlowState) -> list[str]:
    """Return the steps nothing depends on."""
    needed = {need for needs in flow.plan.edges.values() for need in needs}
    return [step for step in flow.plan.order if step not in needed]


def _shown(flow: FlowState, step: str, state: StepState) -> Json:
    """Return a step's result where a flow declares none: one text, or those of a loop by key."""
    found = {
        one.key: _text(one.result) if one.result.source != "ran" else dict(one.result.outputs)
        for one in state.instances
        if one.result is not None
    }
    named = flow.run_state.selection.named
    is_one = len(found) == 1 and any(one.startswith(f"{flow.name(step)}[") for one in named)
    if None in found or is_one:
        return next(iter(found.values()))
    is_loop = any(one.key is not None for one in state.instances) or not state.instances
    return {key or "": value for key, value in found.items()} or None if is_loop else None


def _text(result: StepResult) -> str:
    """Return the word that was chosen, as it is declared, else the answer's text."""
    return result.text if result.value is None else result.value
