"""Finds, reads and writes the lock of a run, by its flow and its inputs file."""

import asyncio
import contextlib
import functools
import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from poeflow.clock import Clock
from poeflow.digest import sha256_of_json, short_hash
from poeflow.engine.lock_update import Length, LockUpdate
from poeflow.errors import DiskError, PoeflowError, StaleError
from poeflow.events import Listener, Warned
from poeflow.operations.check import Checkup
from poeflow.operations.flow_locks import LOCK_ENDING, has_flow, lock_at
from poeflow.operations.run_options import RunOptions
from poeflow.operations.state import workspace_of
from poeflow.planning.plan import Plan
from poeflow.planning.run_inputs import MissingInputsError
from poeflow.project.output_files import KEEP, MOVE
from poeflow.project.project import Project
from poeflow.store.git import Git
from poeflow.store.lockfile import Lock, LockFile, NewerLockError
from poeflow.store.revisions.merges import unresolved_sides
from poeflow.store.workspace import Workspace

_MOST_EARLIER: Final = 20
"""How many older versions of a lock are searched for entries that still prove something."""
_MOST_BESIDE: Final = 100
"""Among how many locks beside a missing one those are looked for whose flows are gone."""
PAUSE: Final = 2.0
"""Seconds between two writes of a lock, at least."""
SHARE: Final = 20.0
"""The least pause between two writes of a large lock, as a multiple of the time that a write takes.
Answers are stored anyway."""


def lock_of(workspace: Workspace, plan: Plan, options: RunOptions) -> LockFile | None:
    """Return the lock of a run, None if its inputs were given by hand: such a run has none."""
    if options.texts or options.inputs:
        return None
    return lock_at(workspace, plan.file.path, options)


def how_to_keep(options: RunOptions) -> str:
    """Return in words how to keep an edited file of a run, or what to do if it has no lock."""
    if options.offline:
        return MOVE
    if options.texts or options.inputs:
        return "run with --inputs-file in place of --input, so that `poeflow accept` can keep it"
    if options.inputs_file is not None:
        return f"keep it with `poeflow accept --inputs-file {options.inputs_file}`"
    return KEEP


def lacking(found: Checkup, error: PoeflowError, options: RunOptions) -> str:
    """Return in words that a flow has no lock and lacks inputs, if that is the whole error.

    It is a flow for others to use, or one that nobody has run yet.
    """
    file = found.loaded.file or found.loaded.draft
    if file is None or not isinstance(error, MissingInputsError):
        return ""
    lock = lock_at(workspace_of(found.project, options), file.path, options)
    if os.path.lexists(lock.path):
        return ""
    many = "inputs" if len(error.names) > 1 else "input"
    return f"needs the {many} {', '.join(error.names)}, and has no lock"


