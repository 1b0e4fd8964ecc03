"""A plan becomes a run, and a run becomes an outcome."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from poeflow.costs import estimate
from poeflow.digest import Json, encode_json
from poeflow.engine.accept import Accepting
from poeflow.engine.budget import Spent
from poeflow.engine.context import Means
from poeflow.engine.flow_outputs import FlowOutputs
from poeflow.engine.flow_run import FlowRun
from poeflow.engine.lock_update import Memory
from poeflow.engine.orphans import UNMADE, clear_up, orphans
from poeflow.engine.record import Unrecorded
from poeflow.engine.results import StepResult
from poeflow.engine.run_state import Course, Persistence
from poeflow.engine.toolboxes import Toolboxes
from poeflow.errors import PoeflowError, UsageError, most_serious
from poeflow.events import RunEstimated, RunFinished, RunStarted, Warned
from poeflow.facts import Fact, outer_step, wholes_of
from poeflow.planning.plan import Plan, Planner
from poeflow.planning.selection import check_glob

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
    means: Means,
    toolboxes: Toolboxes,
    memory: Memory,
    *,
    persistence: Persistence,
) -> Outcome:
    """Run every step of `plan` and return how it ended; a step's failure is no exception here.

    Independent steps run at the same time, up to the plan's concurrency. After a failure nothing
    new is started unless `persistence` says so; what is under way is paid for and finishes.
    """
    course = Course(
        means,
        planner,
        toolboxes,
        memory=memory,
        concurrency=plan.concurrency,
        persistence=persistence,
    )
    means.listen(
        RunStarted(
            at=0.0,
            flow=plan.file.name,
            steps=tuple(step for step in plan.order if means.selection.touches(step)),
            simulated=means.simulated,
        )
    )
    flow = FlowRun(plan, course)
    with _told(flow, course):
        await _announce(plan, planner, means, memory)
        try:
            await flow.run()
        except* PoeflowError as errors:
            raise errors.exceptions[0] from None
        found = await _outputs(flow, course)
        await asyncio.to_thread(clear_up, means, memory, lambda text: _warn(course, text))
    return _finished(flow, course, found)


async def _announce(plan: Plan, planner: Planner, means: Means, memory: Memory) -> None:
    """Say what a run with a large loop will send, as far as it is known by now."""
    selection = means.selection
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
        means, asks=False, listen=lambda _: None, recorder=Unrecorded(), selection=selection
    )
    try:
        facts = await survey(plan, planner, silent, memory.untouched())
    except PoeflowError:
        return  # the run itself tells what is wrong, where it is
    found = estimate(facts, means.budget.prices)
    if not found.calls.least:
        return
    cost, most = found.cost_usd, found.calls.most
    means.listen(
        RunEstimated(
            at=0.0,
            requests=int(found.calls.least),
            most_requests=None if is_too_large or most is None else int(most),
            prompt_tokens=found.prompt_tokens,
            answer_tokens=found.answer_tokens if found.measures else None,
            cost_usd=None if cost is None or means.simulated else float(cost.least),
        )
    )


def _finished(flow: FlowRun, course: Course, found: FlowOutputs) -> Outcome:
    exit_code = most_serious(error.exit_code for error in course.failures.values())
    _tell_end(flow, course, exit_code, found.values)
    return Outcome(
        exit_code=exit_code,
        outputs=found.values,
        absent=found.absent,
        missing=found.missing,
        results=course.results,
        failures=course.failures,
        skipped=course.skipped,
        tolerated=course.tolerated,
        spent=course.means.budget.summary(),
    )


@contextlib.contextmanager
def _told(flow: FlowRun, course: Course) -> Iterator[None]:
    """Tell how a run ended that does not come to its end: what it asked and spent by then."""
    exit_code = BUG
    is_whole = False
    try:
        yield
        is_whole = True
    except (asyncio.CancelledError, KeyboardInterrupt):
        exit_code = course.means.cut_short()
        raise
    except PoeflowError as error:
        exit_code = error.exit_code
        raise
    finally:
        if not is_whole:
            _tell_end(flow, course, exit_code, {})


def _tell_end(flow: FlowRun, course: Course, exit_code: int, outputs: dict[str, Json]) -> None:
    """Tell what the whole run did: the one place where it is summed up."""
    spent = course.means.budget.summary()
    cost = spent.cost_usd
    done, instances = flow.progress()
    course.means.listen(
        RunFinished(
            at=course.elapsed(),
            exit_code=exit_code,
            asked=course.asked,
            cached=course.count("cached"),
            rendered=course.count("rendered"),
            failed=len(course.failures),
            skipped=len(course.skipped),
            seconds=course.elapsed(),
            simulated=course.means.simulated,
            outputs=outputs,
            requests=spent.requests,
            tokens=spent.tokens,
            cost_usd=None if cost is None or course.means.simulated else float(cost),
            unknown=spent.unknown,
            done=done,
            instances=instances,
            is_refresh=course.means.selection.is_all_again,
        )
    )


def _warn(course: Course, message: str) -> None:
    course.means.listen(Warned(at=course.elapsed(), step=None, message=message))


async def _outputs(flow: FlowRun, course: Course) -> FlowOutputs:
    """Return the flow's results, or those of the part that was run; none where they failed."""
    selection = course.means.selection
    _check_glob(course)
    is_blocked = any(state.blocks for state in flow.known.states.values())
    try:
        if selection.named or (is_blocked and not selection.is_whole):
            found = await flow.part_of_outputs()
        elif is_blocked:
            return FlowOutputs({})
        else:
            found = await flow.outputs()
        for name, value in found.values.items():
            course.means.refuse_keys(encode_json(value), f'the output "{name}"')
    except PoeflowError as error:
        began = course.elapsed()
        course.fail("outputs", error, began=began, is_tolerated=False, is_told=False)
        return FlowOutputs({})
    if found.absent:
        _warn(course, f"{_not_here(found.absent)}; {ASK_AGAIN}")
    return found


