"""A run of a plan from its first event to its last, and a survey of what a run would do."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from poeflow.costs import estimate, estimated_event
from poeflow.digest import Json
from poeflow.engine.asking.context import RunContext, exit_code_of
from poeflow.engine.asking.tools import Toolboxes
from poeflow.engine.flow_state import FlowState
from poeflow.engine.lock_entries import Accepting
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.record import NoRecorder
from poeflow.engine.results import InstanceOutcome, Outcome
from poeflow.engine.run_state import FailurePolicy, RunState
from poeflow.engine.running.flow_outputs import FlowOutputs
from poeflow.engine.running.flow_run import FlowRun
from poeflow.engine.statuses import gone_statuses, unmade_words
from poeflow.errors import PoeflowError, UsageError, first_error, most_serious
from poeflow.events import RunFinished, RunStarted, Warned, ignore
from poeflow.flowfile.loops import is_fan_out
from poeflow.planning.plan import Plan
from poeflow.planning.planner import Planner
from poeflow.planning.selection import check_glob
from poeflow.records import InstanceStatus, key_of, outer_step, wholes_of

ASK_AGAIN: Final = "nothing is paid for to print them; --refresh asks again"
SHOWN: Final = 3
LARGE: Final = 100
"""From so many instances of a step on, a run reports what it will send before it does."""
EXACT: Final = 200
SAMPLE: Final = 100
"""Maximum instances that are examined for that: of more, only a sample."""


async def run_plan(
    plan: Plan,
    planner: Planner,
    context: RunContext,
    toolboxes: Toolboxes,
    lock_update: LockUpdate,
    *,
    failure_policy: FailurePolicy,
) -> Outcome:
    """Run every step of `plan` and return how it ended; a step's failure is not raised.

    Independent steps run at the same time, up to the plan's concurrency. After a failure nothing
    new is started unless `failure_policy` says so; running requests are paid for, and finish.
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
    with _end_reported(flow, run_state):
        await _announce(plan, planner, run_state, lock_update)
        try:
            await flow.run()
        except ExceptionGroup as group:
            raise first_error(group) from None
        found = await _outputs(flow, run_state)
        await asyncio.to_thread(_clear_up, run_state)
    return _finished(flow, run_state, found)


async def _announce(
    plan: Plan, planner: Planner, run_state: RunState, lock_update: LockUpdate
) -> None:
    """Report what a run with a large loop will send, as far as known."""
    context, selection = run_state.context, run_state.context.selection
    size = plan.largest_loop(selection)
    if size < LARGE:
        return
    every = 1 if size <= EXACT else size // SAMPLE
    selection = msgspec.structs.replace(selection, every=every)
    silent = msgspec.structs.replace(
        context,
        asks=False,
        git=None,
        listen=ignore,
        recorder=NoRecorder(),
        selection=selection,
    )
    try:
        statuses = await survey(
            plan, planner, silent, lock_update.last_run_only(), toolboxes=run_state.toolboxes
        )
    except PoeflowError:
        return  # the run itself reports the error
    whole = [
        one for status in statuses for one in [status] * (1 if key_of(status.id) is None else every)
    ]
    found = estimate(whole, context.budget.prices)
    if found.calls.least:
        is_free = context.simulated
        context.listen(estimated_event(found, is_free=is_free, is_sample=selection.is_sample))
        for message in _beyond(context, int(found.calls.least)):
            context.listen(Warned(at=run_state.elapsed(), step=None, message=message))


def _beyond(context: RunContext, requests: int) -> Iterator[str]:
    """Yield a message for each limit that does not allow so many requests."""
    for tally in context.budget.limited:
        limit, sent = tally.bounds.requests, tally.summary().requests
        if limit is not None and sent + requests > limit.value:
            left = f"only {limit.value - sent:,.0f} of {limit.value:,.0f} are left ({limit.owner})"
            yield (
                f"about {requests:,} requests are needed, and {left}: the run stops there, and the"
                " next one goes on; --max-requests allows more"
            )


