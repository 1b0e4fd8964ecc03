"""A plan becomes a run, and a run becomes an outcome."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.engine.accepting import Accepting
from poeflow.engine.budget import Spent
from poeflow.engine.course import Course, Persistence
from poeflow.engine.flow_outputs import FlowOutputs
from poeflow.engine.flow_run import FlowRun
from poeflow.engine.means import Means
from poeflow.engine.memory import Memory
from poeflow.engine.orphans import UNMADE, clear_up, orphans
from poeflow.engine.plan import Plan, Planner
from poeflow.engine.result import StepResult
from poeflow.engine.toolboxes import Toolboxes
from poeflow.errors import PoeflowError, most_serious
from poeflow.events import RunFinished, RunStarted, Warned
from poeflow.facts import Fact, outer_step

ASK_AGAIN: Final = "nothing is paid for to print them; --refresh asks again"
SHOWN: Final = 3


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, instances by their ids.

    `outputs` is empty unless every step it needs succeeded. `absent` are instances that are current
    and whose answers are not here, so that outputs made of them are missing. `tolerated` are the
    failures of steps with `continue_on_error`; `spent` is what was sent and what it cost, as far
    as that is known.
    """

    exit_code: int
    outputs: dict[str, Json]
    absent: tuple[str, ...] = ()
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
    try:
        await flow.run()
    except* PoeflowError as errors:
        raise errors.exceptions[0] from None
    found = await _outputs(flow, course)
    await asyncio.to_thread(clear_up, means, memory, lambda text: _warn(course, text))
    return _finished(course, found)


def _warn(course: Course, message: str) -> None:
    course.means.listen(Warned(at=course.elapsed(), step=None, message=message))


async def _outputs(flow: FlowRun, course: Course) -> FlowOutputs:
    """Return the flow's results, or those of the part that was run; none where they failed."""
    selection = course.means.selection
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
    gone = [
        name
        for name in sorted(memory.names - course.facts.keys())
        if not any(name.startswith((f"{one}[", f"{one}/")) for one in blocked)
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


def _finished(course: Course, found: FlowOutputs) -> Outcome:
    exit_code = most_serious(error.exit_code for error in course.failures.values())
    spent = course.means.budget.summary()
    course.means.listen(
        RunFinished(
            at=course.elapsed(),
            exit_code=exit_code,
            asked=course.count("asked"),
            cached=course.count("cached"),
            rendered=course.count("rendered"),
            failed=len(course.failures),
            skipped=len(course.skipped),
            seconds=course.elapsed(),
            simulated=course.means.simulated,
            outputs=found.values,
            requests=spent.requests,
            tokens=spent.tokens,
            cost_usd=None if spent.cost_usd is None else float(spent.cost_usd),
        )
    )
    return Outcome(
        exit_code=exit_code,
        outputs=found.values,
        absent=found.absent,
        results=course.results,
        failures=course.failures,
        skipped=course.skipped,
        tolerated=course.tolerated,
        spent=spent,
    )