def _check_glob(course: Course) -> None:
    """Fail a run whose pattern of keys matched none, of loops that were not known before it."""
    pattern = course.means.selection.key
    if pattern is None or not course.loops or course.failures:
        return
    try:
        check_glob(course.loops, pattern)
    except UsageError as error:
        course.fail("run", error, began=course.elapsed(), is_tolerated=False, is_told=False)


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
    means: Means,
    memory: Memory,
    *,
    accepting: Accepting | None = None,
) -> tuple[Fact, ...]:
    """Return how every instance stands, in the order of the file; nothing is sent or written.

    `means` are those of a run that does not ask. `accepting` takes files into the lock as they are.
    """
    course = Course(
        means,
        planner,
        Toolboxes({}),
        memory=memory,
        concurrency=plan.concurrency,
        persistence=Persistence(keep_going=True),
        accepting=accepting,
    )
    try:
        await FlowRun(plan, course).run()
    except* PoeflowError as errors:
        raise errors.exceptions[0] from None
    blocked = {fact.id for fact in course.facts.values() if fact.state == "unknown"}
    blocked |= course.left_out
    gone = [
        name
        for name in sorted(memory.names - course.facts.keys() - course.left_out)
        if blocked.isdisjoint(wholes_of(name))
    ]
    position = {step: index for index, step in enumerate(plan.file.flow.steps)}
    return (
        *sorted(course.facts.values(), key=lambda fact: position[outer_step(fact.id)]),
        *(
            Fact(id=name, state="stale", reasons=("it is not in the flow any more",))
            for name in gone
        ),
        *(
            Fact(id=path[2:], state="orphaned", reasons=(UNMADE,))
            for path in orphans(means, memory.outputs_of(gone), made=plan.targets())
        ),
    )