def _finished(flow: FlowRun, run_state: RunState, found: FlowOutputs) -> Outcome:
    exit_code = most_serious(error.exit_code for error in run_state.failures.values())
    _report_end(flow, run_state, exit_code, found.values)
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
def _end_reported(flow: FlowRun, run_state: RunState) -> Iterator[None]:
    """Report the end of a run that is interrupted or raises: what it asked and spent so far."""
    try:
        yield
    except BaseException as error:
        exit_code = exit_code_of(error, run_state.context.cut_short)
        _report_end(flow, run_state, exit_code, {})
        raise


def _report_end(
    flow: FlowRun, run_state: RunState, exit_code: int, outputs: dict[str, Json]
) -> None:
    """Report the totals of the whole run; nothing else sums them up."""
    run_state.warn_served()
    spent = run_state.context.budget.summary()
    cost = spent.cost_usd
    progress = _progress(flow.state)
    run_state.context.listen(
        RunFinished(
            at=run_state.elapsed(),
            exit_code=exit_code,
            asked=run_state.asked,
            cached=run_state.count("cached"),
            rendered=run_state.count("rendered"),
            failed=len(run_state.failures),
            tolerated=run_state.passed_over,
            skipped=len(run_state.skipped),
            seconds=run_state.elapsed(),
            simulated=run_state.context.simulated,
            outputs=outputs,
            requests=spent.requests,
            tokens=spent.tokens,
            cost_usd=None if cost is None or run_state.context.simulated else float(cost),
            unknown=spent.unknown,
            done=progress.done,
            instances=progress.instances,
            has_more=progress.has_more,
            held_back=run_state.held_back,
            unusable=run_state.unusable,
            is_refresh=run_state.selection.refreshes_all,
        )
    )


class _Progress(msgspec.Struct, frozen=True):
    """How many of the selected `instances` are done. Of a loop that is not known yet one counts."""

    done: int
    instances: int
    has_more: bool = False


def _progress(flow: FlowState) -> _Progress:
    steps = [_progress_of(flow, step) for step in flow.plan.order if flow.touches(step)]
    return _Progress(
        done=sum(one.done for one in steps),
        instances=sum(one.instances for one in steps),
        has_more=any(one.has_more for one in steps),
    )


def _progress_of(flow: FlowState, step: str) -> _Progress:
    under_way = flow.under_way.get(step)
    if under_way is not None:
        covered = flow.covered(step, under_way.instances)
        ended = ((under_way.instances[at], under_way.outcomes[at]) for at in covered)
        done = [
            one is not None and one.is_done and not flow.stored.is_always_asked(instance)
            for instance, one in ended
        ]
        return _Progress(sum(done), len(covered))
    outcome, known = flow.outcomes.get(step), flow.plan.instances.get(step)
    is_done = outcome is not None and all(one.is_done for one in outcome.instances)
    count = len(flow.covered(step, known)) if known else 1
    has_more = not is_done and not known and is_fan_out(flow.plan.steps[step])
    return _Progress(count if is_done else 0, count, has_more)


def _warn(run_state: RunState, message: str) -> None:
    run_state.context.listen(Warned(at=run_state.elapsed(), step=None, message=message))


def _clear_up(run_state: RunState) -> None:
    """Report the files that no step writes now, or remove them if the user asked for that.

    Those that stay are stored in the lock, with those of steps that failed; what a person edited
    is not poeflow's any more. Raises `DiskError`.
    """
    context, lock_update, made = run_state.context, run_state.lock_update, run_state.saver.targets
    no_longer_written = lock_update.no_longer_written
    orphans = context.files.orphans(no_longer_written, made=made)
    for path in lock_update.left_by_gone(context.files.leftovers(no_longer_written, made=made)):
        _warn(run_state, unmade_words(path, is_edited=True))
    if context.prunes:
        edited = lock_update.edited_media(orphans)
        for path in sorted(orphans.keys() - edited.keys()):
            context.output_tree.remove(path)
            _warn(run_state, f"{path[2:]} was removed, as no step writes it any more")
        orphans = edited
    for path in sorted(orphans.keys() - lock_update.orphans.keys()):
        _warn(run_state, unmade_words(path, is_edited=False))
    unwritten = {path: one for path, one in no_longer_written.items() if path in made}
    replaceable = lock_update.still_to_replace.items()
    waiting = {path: one for path, one in replaceable if context.files.look(path, one) == "same"}
    lock_update.keep_orphans(orphans | unwritten | waiting)


