"""Merges locks entry by entry, as git's driver for them."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, TypeVar

from poeflow.errors import StaleError
from poeflow.opener import read_plain
from poeflow.project.project import atomic_write
from poeflow.store.git import Git
from poeflow.store.lock.rows import PackedRows
from poeflow.store.lockfile import MAX_BYTES, Lock, LockFile, LockText

_OURS: Final = b"<<<<<<< ours\n"
_BETWEEN: Final = b"=======\n"
_THEIRS: Final = b">>>>>>> theirs\n"
_Value = TypeVar("_Value")


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
