"""Whether the locks of a flow prove it current, and what they do not prove."""

import asyncio
import os
from itertools import groupby
from typing import Final

import msgspec

from poeflow.engine.lock_update import LockUpdate
from poeflow.errors import PoeflowError, StaleError
from poeflow.operations.check import Checkup
from poeflow.operations.flow_locks import InputsLock, inputs_locks, lock_path
from poeflow.operations.locks import inputs_hash, lock_of
from poeflow.operations.plan import planned
from poeflow.operations.recording import lengths_in
from poeflow.operations.run_options import RunOptions, quiet_options
from poeflow.operations.state import workspace_of
from poeflow.operations.status import survey_plan
from poeflow.planning.checked import Checked
from poeflow.records import InstanceState, InstanceStatus, path_of, step_of

MANY: Final = 20
"""From so many more instances of a step on that are alike, only the first is named."""
TOLERATED: Final = (
    "what failed, and continue_on_error passes over, no lock proves: each run tries it again;"
    " mend it, or skip it with if:"
)


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


def proof_of_all(found: Checkup, options: RunOptions) -> Proof:
    """Return whether all locks of a flow prove it current, each with its inputs.

    Without a lock of its own, a flow is proven with inputs files only. Raises what `proof_of` does.
    """
    file, project = found.loaded.file, found.project
    is_given = bool(options.inputs or options.texts or options.inputs_file)
    locks = inputs_locks(project, file) if file is not None and not is_given else ()
    if file is None or not locks:
        return proof_of(found, options)
    own = proof_of(found, options) if project.has(lock_path(file.path)) else Proof()
    faults = [line for lock in locks for line in _faults(found, lock, options)]
    return msgspec.structs.replace(own, faults=(*own.faults, *faults))


def _faults(found: Checkup, lock: InputsLock, options: RunOptions) -> list[str]:
    """Return why a lock with its inputs is not proven: one of several files is enough."""
    project, proofs = found.project, {}
    for path in lock.files:
        given = msgspec.structs.replace(options, inputs_file=project.path_of(path))
        try:
            reasons = proof_of(found, given).reasons
        except PoeflowError as error:
            reasons = [error.message]
        if not reasons:
            return []
        proofs[path] = reasons
    if len(proofs) == 1:
        path, reasons = next(iter(proofs.items()))
        return [f"with {path[2:]}: {line}" for line in reasons]
    which = "none of several files of this name proves it" if proofs else "no such file is found"
    shown = os.path.relpath(project.path_of(lock.path), options.folder)
    to_do = f"poeflow run {found.shown} --locked --inputs-file PATH/{lock.name}.yaml"
    return [f"{shown} is of the inputs file {lock.name}, and {which}; to prove it: {to_do}"]


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
