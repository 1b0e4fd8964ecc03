"""Finds the status of every instance of a flow, without sending, running or writing anything."""

import asyncio
from itertools import groupby
from typing import Final

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
from poeflow.operations.locks import (
    committed_sides,
    git_of,
    inputs_hash,
    lock_at,
    lock_of,
    merged_sides,
)
from poeflow.operations.plan import planned, selection_of
from poeflow.operations.recording import lengths_in
from poeflow.operations.run_context import run_context
from poeflow.operations.run_options import RunOptions, quiet_options, user_config
from poeflow.operations.state import workspace_of
from poeflow.planning.checked import Checked
from poeflow.planning.plan import Plan
from poeflow.planning.planner import Planner
from poeflow.project.project import Project
from poeflow.records import InstanceState, InstanceStatus, path_of, step_of
from poeflow.store.git import Git
from poeflow.store.lock.entries import LockEntry, other_names

MANY: Final = 20
"""From so many more instances of a step on that are alike, only the first is named."""
TOLERATED: Final = (
    "what failed, and continue_on_error passes over, no lock proves: each run tries it again;"
    " mend it, or skip it with if:"
)


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


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the lock proves a flow current: `statuses` of its instances, and other `faults`.

    `tolerant` are steps with instances that are not current, and whose failures a run passes over.
    """

    faults: tuple[str, ...] = ()
    statuses: tuple[InstanceStatus, ...] = ()
    tolerant: frozenset[str] = frozenset()

    @property
    def advice(self) -> list[str]:
        """What to do about failures that no lock proves, in lines."""
        return [f"{step}: {TOLERATED}" for step in sorted(self.tolerant)]

    @property
    def reasons(self) -> list[str]:
        """The reasons why the flow is not proven current, in lines; empty if it is.

        Many instances of a step that are alike have one line.
        """
        lines = [*self.faults]
        stale = [status for status in self.statuses if not status.is_current]
        for (_, state, reasons), alike in groupby(stale, key=_kind_of):
            first, *others = (status.id for status in alike)
            if len(others) >= MANY:
                first, others = f"{first} and {len(others):,} more", []
            lines += [f"{name}: {state}: {'; '.join(reasons)}" for name in (first, *others)]
        return lines


def _kind_of(status: InstanceStatus) -> tuple[str, InstanceState, tuple[str, ...]]:
    """Return what instances have in common that are not current in the same way."""
    return step_of(status.id), status.state, status.reasons


def proof_of(found: Checkup, options: RunOptions) -> Proof:
    """Return whether the lock proves a flow current. Raises `InvalidFlowError` or `UsageError`."""
    whole = msgspec.structs.replace(
        options, steps=(), first=None, key=None, refresh=False, failed=False
    )
    plan, planner = planned(found, whole)
    workspace = workspace_of(found.project, options)
    lock = lock_of(workspace, plan, options)
    if lock is None:
        return Proof(faults=("inputs given by hand have no lock; use --inputs-file",))
    try:
        stored = lock.read()
    except StaleError as error:
        return Proof(faults=(str(error),))
    if stored is None:
        to_do = "run the flow offline" if options.offline else "run the flow and commit it"
        return Proof(faults=(f"{lock.shown} does not exist; {to_do}",))
    is_same = stored.inputs == inputs_hash(plan)
    lock_update = LockUpdate((stored,), lengths_in(workspace, plan, options))
    quiet = quiet_options(found.project, whole)
    statuses = asyncio.run(survey_plan(plan, planner, found.project, quiet, lock_update))
    return Proof(
        faults=() if is_same else ("the inputs are not those of the lock",),
        statuses=statuses,
        tolerant=frozenset(
            step
            for one in statuses
            if one.state in ("new", "stale") and (step := _tolerant_step(plan.checked, one.id))
        ),
    )


def _tolerant_step(checked: Checked, instance: str) -> str:
    """Return the step that tolerates a failure of an instance: its own, or one that uses its flow.

    Empty if none does.
    """
    used: Checked | None = checked
    path = path_of(instance)
    for depth, step in enumerate(path, start=1):
        if used is None:
            break
        flow = used.file.flow
        if step in flow.steps and flow.steps[step].continue_on_error:
            return "/".join(path[:depth])
        used = used.children.get(step)
    return ""


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
        earlier, merged = merged_sides(lock, git), committed_sides(lock, git)
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
