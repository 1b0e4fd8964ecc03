"""How the instances of a flow stand, without sending, running or writing anything."""

import asyncio
from dataclasses import replace

import msgspec

from poeflow.digest import Json
from poeflow.engine.accept import Accepting
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.record import Unrecorded
from poeflow.engine.run import survey
from poeflow.errors import StaleError
from poeflow.operations.check import Checkup
from poeflow.operations.locks import inputs_hash, lock_of
from poeflow.operations.plan import planned, selection_of
from poeflow.operations.run_context import run_context, shared_budget, user_config
from poeflow.operations.run_options import RunOptions
from poeflow.operations.state import workspace_of
from poeflow.planning.plan import Plan, Planner
from poeflow.project.project import Project
from poeflow.records import InstanceStatus


def facts_of(found: Checkup, options: RunOptions) -> tuple[InstanceStatus, ...]:
    """Do what `survey_checked` does, where no event loop is running."""
    return asyncio.run(survey_checked(found, options))


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the lock proves a flow current: how its instances stand, and what else is wrong."""

    faults: tuple[str, ...] = ()
    facts: tuple[InstanceStatus, ...] = ()

    @property
    def against(self) -> list[str]:
        """Why the flow is not proven current, in lines; none if it is."""
        stale = [fact for fact in self.facts if not fact.is_current]
        return [
            *self.faults,
            *(f"{one.id}: {one.state}: {'; '.join(one.reasons)}" for one in stale),
        ]


def proof_of(found: Checkup, options: RunOptions) -> Proof:
    """Return whether the lock proves a flow current. Raises `InvalidFlowError` or `UsageError`."""
    made, _ = planned(found, options)
    lock = lock_of(workspace_of(found.project, options), made, options)
    if lock is None:
        return Proof(faults=("inputs given by hand have no lock; use --inputs-file",))
    try:
        kept = lock.read()
    except StaleError as error:
        return Proof(faults=(str(error),))
    if kept is None:
        to_do = "run the flow offline" if options.offline else "run the flow and commit it"
        return Proof(faults=(f"{lock.shown} does not exist; {to_do}",))
    is_same = kept.inputs == inputs_hash(made)
    whole = replace(options, steps=(), first=None, key=None, refresh=False, failed=False)
    return Proof(
        faults=() if is_same else ("the inputs are not those of the lock",),
        facts=facts_of(found, whole),
    )


def stored_requests(found: Checkup, options: RunOptions) -> dict[str, Json]:
    """Return what the last run sent for each instance, where the cache still has it."""
    made, _ = planned(found, options)
    workspace = workspace_of(found.project, options)
    lock = lock_of(workspace, made, options)
    kept = lock.read() if lock is not None else None
    answers = workspace.answers(on_corrupt=lambda _message: None)
    requests: dict[str, Json] = {}
    for name, block in (kept.instances if kept is not None else {}).items():
        entry = answers.entry(block.request) if block.request is not None else None
        if entry is not None and entry.request is not None:
            requests[name] = entry.request
    return requests


def rendered(found: Checkup, options: RunOptions, fact: InstanceStatus) -> InstanceStatus:
    """Return a fact with the request its instance sends if it is asked, also if it is current.

    It has none if the instance asks no model, or if the request builds on an answer that is not
    here.
    """
    if fact.request is not None or fact.state == "unknown":
        return fact
    again = asyncio.run(survey_checked(found, options, again=frozenset({fact.id})))
    asked = next((one for one in again if one.id == fact.id), fact)
    return msgspec.structs.replace(fact, request=asked.request, model=asked.model)


async def survey_checked(
    found: Checkup, options: RunOptions, *, again: frozenset[str] = frozenset()
) -> tuple[InstanceStatus, ...]:
    """Return how every selected instance of a checked flow stands; those `again`, as if asked.

    Nothing is sent, run or written, and no key is needed. Raises `InvalidFlowError`, `UsageError`,
    or `StaleError` where the lock cannot be used.
    """
    made, planner = planned(found, options)
    workspace = workspace_of(found.project, options)
    lock = lock_of(workspace, made, options)
    lock_update = LockUpdate(lock.sides() if lock is not None else ())
    quiet = replace(options, listen=None, config=user_config(found.project, options))
    return await surveyed(made, planner, found.project, quiet, lock_update, again=again)


async def surveyed(
    plan: Plan,
    planner: Planner,
    project: Project,
    options: RunOptions,
    lock_update: LockUpdate,
    *,
    again: frozenset[str] = frozenset(),
    accepting: Accepting | None = None,
) -> tuple[InstanceStatus, ...]:
    """Return how the selected instances of a plan stand, by the last run in `lock_update`."""
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
        selection=msgspec.structs.replace(chosen, again=chosen.again | again),
        recorder=Unrecorded(),
    ) as context:
        return await survey(plan, planner, context, lock_update, accepting=accepting)