async def _outputs(flow: FlowRun, run_state: RunState) -> FlowOutputs:
    """Return the results of the flow, or of the selected part; none if they failed."""
    selection = run_state.selection
    _check_glob(run_state)
    is_blocked = any(one.blocks for one in flow.state.outcomes.values())
    try:
        if selection.only or (is_blocked and not selection.is_whole):
            found = await flow.part_of_outputs()
        elif is_blocked:
            return FlowOutputs({})
        else:
            found = await flow.outputs()
        for name, value in found.values.items():
            run_state.context.refuse_keys_in(value, f'the output "{name}"')
    except PoeflowError as error:
        _fail(run_state, "outputs", error)
        return FlowOutputs({})
    if found.absent:
        _warn(run_state, f"{_not_here(found.absent)}; {ASK_AGAIN}")
    return found


def _check_glob(run_state: RunState) -> None:
    """Fail a run if its pattern matched no key of a loop that was not known before it."""
    pattern = run_state.selection.key
    if pattern is None or not run_state.loops or run_state.failures:
        return
    try:
        check_glob(run_state.loops, pattern)
    except UsageError as error:
        _fail(run_state, "run", error)


def _fail(run_state: RunState, name: str, error: PoeflowError) -> None:
    """Fail a run for a reason outside its instances: its outputs, or the caller's selection."""
    run_state.settle(InstanceOutcome(name=name, key=None, ending="failed", error=error))


def _not_here(absent: Sequence[str]) -> str:
    """Report the instances whose answers are current but not stored here."""
    if len(absent) == 1:
        return f"{absent[0]} is current, and its answer is not here"
    more = f" and {len(absent) - SHOWN:,} more" if len(absent) > SHOWN else ""
    named = ", ".join(absent[:SHOWN])
    return f"{len(absent):,} instances are current, and their answers are not here: {named}{more}"


def _gone(run_state: RunState) -> list[str]:
    """Return the entries of the lock that no instance has now. A loop that is there may be full."""
    blocked = {one.id for one in run_state.statuses.values() if one.state == "unknown"}
    blocked |= run_state.unsurveyed
    lock_update = run_state.lock_update
    names = lock_update.names - run_state.statuses.keys() - run_state.unsurveyed
    gone = [name for name in sorted(names) if blocked.isdisjoint(wholes_of(name))]
    return [one for one in gone if one not in run_state.loops or not lock_update.is_empty(one)]


async def survey(
    plan: Plan,
    planner: Planner,
    context: RunContext,
    lock_update: LockUpdate,
    *,
    toolboxes: Toolboxes,
    accepting: Accepting | None = None,
) -> tuple[InstanceStatus, ...]:
    """Return the status of every instance, in the order of the file; nothing is sent or written.

    `context` is that of a run that does not ask, so `toolboxes` run nothing. `accepting` accepts
    files as they are.
    """
    run_state = RunState(
        context,
        planner,
        toolboxes,
        lock_update=lock_update,
        concurrency=plan.concurrency,
        failure_policy=FailurePolicy(keep_going=True),
        accepting=accepting,
    )
    try:
        await FlowRun(plan, run_state).run()
    except ExceptionGroup as group:
        raise first_error(group) from None
    gone = [] if run_state.selection.is_sample else _gone(run_state)
    files, targets = lock_update.files_of(gone), plan.targets()
    orphans = context.files.orphans(files, made=targets)
    left = context.files.leftovers(files, made=targets)
    entries = {name: lock_update.entry(name) if left else None for name in gone}
    position = {step: index for index, step in enumerate(plan.steps)}
    requests = run_state.asker.requests

    def place(status: InstanceStatus) -> int:
        """Return the position of the outer step: mostly it is what the name begins with."""
        step = status.id.partition("[")[0]
        return position[step if step in position else outer_step(status.id)]

    ordered = sorted(run_state.statuses.values(), key=place)
    return (
        *requests.equal.counted_once(ordered),
        *gone_statuses(entries, orphans, left),
    )
