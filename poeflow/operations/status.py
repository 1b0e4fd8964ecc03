"""Finds the status of every instance of a flow, without sending, running or writing anything."""

import asyncio

import msgspec

from poeflow.digest import Json
from poeflow.engine.asking.tools import refused_toolboxes
from poeflow.engine.lock_entries import Accepting
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.record import NoRecorder
from poeflow.engine.running.run import survey
from poeflow.errors import StaleError
from poeflow.events import ignore
from poeflow.operations.budgets import shared_budget
from poeflow.operations.check import Checkup
from poeflow.operations.flow_locks import lock_at
from poeflow.operations.locks import (
    committed_sides,
    git_of,
    lock_of,
    locks_of_gone_flows,
    merged_sides,
)
from poeflow.operations.plan import planned, selection_of
from poeflow.operations.recording import lengths_in
from poeflow.operations.run_context import run_context
from poeflow.operations.run_options import RunOptions, quiet_options, user_config
from poeflow.operations.state import workspace_of
from poeflow.planning.plan import Plan
from poeflow.planning.planner import Planner
from poeflow.project.project import Project
from poeflow.records import InstanceStatus
from poeflow.store.git import Git
from poeflow.store.lock.entries import LockEntry, other_names


def statuses_of(found: Checkup, options: RunOptions) -> tuple[InstanceStatus, ...]:
    """Do what `survey_checked` does, if no event loop is running."""
    return asyncio.run(survey_checked(found, options))


def with_earlier_names(
    found: Checkup, options: RunOptions, statuses: tuple[InstanceStatus, ...]
) -> tuple[InstanceStatus, ...]:
    """Return statuses that say which models answered by another name in the lock that git has.

    That is the one in its index: committed, or added since. It is not read if the lock on disk has
    the size and the time that the index has for it.
    """
    file = found.loaded.file
    git = None if options.offline else Git.find(found.project.root, options.environ)
    if git is None or file is None:
        return statuses
    lock = lock_at(workspace_of(found.project, options), file.path, options)
    data = git.staged_if_different(lock.path)
    if data is None:
        return statuses
    try:
        sides, old = lock.sides(), lock.decoded(data).instances
    except StaleError:
        return statuses
    new = sides[0].instances if len(sides) == 1 else {}
    return tuple(_with_earlier_name(one, new.get(one.id), old.get(one.id)) for one in statuses)


def _with_earlier_name(
    status: InstanceStatus, entry: LockEntry | None, old: LockEntry | None
) -> InstanceStatus:
    names = None if entry is None or old is None else other_names(entry, old)
    if names is None or not names.before:
        return status
    return msgspec.structs.replace(status, answered_by=names.by, answered_before=names.before)


def stored_requests(found: Checkup, options: RunOptions) -> dict[str, Json]:
    """Return the request of each instance in the last run, as far as the cache has it."""
    plan, _ = planned(found, options)
    workspace = workspace_of(found.project, options)
    lock = lock_of(workspace, plan, options)
    stored = lock.read() if lock is not None else None
    answers = workspace.answers(on_corrupt=ignore)
    requests: dict[str, Json] = {}
    for name, locked in (stored.instances if stored is not None else {}).items():
        asked = None if locked.request is None else answers.locked(locked.request)
        entry = None if asked is None else answers.entry(asked[0])  # not its conversation's last
        if entry is not None and entry.request is not None:
            requests[name] = entry.request
    return requests


def with_request(found: Checkup, options: RunOptions, status: InstanceStatus) -> InstanceStatus:
    """Return a status with the request that its instance would send, even if it is current.

    There is no request if the instance asks no model, or if the request is built from an answer
    that is not stored.
    """
    if status.request is not None or status.state == "unknown":
        return status
    looked = asyncio.run(survey_checked(found, options, refreshed=frozenset({status.id})))
    asked = next((one for one in looked if one.id == status.id), status)
    return msgspec.structs.replace(status, request=asked.request, model=asked.model)


async def survey_checked(
    found: Checkup, options: RunOptions, *, refreshed: frozenset[str] = frozenset()
) -> tuple[InstanceStatus, ...]:
    """Return the status of every selected instance of a checked flow.

    Instances in `refreshed` would be asked again. Nothing is sent, run or written, and no key is
    needed. Raises `InvalidFlowError`, `UsageError`, or `StaleError` if the lock cannot be read.
    """
    plan, planner = planned(found, options)
    workspace = workspace_of(found.project, options)
    lock = lock_of(workspace, plan, options)
    lengths = lengths_in(workspace, plan, options)
    lock_update = LockUpdate((), lengths)
    if lock is not None:
        git = git_of(found.project, options)
        renamed = tuple(side for _, side in locks_of_gone_flows(lock, git))
        earlier, merged = (*merged_sides(lock, git), *renamed), committed_sides(lock, git)
        lock_update = LockUpdate(lock.sides(), lengths, earlier=earlier, merged=merged)
    quiet = quiet_options(found.project, options)
    return await survey_plan(plan, planner, found.project, quiet, lock_update, refreshed=refreshed)


async def survey_plan(
    plan: Plan,
    planner: Planner,
    project: Project,
    options: RunOptions,
    lock_update: LockUpdate,
    *,
    refreshed: frozenset[str] = frozenset(),
    accepting: Accepting | None = None,
) -> tuple[InstanceStatus, ...]:
    """Return the status of the selected instances, compared with the last run in `lock_update`."""
    workspace = workspace_of(project, options)
    chosen = selection_of(plan, options, workspace)
    async with run_context(
        project,
        workspace,
        plan.checked,
        options=options,
        budget=shared_budget(project, options),
        config=user_config(project, options),
        lock_update=lock_update,
        asks=False,
        selection=msgspec.structs.replace(chosen, refreshed=chosen.refreshed | refreshed),
        recorder=NoRecorder(),
    ) as context:
        none = refused_toolboxes(plan.checked, lambda _step: False)
        return await survey(
            plan, planner, context, lock_update, toolboxes=none, accepting=accepting
        )
