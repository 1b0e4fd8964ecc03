"""Which lock belongs to a run: by the flow, and by the file of inputs it was given."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import PurePosixPath
from typing import Final

from poeflow.clock import Clock
from poeflow.digest import sha256_of_json
from poeflow.engine.lock_update import LockUpdate
from poeflow.errors import StaleError
from poeflow.events import Listener, Warned
from poeflow.operations.run_options import RunOptions
from poeflow.planning.plan import Plan
from poeflow.store.lockfile import LockFile, NewerLockError
from poeflow.store.workspace import Workspace

PAUSE: Final = 2.0


def lock_of(workspace: Workspace, plan: Plan, options: RunOptions) -> LockFile | None:
    """Return the lock of a run, None where its inputs are given by hand: such a run has none."""
    if options.texts or options.inputs:
        return None
    path = PurePosixPath(plan.file.path[2:])
    inputs = f".{options.inputs_file.stem}" if options.inputs_file is not None else ""
    name = f"{path.stem}{inputs}.lock.json"
    target = workspace.outputs().path_of(f"//{path.with_name(name).as_posix()}")
    folder = ".poeflow/offline/" if options.offline else ""
    return LockFile(target, shown=f"{folder}{path.with_name(name).as_posix()}")


def lock_update_of(lock: LockFile | None, listen: Listener) -> LockUpdate:
    """Return what the last run made. A lock that cannot be used is told of and counts as none.

    Raises `NewerLockError`: what a newer poeflow wrote is not overwritten.
    """
    if lock is None:
        return LockUpdate()
    try:
        sides = lock.sides()
    except NewerLockError:
        raise
    except StaleError as error:
        listen(Warned(at=0.0, step=None, message=str(error)))
        return LockUpdate()
    if len(sides) > 1:
        message = f"{lock.shown} holds the marks of a merge; what either side has is taken"
        listen(Warned(at=0.0, step=None, message=message))
    return LockUpdate(sides)


@contextlib.asynccontextmanager
async def kept_up(
    lock: LockFile | None, lock_update: LockUpdate, inputs: str, clock: Clock
) -> AsyncIterator[None]:
    """Write a lock while a run goes on, at most every two seconds, and whole when it has ended.

    `inputs` is the hash of what the run was given. A run that is cut short leaves what it made so
    far beside what the last one made. Raises `DiskError`.
    """
    if lock is None:
        yield
        return
    writing = asyncio.create_task(_write_so_far(lock, lock_update, inputs, clock))
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.wait([writing])
        if not writing.cancelled():
            writing.exception()  # a disk that is full is told when the whole lock is written
    lock.write(lock_update.lock(inputs))


async def _write_so_far(lock: LockFile, lock_update: LockUpdate, inputs: str, clock: Clock) -> None:
    written = 0
    while True:
        await clock.asleep(PAUSE)
        if lock_update.count != written:
            written = lock_update.count
            so_far = lock_update.lock_so_far(inputs)
            write = asyncio.ensure_future(asyncio.to_thread(lock.write, so_far))
            try:
                await asyncio.shield(write)
            except asyncio.CancelledError:
                await write  # or it would replace the whole lock by this one
                raise


def inputs_hash(plan: Plan) -> str:
    """Return the hash of what a run was given."""
    return sha256_of_json(dict(plan.inputs))
