"""Which lock belongs to a run: by the flow, and by the file of inputs it was given."""

from pathlib import PurePosixPath

from poeflow.digest import sha256_of_json
from poeflow.engine.memory import Memory
from poeflow.engine.plan import Plan
from poeflow.errors import StaleError
from poeflow.events import Listener, Warned
from poeflow.store.lockfile import LockFile
from poeflow.store.workspace import Workspace
from poeflow.wiring.options import RunOptions


def lock_of(workspace: Workspace, plan: Plan, options: RunOptions) -> LockFile | None:
    """Return the lock of a run, None where its inputs are given by hand: such a run has none."""
    if options.texts or options.inputs:
        return None
    path = PurePosixPath(plan.file.path[2:])
    inputs = f".{options.inputs_file.stem}" if options.inputs_file is not None else ""
    name = f"{path.stem}{inputs}.lock.json"
    target = workspace.outputs().path_of(f"//{path.with_name(name).as_posix()}")
    return LockFile(target, shown=path.with_name(name).as_posix())


def memory_of(lock: LockFile | None, listen: Listener) -> Memory:
    """Return what the last run made. A lock that cannot be used is told of and counts as none."""
    if lock is None:
        return Memory(None)
    try:
        return Memory(lock.read())
    except StaleError as error:
        listen(Warned(at=0.0, step=None, message=str(error)))
        return Memory(None)


def inputs_hash(plan: Plan) -> str:
    """Return the hash of what a run was given."""
    return sha256_of_json(dict(plan.inputs))
