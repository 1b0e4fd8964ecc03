"""A run of a plan: which step may start, with what it needs, and what the flow results in."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from poeflow.costs import estimate
from poeflow.digest import Json, encode_json
from poeflow.engine.accept import Accepting
from poeflow.engine.ask import KnownError, UnaskedError
from poeflow.engine.budget import Spent
from poeflow.engine.context import RunContext
from poeflow.engine.flow_state import (
    FlowOutputs,
    FlowState,
    Unit,
    UnknownError,
    UsedFlowError,
    current_units,
    expand,
    found_units,
    instance_of,
    left_out,
    outputs_of,
    part_of_outputs,
    side_by_side,
    steps_run,
    wanted,
)
from poeflow.engine.instance_runner import Demand, InstanceRunner
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.orphans import UNMADE, clear_up, orphans
from poeflow.engine.record import Unrecorded
from poeflow.engine.results import State, StepResult
from poeflow.engine.run_state import FailurePolicy, NotStartedError, RunState
from poeflow.engine.tools import Toolboxes
from poeflow.errors import PoeflowError, UsageError, most_serious
from poeflow.events import RunEstimated, RunFinished, RunStarted, Warned
from poeflow.planning.instances import Instance
from poeflow.planning.plan import Plan, Planner, check_glob, check_keys
from poeflow.planning.preparation import Prepared
from poeflow.records import InstanceStatus, outer_step, wholes_of
from poeflow.templates.render import Values


class FlowRun:
    """Runs a flow. `prefix` stands before the ids of its instances: empty for the outermost."""

    def __init__(
        self, plan: Plan, run_state: RunState, *, prefix: str = "", is_left_out: bool = False
    ) -> None:
        self._flow = FlowState(plan, run_state, prefix=prefix, is_left_out=is_left_out)
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
        source = self._flow.plan.chains.get(step)
        for need in self._flow.plan.edges[step]:
            await (self._expanded if need == source else self._done)[need].wait()
        states: list[State] = []
        began = self._flow.run_state.elapsed()
        try:
            culprit = self._culprit(step, source)
            is_cleaning_up = bool(self._flow.plan.tested[step])
            stop = self._flow.run_state.reason_to_stop(is_cleaning_up=is_cleaning_up)
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
        wanted = self._flow.run_state.selection.wanted
        if wanted and not is_skipped:
            keys = [instance_of(unit).key for unit in units]
            check_keys(self._flow.name(step), keys, wanted)

    async def _used_flow(
        self, instance: Instance, values: Values, *, is_wanted: bool, is_left_out: bool
    ) -> StepResult:
        """Run the flow a step uses, as part of this run."""
        step = instance.step
        written = self._flow.plan.flow.steps[step].with_
        given = self._flow.plan.texts.value(("steps", step, "with"), dict(written or {}), values)
        planner = self._flow.run_state.planner
        inputs = planner.arguments(self._flow.plan, step, given)
        prefix = f"{self._flow.name(instance.id)}/"
        plan = planner.plan(
            self._flow.plan.checked.children[step],
            inputs,
            concurrency=self._flow.plan.concurrency,
            instance_count=self._flow.plan.instance_count,
            prefix=prefix,
        )
        child = FlowRun(
            plan,
            self._flow.run_state,
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
        tested = self._flow.plan.tested[step]
        for need in self._flow.plan.edges[step]:
            state = self._flow.states.get(need)
            if state is None or (need == source and source in self._flow.ended):
                continue
            if need in tested and not any(one.is_pending for one in state.instances):
                continue
            if state.culprit is not None:
                return state.culprit
        return None


ASK_AGAIN: Final = "nothing is paid for to print them; --refresh asks again"
SHOWN: Final = 3
LARGE: Final = 100
"""A run over so many instances of a step says what it will send before it does."""
MOST: Final = 20_000
"""So many instances of a step are looked at for that."""
BUG: Final = 70
"""The exit code of a run that met a fault of poeflow itself."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, instances by their ids.

    `outputs` is empty unless every step it needs succeeded. `absent` are instances that are current
    and whose answers are not here, `missing` the outputs that would be made of them. `tolerated`
    are the failures of steps with `continue_on_error`; `spent` is what was sent and what it cost,
    as far as that is known.
    """

    exit_code: int
    outputs: dict[str, Json]
    absent: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    results: Mapping[str, StepResult]
    failures: Mapping[str, PoeflowError]
    skipped: Mapping[str, str]
    tolerated: Mapping[str, PoeflowError]
    spent: Spent


async def run_plan(
    plan: Plan,
    planner: Planner,
    context: RunContext,
    toolboxes: Toolboxes,
    lock_update: LockUpdate,
    *,
    failure_policy: FailurePolicy,
) -> Outcome:
    """Run every step of `plan` and return how it ended; a step's failure is no exception here.

    Independent steps run at the same time, up to the plan's concurrency. After a failure nothing
    new is started unless `failure_policy` says so; what is under way is paid for and finishes.
    """
    run_state = RunState(
        context,
        planner,
        toolboxes,
        lock_update=lock_update,
        concurrency=plan.concurrency,
        failure_policy=failure_policy,
    )
    context.listen(
        RunStarted(
            at=0.0,
            flow=plan.file.name,
            steps=tuple(step for step in plan.order if context.selection.touches(step)),
            simulated=context.simulated,
        )
    )
    flow = FlowRun(plan, run_state)
    with _told(flow, run_state):
        await _announce(plan, planner, context, lock_update)
        try:
            await flow.run()
        except* PoeflowError as errors:
            raise errors.exceptions[0] from None
        found = await _outputs(flow, run_state)
        await asyncio.to_thread(clear_up, context, lock_update, lambda text: _warn(run_state, text))
    return _finished(flow, run_state, found)


async def _announce(
    plan: Plan, planner: Planner, context: RunContext, lock_update: LockUpdate
) -> None:
    """Say what a run with a large loop will send, as far as it is known by now."""
    selection = context.selection
    sizes = [
        sum(selection.covers(one.instance.id, one.instance.key, at) for at, one in enumerate(units))
        for units in plan.prepared.values()
        if any(one.settings is not None for one in units)
    ]
    if max(sizes, default=0) < LARGE:
        return
    is_too_large = max(sizes) > MOST
    if is_too_large:
        selection = msgspec.structs.replace(selection, first=MOST)
    silent = replace(
        context, asks=False, listen=lambda _: None, recorder=Unrecorded(), selection=selection
    )
    try:
        facts = await survey(plan, planner, silent, lock_update.untouched())
    except PoeflowError:
        return  # the run itself tells what is wrong, where it is
    found = estimate(facts, context.budget.prices)
    if not found.calls.least:
        return
    cost, most = found.cost_usd, found.calls.most
    context.listen(
        RunEstimated(
            at=0.0,
            requests=int(found.calls.least),
            most_requests=None if is_too_large or most is None else int(most),
            prompt_tokens=found.prompt_tokens,
            answer_tokens=found.answer_tokens if found.measures else None,
            cost_usd=None if cost is None or context.simulated else float(cost.least),
        )
    )


def _finished(flow: FlowRun, run_state: RunState, found: FlowOutputs) -> Outcome:
    exit_code = most_serious(error.exit_code for error in run_state.failures.values())
    _tell_end(flow, run_state, exit_code, found.values)
    return Outcome(
        exit_code=exit_code,
        outputs=found.values,
        absent=found.absent,
        missing=found.missing,
        results=run_state.results,
        failures=run_state.failures,
        skipped=run_state.skipped,
        tolerated=run_state.tolerated,
        spent=run_state.context.budget.summary(),
    )


@contextlib.contextmanager
def _told(flow: FlowRun, run_state: RunState) -> Iterator[None]:
    """Tell how a run ended that does not come to its end: what it asked and spent by then."""
    exit_code = BUG
    is_whole = False
    try:
        yield
        is_whole = True
    except (asyncio.CancelledError, KeyboardInterrupt):
        exit_code = run_state.context.cut_short()
        raise
    except PoeflowError as error:
        exit_code = error.exit_code
        raise
    finally:
        if not is_whole:
            _tell_end(flow, run_state, exit_code, {})


def _tell_end(flow: FlowRun, run_state: RunState, exit_code: int, outputs: dict[str, Json]) -> None:
    """Tell what the whole run did: the one place where it is summed up."""
    spent = run_state.context.budget.summary()
    cost = spent.cost_usd
    done, instances = flow.progress()
    run_state.context.listen(
        RunFinished(
            at=run_state.elapsed(),
            exit_code=exit_code,
            asked=run_state.asked,
            cached=run_state.count("cached"),
            rendered=run_state.count("rendered"),
            failed=len(run_state.failures),
            skipped=len(run_state.skipped),
            seconds=run_state.elapsed(),
            simulated=run_state.context.simulated,
            outputs=outputs,
            requests=spent.requests,
            tokens=spent.tokens,
            cost_usd=None if cost is None or run_state.context.simulated else float(cost),
            unknown=spent.unknown,
            done=done,
            instances=instances,
            is_refresh=run_state.selection.is_all_again,
        )
    )


def _warn(run_state: RunState, message: str) -> None:
    run_state.context.listen(Warned(at=run_state.elapsed(), step=None, message=message))


async def _outputs(flow: FlowRun, run_state: RunState) -> FlowOutputs:
    """Return the flow's results, or those of the part that was run; none where they failed."""
    selection = run_state.selection
    _check_glob(run_state)
    is_blocked = any(state.blocks for state in flow.known.states.values())
    try:
        if selection.named or (is_blocked and not selection.is_whole):
            found = await flow.part_of_outputs()
        elif is_blocked:
            return FlowOutputs({})
        else:
            found = await flow.outputs()
        for name, value in found.values.items():
            run_state.context.refuse_keys(encode_json(value), f'the output "{name}"')
    except PoeflowError as error:
        began = run_state.elapsed()
        run_state.fail("outputs", error, began=began, is_tolerated=False, is_told=False)
        return FlowOutputs({})
    if found.absent:
        _warn(run_state, f"{_not_here(found.absent)}; {ASK_AGAIN}")
    return found


