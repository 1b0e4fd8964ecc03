"""Repairs a lock from the files, the store and git, without a request; merges two, for git."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from poeflow.digest import short_hash
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.statuses import GONE
from poeflow.errors import StaleError, UsageError
from poeflow.opener import read_plain
from poeflow.operations.check import Checkup, checked_again
from poeflow.operations.locks import git_of, inputs_hash, known_locks, lock_of
from poeflow.operations.plan import planned
from poeflow.operations.recording import lengths_in
from poeflow.operations.run_options import RunOptions, quiet_options, warner
from poeflow.operations.state import writable_workspace
from poeflow.operations.status import survey_checked, survey_plan
from poeflow.project.output_files import OutputFiles
from poeflow.project.project import atomic_write
from poeflow.records import InstanceStatus, as_written, wholes_of
from poeflow.store.git import Git
from poeflow.store.lock.entries import LockEntry
from poeflow.store.lock.rows import PackedRows
from poeflow.store.lockfile import MAX_BYTES, Lock, LockFile, LockText

_SHOWN: Final = 20
"""How many instances are named."""
_SIDES: Final = 2
_OURS: Final = b"<<<<<<< ours\n"
_BETWEEN: Final = b"=======\n"
_THEIRS: Final = b">>>>>>> theirs\n"
_Value = TypeVar("_Value")


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a lock.

    `filled` are the instances whose entries are new or others than before; `mended` says what was
    wrong with the file, empty if it could be read. `remaining` are the instances that are not
    proven current, with the reasons.
    """

    lock: str
    filled: tuple[str, ...]
    mended: str
    remaining: tuple[InstanceStatus, ...]

    @property
    def lines(self) -> Iterator[str]:
        """What was filled, and what remains, in lines."""
        if self.mended:
            yield f"mended: {self.mended}"
        many = len(self.filled)
        if many:
            shown = ", ".join(map(as_written, self.filled[:_SHOWN]))
            entries = "entry" if many == 1 else "entries"
            yield f"filled {many:,} {entries}: {shown}{', ...' if many > _SHOWN else ''}"
        for one in self.remaining[:_SHOWN]:
            yield f"remains: {as_written(one.id)}: {one.state}: {'; '.join(one.reasons)}"
        if len(self.remaining) > _SHOWN:
            left = len(self.remaining) - _SHOWN
            yield f"remains: {left:,} more; `poeflow status` lists them"
        if not self.remaining:
            is_changed = many or self.mended
            yield "the lock proves everything current" if is_changed else "nothing to fill"


async def fill_lock(found: Checkup, options: RunOptions) -> Filled:
    """Write every entry of a flow's lock that can be proven without a request.

    An entry is proven by an answer in the store, or if its recipe is that of the flow and its
    files are those on disk: of either side of a merge, or of an older commit. Others stay as they
    are; one that is missing is taken from an older commit if its files are those on disk, and one
    that both sides have from the side whose files those are. Nothing is sent, run or written but
    the lock. Raises `InvalidFlowError`, `UsageError`, `StaleError` for
    the lock of a newer poeflow, or `DiskError`.
    """
    workspace = writable_workspace(found.project, options)
    last = workspace.last_hold()
    plan, planner = planned(found, options, makes_key=True)
    async with workspace.ahold(wait=options.wait, warn=warner(options)) as held_before:
        if held_before != last:
            found = checked_again(found)
            plan, planner = planned(found, options, makes_key=True)
        lock = lock_of(workspace, plan, options)
        if lock is None:
            raise UsageError("inputs given by hand have no lock", hint="use --inputs-file")
        known = known_locks(lock, git_of(found.project, options), is_search=True)
        lengths = lengths_in(workspace, plan, options)
        lock_update = LockUpdate(known.sides, lengths, earlier=known.earlier)
        before = {name: lock_update.entry(name) for name in lock_update.names}
        quiet = quiet_options(found.project, options)
        looked = await survey_plan(plan, planner, found.project, quiet, lock_update)
        tree = OutputFiles(workspace.output_tree(), {}, lambda _path: frozenset())
        new = lock_update.lock_as_written(inputs_hash(plan), tree)
        new = _without_gone(lock_update, new, looked)
        new = _with_made(_with_files(new, known.sides, tree), known.earlier, looked, tree)
        filled = [name for name, entry in new.instances.items() if before.get(name) != entry]
        if new.instances or known.sides or known.fault:
            lock.write(new)
        statuses = await survey_checked(found, options)
    return Filled(
        lock=lock.shown,
        filled=tuple(filled),
        mended=known.fault,
        remaining=tuple(one for one in statuses if not one.is_current),
    )


def _with_files(lock: Lock, sides: Sequence[Lock], files: OutputFiles) -> Lock:
    """Return a lock with the entries of that side of a merge whose files are on disk.

    Else the files of the other side would count as edited. What else a stored answer proves is
    found again by its request.
    """
    if len(sides) < _SIDES or sides[0] is sides[1]:
        return lock
    own = dict(lock.instances.items())
    for side in sides:
        for name, entry in side.instances.items():
            mine = own.get(name)
            if mine is None or mine == entry or not entry.outputs:
                continue
            if _has_files(entry, files) and not _has_files(mine, files):
                own[name] = entry
    return msgspec.structs.replace(lock, instances=PackedRows(own))


def _has_files(entry: LockEntry, files: OutputFiles) -> bool:
    return all(files.look(path, digest) == "same" for path, digest in entry.outputs.items())


