"""Runs a checked flow, and keeps its lock and its history record up to date."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from poeflow.engine.asking.spending import Budget
from poeflow.engine.asking.tools import Toolboxes, refused_toolboxes, running_code, toolboxes
from poeflow.engine.results import Outcome
from poeflow.engine.run_state import FailurePolicy
from poeflow.engine.running.run import run_plan
from poeflow.errors import StaleError
from poeflow.operations.budgets import budget_of, limit_periods, period_costs
from poeflow.operations.check import Checkup, checked_again
from poeflow.operations.locks import (
    git_of,
    inputs_hash,
    lock_of,
    lock_update_of,
    writing_lock,
)
from poeflow.operations.plan import planned, selection_of
from poeflow.operations.recording import lengths_in, recording
from poeflow.operations.run_context import run_context
from poeflow.operations.run_options import RunOptions, check_trial, user_config
from poeflow.operations.state import writable_workspace
from poeflow.operations.status import survey_checked
from poeflow.planning.instances import MAX_RUN
from poeflow.planning.plan import Plan
from poeflow.planning.planner import Planner
from poeflow.planning.selection import Selection
from poeflow.records import outer_step
from poeflow.settings import UserConfig
from poeflow.store.workspace import Workspace


class _PreparedRun(NamedTuple):
    """What is known of a run before it begins: its plan, what runs, and with which limits."""

    plan: Plan
    planner: Planner
    selection: Selection
    toolboxes: Toolboxes
    budget: Budget


async def run_checked(found: Checkup, options: RunOptions) -> Outcome:
    """Run a checked flow. Raises what `poeflow.run` raises.

    If another run was at work since this one was planned, the flow is checked and planned again.
    """
    check_trial(options)
    workspace = writable_workspace(found.project, options)
    config, last = user_config(found.project, options), workspace.last_hold()
    prepared = await _prepared(found, options, workspace, config)
    async with contextlib.AsyncExitStack() as stack:
        if await stack.enter_async_context(workspace.ahold(wait=options.wait)) != last:
            found = checked_again(found)
            prepared = await _prepared(found, options, workspace, config)
        plan, planner, selection, code, budget = prepared
        limit_periods(budget, period_costs(found.project, workspace, options), options)
        budget.check_priced(plan.models)  # which a limit on a day or a month needs, too
        lock = lock_of(workspace, plan, options)
        lengths = lengths_in(workspace, plan, options)
        git = git_of(found.project, options)
        lock_update = lock_update_of(lock, options.listener, lengths, git=git)
        record = recording(found.project, workspace, plan, options, config)
        history = await stack.enter_async_context(record)
        given = run_context(
            found.project,
            workspace,
            plan.checked,
            options=history.heard_by(options),
            budget=budget,
            config=config,
            lock_update=lock_update,
            asks=True,
            selection=selection,
            recorder=history.recorder,
        )
        context = await stack.enter_async_context(given)
        failure_policy = FailurePolicy(keep_going=options.keep_going, fail_fast=options.fail_fast)
        to_write = None if options.models else lock
        context = msgspec.structs.replace(context, lock=to_write)
        async with writing_lock(to_write, lock_update, inputs_hash(plan), options.clock):
            return await run_plan(
                plan, planner, context, code, lock_update, failure_policy=failure_policy
            )


async def _prepared(
    found: Checkup, options: RunOptions, workspace: Workspace, config: UserConfig
) -> _PreparedRun:
    """Plan a checked flow, and select what runs. Raises as `run_checked`."""
    plan, planner = planned(found, options, most=MAX_RUN, makes_key=True)
    selection = selection_of(plan, options, workspace)
    code = await _toolboxes(found, plan, selection, options, config)
    budget = budget_of(found.project, plan.flow.limits, options)
    budget.check_priced(plan.models)
    return _PreparedRun(plan, planner, selection, code, budget)


async def _toolboxes(
    found: Checkup, plan: Plan, selection: Selection, options: RunOptions, config: UserConfig
) -> Toolboxes:
    """Return what the steps that run code run; one that may not run it refuses.

    A step that is current runs nothing and needs no permission.
    """
    checked = plan.checked
    if options.allow_tools or config.allow_tools:
        return toolboxes(found.project, checked, selection.touches, environ=options.environ)
    touched = {name for name, *_ in running_code(checked) if selection.touches(name)}
    if not touched:
        return refused_toolboxes(checked, touched.__contains__)
    refreshed = {outer_step(name) for name in selection.refreshed | selection.failed}
    refreshed |= {*_uncached(plan)}
    try:
        statuses = await survey_checked(found, options)
    except StaleError:
        return refused_toolboxes(checked, touched.__contains__)
    stale = refreshed | {outer_step(status.id) for status in statuses if not status.is_current}
    is_all = selection.refreshes_all
    return refused_toolboxes(checked, lambda name: name in touched and (is_all or name in stale))


def _uncached(plan: Plan) -> Iterator[str]:
    """Yield the steps that are asked on every run: their answers are not cached."""
    for step, instances in plan.instances.items():
        if any(one.settings is not None and not one.settings.cache for one in instances):
            yield step
