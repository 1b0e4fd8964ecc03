"""Output files that a person edited become the flow's own, or are given up again."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from poeflow.engine.accept import Accepting
from poeflow.engine.context import OutputFiles, text_digest
from poeflow.engine.lock_update import LockUpdate
from poeflow.errors import UsageError
from poeflow.operations.check import Checkup
from poeflow.operations.locks import inputs_hash, lock_of, lock_update_of
from poeflow.operations.plan import planned
from poeflow.operations.run_context import unheard, user_config
from poeflow.operations.run_options import RunOptions
from poeflow.operations.state import own_workspace
from poeflow.operations.status import surveyed
from poeflow.project.project import Project
from poeflow.store.lockfile import LockFile


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """The files whose entry in the lock is another now, and why others were refused, by path."""

    paths: tuple[str, ...]
    refused: dict[str, str]


async def accept(
    found: Checkup, options: RunOptions, wanted: Sequence[Path], *, drop: bool
) -> Taken:
    """Take the output files of a flow as they are for the texts of their steps.

    Such a file stays when the request of its step changes, and steps that build on it see it. With
    `drop` what was accepted is given up, and the next run writes the answer. `wanted` are absolute
    paths, none for all. Raises `InvalidFlowError`, `UsageError`, `StaleError` or `DiskError`.
    """
    made, planner = planned(found, options)
    workspace = own_workspace(found.project, options)
    with workspace.hold(wait=options.wait):
        lock = lock_of(workspace, made, options)
        if lock is None:
            raise UsageError("inputs given by hand have no lock", hint="use --inputs-file")
        lock_update = lock_update_of(lock, options.listen or unheard)
        ledger = workspace.ledger()
        files = OutputFiles(workspace.outputs(), ledger, lock_update.written)
        paths = {path: _project_path(found.project, path) for path in wanted}
        accepting = Accepting(files, frozenset(paths.values()), drop=drop)
        quiet = replace(options, listen=None, config=user_config(found.project, options))
        await surveyed(made, planner, found.project, quiet, lock_update, accepting=accepting)
        orphans = {path for path in paths.values() if path in lock_update.orphans}
        for path in sorted(set(paths.values()) - accepting.found - orphans):
            message = f"{path[2:]} is written by no step of {made.file.name}"
            raise UsageError(message, hint=_unknown_until(lock_update, lock))
        if drop:
            for path in accepting.taken:
                ledger.record(path, text_digest(files.read(path)))
        lock_update.forget_orphans(orphans)
        lock.write(lock_update.lock_so_far(inputs_hash(made)))
    return Taken(paths=(*accepting.taken, *sorted(orphans)), refused=accepting.refused)


def _project_path(project: Project, path: Path) -> str:
    """Return an absolute path as the project knows it. Raises `UsageError`."""
    try:
        return f"//{Path(os.path.normpath(path)).relative_to(project.root).as_posix()}"
    except ValueError:
        message = f"{path} is outside of the project"
        raise UsageError(message, hint=f"the project is {project.root}") from None


def _unknown_until(lock_update: LockUpdate, lock: LockFile) -> str:
    if not lock_update.names:
        return f"{lock.shown} knows of no file yet; run the flow first"
    return "name one that `poeflow plan` says was edited, or run the flow up to its step first"
