"""Files that earlier runs wrote and no step writes any more: named, kept in mind, and removed."""

from collections.abc import Callable, Collection, Mapping
from typing import Final

from poeflow.engine.context import RunContext
from poeflow.engine.lock_update import LockUpdate
from poeflow.project.output_paths import may_write

UNMADE: Final = (
    "no step writes it any more; `poeflow run --prune-outputs` removes it, "
    "`poeflow accept` keeps it"
)


def orphans(
    context: RunContext, files: Mapping[str, str], *, made: Collection[str] = ()
) -> dict[str, str]:
    """Return those of `files`, with their hashes, that are there as poeflow wrote them.

    One that somebody edited since is theirs, one in `made` has a step that writes it. A lock may be
    a stranger's: one where poeflow never writes is none of its.
    """
    return {
        path: digest
        for path, digest in sorted(files.items())
        if path not in made
        if may_write(path) and context.files.look(path, digest) in ("same", "old")
    }


def clear_up(context: RunContext, lock_update: LockUpdate, warn: Callable[[str], None]) -> None:
    """Name the files that this run ceased to write, or remove them if it was told to.

    What stays is kept in the lock, so that it is not forgotten. Raises `DiskError`.
    """
    found = orphans(context, lock_update.left_behind)
    if context.prunes:
        for path in found:
            context.outputs.remove(path)
            warn(f"{path[2:]} was removed, as no step writes it any more")
        found = {}
    for path in sorted(found.keys() - lock_update.orphans.keys()):
        warn(f"{path[2:]}: {UNMADE}")
    lock_update.keep_orphans(found)