class KnownLocks(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known of a lock: its sides by its file, and older ones by git.

    `fault` says what is wrong with the file, empty if nothing is.
    """

    sides: tuple[Lock, ...] = ()
    earlier: tuple[Lock, ...] = ()
    fault: str = ""


def known_locks(lock: LockFile, git: Git | None, *, is_search: bool = False) -> KnownLocks:
    """Return a lock's sides; if something is wrong with its file, with what git has of it.

    That is both sides of a merge which is not resolved, and the lock of older commits. If it
    `is_search`, those are looked for in any case. While a merge is under way, its sides count
    although the file is in order. Raises `NewerLockError`: the lock of a newer poeflow is not
    overwritten.
    """
    fault, to_do = "", ""
    sides: tuple[Lock, ...] = ()
    try:
        sides = lock.sides()
    except NewerLockError:
        raise
    except StaleError as error:
        fault, to_do = error.message, f"; {error.hint}"
    if len(sides) > 1:
        fault = f"{lock.shown} has conflict marks; both sides are used"
    if git is None:
        return KnownLocks(sides=sides, fault=f"{fault}{to_do}")
    versions = tuple(_versions(lock, git)) if fault or is_search else ()
    gone = [] if sides or fault or versions else locks_of_gone_flows(lock, git)
    if gone:
        names = ", ".join(name for name, _ in gone)
        fault = f"there is no {lock.shown}; {names} is used, whose flow is gone: remove it after"
        versions = tuple(side for _, side in gone)
    if not (fault or is_search):
        return KnownLocks(sides=sides, earlier=merged_sides(lock, git))
    merged = tuple(_readable(lock, unresolved_sides(git, lock.shown)))
    earlier = (*(merged or merged_sides(lock, git)), *versions)
    if to_do and earlier:
        to_do = "; what git has of it is used"
    return KnownLocks(sides=sides or merged, earlier=earlier, fault=f"{fault}{to_do}")


def locks_of_gone_flows(lock: LockFile, git: Git | None) -> list[tuple[str, Lock]]:
    """Return the locks beside one that is missing whose flows are gone: one may be renamed.

    None without git: the locks of simulated runs are not beside their flows.
    """
    if git is None or os.path.lexists(lock.path):
        return []
    found: list[tuple[str, Lock]] = []
    folder = lock.path.parent
    for path in itertools.islice(sorted(folder.glob(f"*{LOCK_ENDING}")), _MOST_BESIDE):
        if not has_flow(folder, path.name.removesuffix(LOCK_ENDING)):
            with contextlib.suppress(StaleError, DiskError):
                found += [(path.name, one) for one in LockFile(path, shown=path.name).sides()]
    return found


def merged_sides(lock: LockFile, git: Git | None) -> tuple[Lock, ...]:
    """Return both sides of a lock while a merge is under way, also if its file is in order again.

    A run that was stopped, `lock fill` and `accept` write one side of it.
    """
    if git is None or not git.has_merged:
        return ()
    texts = unresolved_sides(git, lock.shown)
    if not texts and git.merging:
        commits = ("HEAD", *git.merging)
        found = (git.ask("cat-file", "blob", f"{one}:./{lock.shown}") for one in commits)
        texts = [text for text in found if text is not None]
    return tuple(_readable(lock, texts))


def committed_sides(lock: LockFile, git: Git | None) -> Callable[[], tuple[Lock, ...]]:
    """Return a function for the locks of both parents of HEAD, if that is a merge.

    A merge may be committed before a run has finished it: the lock has only some of its entries.
    The commit of a rebase or a squash merge has one parent: then the index still has both sides.
    Git is asked when it is called.
    """

    def sides() -> tuple[Lock, ...]:
        if git is None or git.has_merged:
            return ()
        found: list[bytes] = []
        for parent in ("HEAD^2", "HEAD^1"):
            text = git.ask("cat-file", "blob", f"{parent}:./{lock.shown}")
            if text is None:  # HEAD is no merge, or that side has no lock
                break
            found.append(text)
        texts = reversed(found) if found else unresolved_sides(git, lock.shown)
        return tuple(_readable(lock, texts))

    return sides


def written_in_git(lock: LockFile, git: Git | None) -> Callable[[str], frozenset[str]]:
    """Return a function for the hashes of what poeflow wrote to a path by all locks that git has.

    These are both sides of a merge, and the newest commits. They are read when it is called.
    """

    @functools.cache
    def written() -> Mapping[str, frozenset[str]]:
        if git is None:
            return {}
        return LockUpdate(earlier=(*merged_sides(lock, git), *_versions(lock, git))).written

    return lambda path: written().get(path, frozenset())


def _versions(lock: LockFile, git: Git) -> Iterator[Lock]:
    """Yield the lock of older commits, the newest first."""
    return _readable(lock, itertools.islice(git.versions(lock.shown), _MOST_EARLIER))


def git_of(project: Project, options: RunOptions) -> Git | None:
    """Return git for what a run writes, None if that is in no repository."""
    return None if options.offline else Git.find(project.root, options.environ)


def _readable(lock: LockFile, texts: Iterable[bytes]) -> Iterator[Lock]:
    for text in texts:
        with contextlib.suppress(StaleError):
            yield lock.decoded(text)


def lock_update_of(
    lock: LockFile | None,
    listen: Listener,
    lengths: Callable[[], Mapping[str, Length]],
    *,
    git: Git | None = None,
) -> LockUpdate:
    """Return the lock of the last run. One that cannot be read, or has two sides, is a warning.

    Raises `NewerLockError`.
    """
    if lock is None:
        return LockUpdate((), lengths)
    known = known_locks(lock, git)
    if known.fault:
        listen(Warned(at=0.0, step=None, message=known.fault))
    merged = committed_sides(lock, git)
    return LockUpdate(known.sides, lengths, earlier=known.earlier, merged=merged)


def inputs_hash(plan: Plan) -> str:
    """Return the hash of the inputs of a run."""
    return short_hash(sha256_of_json(dict(plan.inputs)))


@contextlib.asynccontextmanager
async def writing_lock(
    lock: LockFile | None, lock_update: LockUpdate, inputs: str, clock: Clock
) -> AsyncIterator[None]:
    """Write the lock now and then while a run goes on, and the whole lock when it has ended.

    `inputs` is the hash of the run's inputs. If the run is cut short, the lock has its entries and
    the other ones of the last run. Raises `DiskError`.
    """
    if lock is None:
        yield
        return
    writing = asyncio.create_task(_write_so_far(lock, lock_update, inputs, clock))
    try:
        yield
    except BaseException:
        await _ended(writing)
        if lock_update.count:
            with contextlib.suppress(DiskError):
                _write(lock, lock_update, lock_update.lock_so_far(inputs))
        raise
    await _ended(writing)
    _write(lock, lock_update, lock_update.lock(inputs))


def _write(file: LockFile, lock_update: LockUpdate, lock: Lock) -> None:
    """Write a lock, unless the file has it already. Raises `DiskError`."""
    if not (file.is_as_read and lock_update.is_unchanged(lock)):
        file.write(lock)


async def _ended(writing: asyncio.Task[None]) -> None:
    """End the task that writes the lock. A full disk is reported at the last write."""
    writing.cancel()
    await asyncio.wait([writing])
    if not writing.cancelled():
        writing.exception()


async def _write_so_far(lock: LockFile, lock_update: LockUpdate, inputs: str, clock: Clock) -> None:
    written, pause = 0, PAUSE
    while True:
        await clock.asleep(pause)
        if lock_update.count != written:
            written = lock_update.count
            began = clock.monotonic()
            so_far = lock_update.lock_so_far(inputs)
            write = asyncio.ensure_future(asyncio.to_thread(_write, lock, lock_update, so_far))
            try:
                await asyncio.shield(write)
            except asyncio.CancelledError:
                await write  # else it would replace the whole lock later
                raise
            pause = max(PAUSE, SHARE * (clock.monotonic() - began))