def _check_glob(run_state: RunState) -> None:
    """Fail a run whose pattern of keys matched none, of loops that were not known before it."""
    pattern = run_state.selection.key
    if pattern is None or not run_state.loops or run_state.failures:
        return
    try:
        check_glob(run_state.loops, pattern)
    except UsageError as error:
        run_state.fail("run", error, began=run_state.elapsed(), is_tolerated=False, is_told=False)


def _not_here(absent: Sequence[str]) -> str:
    """Say whose answers are current and not at hand."""
    if len(absent) == 1:
        return f"{absent[0]} is current, and its answer is not here"
    more = f" and {len(absent) - SHOWN:,} more" if len(absent) > SHOWN else ""
    named = ", ".join(absent[:SHOWN])
    return f"{len(absent):,} instances are current, and their answers are not here: {named}{more}"


async def survey(
    plan: Plan,
    planner: Planner,
    context: RunContext,
    lock_update: LockUpdate,
    *,
    accepting: Accepting | None = None,
) -> tuple[InstanceStatus, ...]:
    """Return how every instance stands, in the order of the file; nothing is sent or written.

    `context` is that of a run that does not ask. `accepting` takes files into the lock as they
    are.
    """
    run_state = RunState(
        context,
        planner,
        Toolboxes({}),
        lock_update=lock_update,
        concurrency=plan.concurrency,
        failure_policy=FailurePolicy(keep_going=True),
        accepting=accepting,
    )
    try:
        await FlowRun(plan, run_state).run()
    except* PoeflowError as errors:
        raise errors.exceptions[0] from None
    blocked = {fact.id for fact in run_state.facts.values() if fact.state == "unknown"}
    blocked |= run_state.left_out
    gone = [
        name
        for name in sorted(lock_update.names - run_state.facts.keys() - run_state.left_out)
        if blocked.isdisjoint(wholes_of(name))
    ]
    position = {step: index for index, step in enumerate(plan.flow.steps)}
    return (
        *sorted(run_state.facts.values(), key=lambda fact: position[outer_step(fact.id)]),
        *(
            InstanceStatus(id=name, state="stale", reasons=("it is not in the flow any more",))
            for name in gone
        ),
        *(
            InstanceStatus(id=path[2:], state="orphaned", reasons=(UNMADE,))
            for path in orphans(context, lock_update.outputs_of(gone), made=plan.targets())
        ),
    )
