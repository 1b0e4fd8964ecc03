"""Edited output files become the flow's own."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec

from poeflow.digest import sha256_of
from poeflow.engine.output_files import MAX_BYTES, text_digest
from poeflow.errors import UsageError
from poeflow.files import Project
from poeflow.store.lockfile import LockFile
from poeflow.store.workspace import Workspace


def accepted(project: Project, flow: str, wanted: Sequence[Path]) -> list[str]:
    """Take the files of a flow as they are into lock and ledger; return which were edited.

    `wanted` are absolute paths, none for all. Raises `UsageError`, `StaleError` or `DiskError`.
    """
    path = PurePosixPath(flow[2:])
    shown = path.with_name(f"{path.stem}.lock.json").as_posix()
    file = LockFile(project.path_of(f"//{shown}"), shown=shown)
    lock = file.read()
    if lock is None:
        raise UsageError(f"{shown} does not exist", hint="run the flow first")
    workspace = Workspace(project, offline=False)
    with workspace.hold():
        ledger = workspace.ledger()
        changed: list[str] = []
        blocks = dict(lock.instances)
        for name, block in lock.instances.items():
            outputs = dict(block.outputs)
            for target, known in block.outputs.items():
                place = project.path_of(target)
                if (wanted and place not in wanted) or not place.is_file():
                    continue
                data = project.peek(target, limit=MAX_BYTES)
                if known in (sha256_of(data), text_digest(data)):
                    continue
                outputs[target] = text_digest(data)
                ledger.record(target, outputs[target])
                changed.append(target[2:])
            blocks[name] = msgspec.structs.replace(block, outputs=outputs)
        file.write(msgspec.structs.replace(lock, instances=blocks))
    return changed
