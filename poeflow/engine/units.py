"""The instances of a step as they become known: by the plan, by the lock, or by other steps."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from poeflow.engine.flow_state import FlowState
from poeflow.engine.freshness import Current
from poeflow.engine.states import State
from poeflow.errors import PoeflowError, StepError
from poeflow.events import StepExpanded
from poeflow.flowfile.loops import is_fan_out
from poeflow.planning.instances import Instance
from poeflow.planning.plan import Plan, prepare, reason_to_skip
from poeflow.planning.prepare import Prepared
from poeflow.templates.texts import Values

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
    if flow.plan.file.flow.steps[step].kind == "flow":
        return None
    units = flow.plan.prepared.get(step)
    if units is None:
        is_loop = is_fan_out(flow.plan.file.flow.steps[step])
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
    flow.course.means.refuse_keys(keys.encode("utf-8", "replace"), "the name of an instance")
    loop = asyncio.get_running_loop()
    flow.ended[step] = [loop.create_future() for _ in units]
    flow.units[step] = units
    if is_fan_out(flow.plan.file.flow.steps[step]) and flow.touches(step):
        instances = [instance_of(unit) for unit in units]
        count = sum(flow.covers(one, index) for index, one in enumerate(instances))
        flow.course.loops[flow.name(step)] = [one.key for one in instances]
        at = flow.course.elapsed()
        flow.course.means.listen(StepExpanded(at=at, step=flow.name(step), instances=count))


def left_out(flow: FlowState, step: str) -> list[State]:
    """Return the instances of a step the run is not about, as the last run left them."""
    keys = flow.course.memory.keys(flow.name(step))
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
