"""From a checked flow to how a run of it ended."""

import contextlib
from dataclasses import replace

from poeflow.engine.course import Persistence
from poeflow.engine.run import Outcome, run_plan
from poeflow.engine.toolboxes import toolboxes
from poeflow.store.workspace import Workspace
from poeflow.wiring.budgets import budget_of, user_config
from poeflow.wiring.checkup import Checkup
from poeflow.wiring.locks import inputs_hash, kept_up, lock_of, memory_of
from poeflow.wiring.means import means_of, unheard
from poeflow.wiring.options import RunOptions
from poeflow.wiring.planning import planned
from poeflow.wiring.recording import recording
from poeflow.wiring.selecting import selection_of


async def run_checked(found: Checkup, options: RunOptions) -> Outcome:
    """Run a flow that was checked. Raises as `run` does."""
    made, planner = planned(found, options)
    workspace = Workspace(found.project, offline=options.offline)
    selection = selection_of(made, options, workspace)
    checked, config = made.checked, user_config(found.project, options)
    is_allowed = options.allow_tools or config.allow_tools
    boxes = toolboxes(found.project, checked, is_allowed=is_allowed)
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
