"""From a checked flow to its plan, and from there to how a run of it ended."""

from poeflow.engine.course import Persistence
from poeflow.engine.inputs import Given, inputs_of
from poeflow.engine.plan import Plan, Planner
from poeflow.engine.recording import Unrecorded
from poeflow.engine.run import Outcome, run_plan
from poeflow.engine.texts import Texts
from poeflow.engine.toolboxes import toolboxes
from poeflow.errors import InvalidFlowError
from poeflow.problems import errors_only
from poeflow.store.workspace import Workspace
from poeflow.wiring.budgets import budget_of, shared_budget, user_config
from poeflow.wiring.checkup import Checkup
from poeflow.wiring.locks import inputs_hash, kept_up, lock_of, memory_of
from poeflow.wiring.means import means_of, unheard
from poeflow.wiring.options import RunOptions
from poeflow.wiring.selecting import selection_of


def planned(found: Checkup, options: RunOptions) -> tuple[Plan, Planner]:
    """Plan a flow that was checked. Raises `InvalidFlowError` or `UsageError`."""
    if found.checked is None or errors_only(found.problems):
        raise InvalidFlowError(errors_only(found.problems))
    given = Given(
        inputs=options.inputs,
        texts=options.texts,
        inputs_file=options.inputs_file,
        folder=options.folder,
    )
    inputs = inputs_of(found.project, found.checked.file, given)
    reader = found.environment.reader
    planner = Planner(found.project, lambda file: Texts(file, reader, found.environment))
    return planner.plan(found.checked, inputs, concurrency=options.concurrency), planner


async def run_checked(found: Checkup, options: RunOptions) -> Outcome:
    """Run a flow that was checked. Raises as `run` does."""
    made, planner = planned(found, options)
    selection = selection_of(made, options)
    checked, config = made.checked, user_config(found.project, options)
    is_allowed = options.allow_tools or config.allow_tools
    boxes = toolboxes(found.project, checked, is_allowed=is_allowed)
    shared = options.budget or shared_budget(found.project, options)
    budget = budget_of(found.project, checked.file.flow.limits, shared)
    if not options.offline:
        is_free = options.allow_unpriced or config.allow_unpriced
        budget.check_priced(made.models(), allow_unpriced=is_free)
    workspace = Workspace(found.project, offline=options.offline)
    with workspace.hold(wait=options.wait):
        lock = lock_of(workspace, made, options)
        memory = memory_of(lock, options.listen or unheard)
        async with means_of(
            found.project,
            workspace,
            checked,
            options=options,
            budget=budget,
            config=config,
            memory=memory,
            asks=True,
            selection=selection,
            recorder=Unrecorded(),
        ) as means:
            persistence = Persistence(keep_going=options.keep_going, fail_fast=options.fail_fast)
            async with kept_up(lock, memory, inputs_hash(made), options.clock):
                return await run_plan(made, planner, means, boxes, memory, persistence=persistence)
