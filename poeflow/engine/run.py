"""A plan becomes a run, and a run becomes an outcome."""

from collections.abc import Mapping

import msgspec

from poeflow.digest import Json
from poeflow.engine.budget import Spent
from poeflow.engine.course import Course, Persistence
from poeflow.engine.flow_outputs import part_of_outputs
from poeflow.engine.flow_run import FlowRun
from poeflow.engine.means import Means
from poeflow.engine.memory import Memory
from poeflow.engine.plan import Plan, Planner
from poeflow.engine.result import StepResult
from poeflow.engine.toolboxes import Toolboxes
from poeflow.errors import PoeflowError, most_serious
from poeflow.events import RunFinished, RunStarted
from poeflow.facts import Fact, outer_step


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, instances by their ids.

    `outputs` is empty unless every step it needs succeeded. `tolerated` are the failures of steps
    with `continue_on_error`; `spent` is what was sent and what it cost, as far as that is known.
    """

    exit_code: int
    outputs: dict[str, Json]
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
    return _finished(course, await _outputs(flow, course))


async def _outputs(flow: FlowRun, course: Course) -> dict[str, Json]:
    """Return the flow's results, or those of the part that was run; none where they failed."""
    selection = course.means.selection
    is_blocked = any(state.blocks for state in flow.known.states.values())
    if selection.named or (is_blocked and not selection.is_whole):
        return part_of_outputs(flow.known)
    if is_blocked:
        return {}
    try:
        return await flow.outputs()
    except PoeflowError as error:
        began = course.elapsed()
        course.fail("outputs", error, began=began, is_tolerated=False, is_told=False)
        return {}


async def survey(plan: Plan, planner: Planner, means: Means, memory: Memory) -> tuple[Fact, ...]:
    """Return how every instance stands, in the order of the file; nothing is sent or written.

    `means` are those of a run that does not ask.
    """
    course = Course(
        means,
        planner,
        Toolboxes({}),
        memory=memory,
        concurrency=plan.concurrency,
        persistence=Persistence(keep_going=True),
    )
    try:
        await FlowRun(plan, course).run()
    except* PoeflowError as errors:
        raise errors.exceptions[0] from None
    gone = sorted(memory.names - course.facts.keys())
    blocked = {fact.id for fact in course.facts.values() if fact.state == "unknown"}
    position = {step: index for index, step in enumerate(plan.file.flow.steps)}
    return (
        *sorted(course.facts.values(), key=lambda fact: position[outer_step(fact.id)]),
        *(
            Fact(id=name, state="stale", reasons=("it is not in the flow any more",))
            for name in gone
            if not any(name.startswith((f"{one}[", f"{one}/")) for one in blocked)
        ),
    )


def _finished(course: Course, outputs: dict[str, Json]) -> Outcome:
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
            outputs=outputs,
            requests=spent.requests,
            tokens=spent.tokens,
            cost_usd=None if spent.cost_usd is None else float(spent.cost_usd),
        )
    )
    return Outcome(
        exit_code=exit_code,
        outputs=outputs,
        results=course.results,
        failures=course.failures,
        skipped=course.skipped,
        tolerated=course.tolerated,
        spent=spent,
    )