def _with_made(
    lock: Lock, earlier: Iterable[Lock], looked: Iterable[InstanceStatus], files: OutputFiles
) -> Lock:
    """Return a lock with the newest older entries of instances that have none, but their files.

    They are stale by them, and their files are poeflow's own.
    """
    found = tuple(one for one in looked if one.state != "orphaned" and GONE not in one.reasons)
    known = {one.id for one in found}
    waiting = {one.id for one in found if one.state == "unknown"}
    own = dict(lock.instances.items())
    for older in earlier:
        for name, entry in older.instances.items():
            is_known = name in known or not waiting.isdisjoint(wholes_of(name))
            if name in own or not entry.outputs or not is_known:
                continue
            if _has_files(entry, files):
                own[name] = entry
    return msgspec.structs.replace(lock, instances=PackedRows(own))


def _without_gone(lock_update: LockUpdate, lock: Lock, looked: Iterable[InstanceStatus]) -> Lock:
    """Return a lock without instances that the flow does not have; their files become orphans."""
    found = tuple(looked)
    gone = {one.id for one in found if GONE in one.reasons}
    orphaned = {f"//{one.id}" for one in found if one.state == "orphaned"}
    files = lock_update.files_of(gone)
    own = {name: entry for name, entry in lock.instances.items() if name not in gone}
    return Lock(
        inputs=lock.inputs,
        instances=PackedRows(own),
        order=lock.order,
        orphans={path: short_hash(files[path]) for path in sorted(orphaned & files.keys())},
    )


def merge_locks(base: Path, ours: Path, theirs: Path, *, shown: str, git: Git) -> bool:
    """Merge both sides into the file `ours`; return whether there is no conflict.

    Changes of only one side are taken. If both changed an entry, both versions are in the file,
    between conflict marks: the next run uses the one that is current. Locks that cannot be read
    are merged as texts. `shown` is the lock's name in messages. Raises `StaleError` if that fails,
    and `DiskError`.
    """
    try:
        locks = [_read(path, shown) for path in (ours, theirs)]
    except StaleError as error:
        return _as_texts(base, ours, theirs, git, error)
    first, second = merged(_base(base, shown), *locks)
    blocks = list(woven(LockText(first).blocks(), LockText(second).blocks()))
    atomic_write(ours, b"".join(blocks))
    return _OURS not in blocks


def _read(path: Path, shown: str) -> Lock:
    found = LockFile(path, shown=shown).read()
    if found is None:
        raise StaleError(f"{shown} is not there", hint="run the flow to write it anew")
    return found


def _base(path: Path, shown: str) -> Lock:
    """Return the common base of both sides, empty if each made the lock anew.

    If the base has conflict marks, as git makes it of two bases, its first side counts.
    """
    try:
        return LockFile(path, shown=shown).sides()[0]
    except (StaleError, IndexError):
        return Lock(inputs="", instances={})


def _as_texts(base: Path, ours: Path, theirs: Path, git: Git, error: StaleError) -> bool:
    contents = [read_plain(path, limit=MAX_BYTES) for path in (ours, base, theirs)]
    found = git.merged(*contents)
    if found is None:
        raise error
    data, is_in_conflict = found
    atomic_write(ours, data)
    return not is_in_conflict


def merged(base: Lock, ours: Lock, theirs: Lock) -> tuple[Lock, Lock]:
    """Return either side of the merge; they differ only in entries that both changed.

    If both changed the inputs, both get ours: the next run knows its own inputs.
    """
    inputs, _ = _picked(base.inputs, ours.inputs, theirs.inputs)
    rows = [dict(lock.rows.packed()) for lock in (base, ours, theirs)]
    order = _both(base.order, ours.order, theirs.order)
    orphans = _both(base.orphans, ours.orphans, theirs.orphans)
    instances = _both(*rows)
    first, second = (
        Lock(
            inputs=inputs,
            instances=PackedRows.of(instances[side]),
            order=order[side],
            orphans=orphans[side],
        )
        for side in (0, 1)
    )
    return first, second


def _both(
    base: Mapping[str, _Value], ours: Mapping[str, _Value], theirs: Mapping[str, _Value]
) -> tuple[dict[str, _Value], dict[str, _Value]]:
    first: dict[str, _Value] = {}
    second: dict[str, _Value] = {}
    for name in sorted(ours.keys() | theirs.keys()):
        one, other = _picked(base.get(name), ours.get(name), theirs.get(name))
        if one is not None:
            first[name] = one
        if other is not None:
            second[name] = other
    return first, second


def _picked(base: _Value, ours: _Value, theirs: _Value) -> tuple[_Value, _Value]:
    """Return the merged value for both sides, or each side's own if both changed it."""
    if theirs in (base, ours):
        return ours, ours
    return (theirs, theirs) if ours == base else (ours, theirs)


def woven(
    ours: Iterable[tuple[tuple[str, ...], bytes]], theirs: Iterable[tuple[tuple[str, ...], bytes]]
) -> Iterator[bytes]:
    """Yield the text of two locks as one, with marks around what differs."""
    first, second = dict(ours), dict(theirs)
    apart: list[tuple[bytes, bytes]] = []
    for key in sorted(first.keys() | second.keys()):
        pair = first.get(key, b""), second.get(key, b"")
        if pair[0] != pair[1]:
            apart.append(pair)
            continue
        yield from _marked(apart)
        apart.clear()
        yield pair[0]
    yield from _marked(apart)


def _marked(apart: Iterable[tuple[bytes, bytes]]) -> Iterator[bytes]:
    pairs = tuple(apart)
    if pairs:
        yield _OURS
        yield from (ours for ours, _ in pairs)
        yield _BETWEEN
        yield from (theirs for _, theirs in pairs)
        yield _THEIRS
