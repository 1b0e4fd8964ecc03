"""From a checked flow to how a run of it ended."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from poeflow.engine.run import Outcome, run_plan
from poeflow.engine.run_state import Persistence
from poeflow.engine.toolboxes import Toolboxes, refused_toolboxes, running_tools, toolboxes
from poeflow.errors import StaleError
from poeflow.facts import outer_step
from poeflow.operations.budgets import budget_of, user_config
from poeflow.operations.check import Checkup
from poeflow.operations.locks import inputs_hash, kept_up, lock_of, memory_of
from poeflow.operations.plan import planned
from poeflow.operations.recording import recording
from poeflow.operations.run_context import means_of, unheard
from poeflow.operations.run_options import RunOptions
from poeflow.operations.selecting import selection_of
from poeflow.operations.state import workspace_of
from poeflow.operations.status import survey_checked
from poeflow.planning.allowance import MAX_RUN
from poeflow.planning.plan import Plan
from poeflow.planning.selection import Selection
from poeflow.user_config import UserConfig


async def run_checked(found: Checkup, options: RunOptions) -> Outcome:
    """Run a flow that was checked. Raises as `run` does."""
    made, planner = planned(found, options, most=MAX_RUN)
    workspace = workspace_of(found.project, options)
    workspace.refuse_foreign()
    selection = selection_of(made, options, workspace)
    checked, config = made.checked, user_config(found.project, options)
    boxes = await _toolboxes(found, made, selection, options, config)
    budget = budget_of(found.project, checked.file.flow.limits, options)
    budget.check_priced(made.models())
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(workspace.hold(wait=options.wait))
        lock = lock_of(workspace, made, options)
        memory = memory_of(lock, options.listen or unheard)
        kept = recording(found.project, workspace, made, options, config)
        history = await stack.enter_async_context(kept)
        given = means_of(
            found.project,
            workspace,
            checked,
            options=replace(options, listen=history.heard(options.listen or unheard)),
            budget=budget,
            config=config,
            memory=memory,
            asks=True,
            selection=selection,
            recorder=history.recorder,
        )
        means = await stack.enter_async_context(given)
        persistence = Persistence(keep_going=options.keep_going, fail_fast=options.fail_fast)
        async with kept_up(lock, memory, inputs_hash(made), options.clock):
            return await run_plan(made, planner, means, boxes, memory, persistence=persistence)


async def _toolboxes(
    found: Checkup, made: Plan, selection: Selection, options: RunOptions, config: UserConfig
) -> Toolboxes:
    """Return the tools of the steps that run. Raises `UsageError` if the user allows none.

    What is current runs none, and needs no permission.
    """
    checked = made.checked
    if options.allow_tools or config.allow_tools:
        return toolboxes(found.project, checked, selection.touches)
    touched = {name for name, *_ in running_tools(checked) if selection.touches(name)}
    if not touched:
        return refused_toolboxes(checked, touched.__contains__)
    again = {outer_step(name) for name in selection.again} | set(_uncached(made))
    try:
        facts = await survey_checked(found, options)
    except StaleError:
        return refused_toolboxes(checked, touched.__contains__)
    stale = again | {outer_step(fact.id) for fact in facts if not fact.is_current}
    is_all = selection.is_all_again
    return refused_toolboxes(checked, lambda name: name in touched and (is_all or name in stale))


def _uncached(made: Plan) -> Iterator[str]:
    """Yield the steps that are asked on every run."""
    for step, instances in made.prepared.items():
        if any(one.settings is not None and not one.settings.cache for one in instances):
            yield step
