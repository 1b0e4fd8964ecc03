"""How the instances of a flow stand, without sending, running or writing anything."""

import asyncio
from dataclasses import replace

from poeflow.digest import Json
from poeflow.engine.accepting import Accepting
from poeflow.engine.memory import Memory
from poeflow.engine.plan import Plan, Planner
from poeflow.engine.recording import Unrecorded
from poeflow.engine.run import survey
from poeflow.engine.selection import Selection
from poeflow.errors import StaleError
from poeflow.facts import Fact
from poeflow.files import Project
from poeflow.store.workspace import Workspace
from poeflow.wiring.budgets import shared_budget, user_config
from poeflow.wiring.checkup import Checkup
from poeflow.wiring.locks import inputs_hash, lock_of
from poeflow.wiring.means import means_of
from poeflow.wiring.options import RunOptions
from poeflow.wiring.planning import planned


def facts_of(found: Checkup, options: RunOptions) -> tuple[Fact, ...]:
    """Do what `survey_checked` does, where no event loop is running."""
    return asyncio.run(survey_checked(found, options))


def lock_faults(found: Checkup, options: RunOptions) -> list[str]:
    """Return why a flow is not proven current by its lock, in lines; none where it is.

    Raises `InvalidFlowError` or `UsageError`.
    """
    made, _ = planned(found, options)
    lock = lock_of(Workspace(found.project, offline=options.offline), made, options)
    if lock is None:
        return ["inputs given by hand have no lock; use --inputs-file"]
    try:
        kept = lock.read()
    except StaleError as error:
        return [str(error)]
    if kept is None:
        return [f"{lock.shown} does not exist; run the flow and commit it"]
    faults = [] if kept.inputs == inputs_hash(made) else ["the inputs are not those of the lock"]
    facts = [fact for fact in facts_of(found, options) if not fact.is_current]
    return [*faults, *(f"{one.id}: {one.state}: {'; '.join(one.reasons)}" for one in facts)]


def stored_requests(found: Checkup, options: RunOptions) -> dict[str, Json]:
    """Return what the last run sent for each instance, where the cache still has it."""
    made, _ = planned(found, options)
    workspace = Workspace(found.project, offline=options.offline)
    lock = lock_of(workspace, made, options)
    kept = lock.read() if lock is not None else None
    answers = workspace.answers(on_corrupt=lambda _message: None)
    requests: dict[str, Json] = {}
    for name, block in (kept.instances if kept is not None else {}).items():
        entry = answers.entry(block.request) if block.request is not None else None
        if entry is not None and entry.request is not None:
            requests[name] = entry.request
    return requests


async def survey_checked(found: Checkup, options: RunOptions) -> tuple[Fact, ...]:
    """Return how every instance of a flow that was checked stands.

    Nothing is sent, run or written, and no key is needed. Raises `InvalidFlowError`, `UsageError`,
    or `StaleError` where the lock cannot be used.
    """
    made, planner = planned(found, options)
    workspace = Workspace(found.project, offline=options.offline)
    lock = lock_of(workspace, made, options)
    memory = Memory(lock.sides() if lock is not None else ())
    quiet = replace(options, listen=None, config=user_config(found.project, options))
    return await surveyed(made, planner, found.project, quiet, memory)


async def surveyed(
    plan: Plan,
    planner: Planner,
    project: Project,
    options: RunOptions,
    memory: Memory,
    *,
    accepting: Accepting | None = None,
) -> tuple[Fact, ...]:
    """Return how every instance of a plan stands by what `memory` has of the last run."""
    async with means_of(
        project,
        Workspace(project, offline=options.offline),
        plan.checked,
        options=options,
        budget=shared_budget(project, options),
        config=user_config(project, options),
        memory=memory,
        asks=False,
        selection=Selection(),
        recorder=Unrecorded(),
    ) as means:
        return await survey(plan, planner, means, memory, accepting=accepting)
