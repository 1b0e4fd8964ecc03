"""The lock beside a flow: hashes of what the last real run made, to review and merge in git."""

import os
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final, Literal

import msgspec

from poeflow.digest import hash_prefix, sha256_of, short_hash, short_hash_or_none, short_hashes
from poeflow.errors import DiskError, StaleError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import UnusableFileError, read_plain
from poeflow.project.conflicts import has_marks, sides
from poeflow.project.project import atomic_write
from poeflow.project.read_log import FileStat, stamp_at
from poeflow.store.folders import disk_errors
from poeflow.store.lock.entries import PART, Accepted, Before, Hash, LockEntry, LongHash
from poeflow.store.lock.layout import LockTable, LockTables, ReadRows
from poeflow.store.lock.rows import LockRows, PackedRows, rows_of

VERSION: Final = 2
MAX_BYTES: Final = 256 * 1024 * 1024
_TOGETHER: Final = 512
_MARK: Final = lazy_pattern(rb"^(<{7}|={7}|>{7})", re.MULTILINE)


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """What a run made. `inputs` is the hash of its inputs.

    `order` has the keys of loops over what a step gives, in the order of their items, if that is
    not the order of the instances here, or some have none. `orphans` are files that earlier runs
    wrote and no step writes now, with their hashes, and edited ones that the next answer replaces.
    """

    inputs: str
    instances: Mapping[str, LockEntry]
    order: dict[str, list[str]] = {}
    orphans: dict[str, str] = {}

    @property
    def rows(self) -> LockRows:
        return rows_of(self.instances)


class _Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A lock as its file has it."""

    poeflow_lock: Literal[2]
    inputs: Hash
    steps: dict[str, LockTable]
    order: dict[str, list[str]] = {}
    orphans: dict[str, Hash] = {}


class _Version(msgspec.Struct):
    poeflow_lock: int = 0


class NewerLockError(StaleError):
    """A lock of a newer poeflow, which this one does not change."""


_RUN: Final = "run the flow: it takes what either side has, and writes the lock anew"


class LockFile:
    """The lock of one flow at `path`, called `shown` in messages."""

    def __init__(self, path: Path, *, shown: str) -> None:
        self.path = path
        self.shown = shown
        self._stamp: FileStat | None = None

    @property
    def is_as_read(self) -> bool:
        """Whether the file is still as it was read: one lock, in the form that is written now."""
        return self._stamp is not None and stamp_at(self.path) == self._stamp

    def read(self) -> Lock | None:
        """Return the lock, None if there is none.

        Raises `StaleError` if it cannot be used: cut short, of another version, or with conflict
        marks.
        """
        found = self.sides()
        if len(found) > 1:
            raise StaleError(f"{self.shown} has conflict marks", hint=_RUN)
        return found[0] if found else None

    def sides(self) -> tuple[Lock, ...]:
        """Return the lock, both sides of one with conflict marks, or nothing if it is missing.

        Raises `StaleError` if it cannot be used, `NewerLockError` if its format is newer.
        """
        stamp, self._stamp = stamp_at(self.path), None
        try:
            data = read_plain(self.path, limit=MAX_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except UnusableFileError as error:
            hint = "remove it, then run the flow to write it anew"
            raise StaleError(f"{self.shown} {error.strerror}", hint=hint) from None
        except OSError as error:
            reason = (error.strerror or "cannot be read").lower()
            raise DiskError(f"{self.shown}: {reason}", hint="check its permissions") from None
        if not _MARK.search(data):
            lock = self.decoded(data)
            self._stamp = stamp if isinstance(lock.instances, ReadRows) else None
            return (lock,)
        try:
            found = tuple(self.decoded(side) for side in sides(data) if side.strip())
        except NewerLockError:
            raise
        except StaleError:
            found = ()
        if not has_marks(data) or not found:
            message = f"{self.shown} has conflict marks, and neither side can be read"
            raise StaleError(message, hint="take one side with git, then run the flow")
        return found if len(found) > 1 else found * 2  # one side alone would look like no conflict

    def decoded(self, data: bytes) -> Lock:
        """Return the lock in a text. Raises `StaleError`."""
        try:
            version = msgspec.json.decode(data, type=_Version).poeflow_lock
            if version > VERSION:
                message = f"{self.shown} has the format {version} of a newer poeflow"
                raise NewerLockError(message, hint="update poeflow")
            if version == 1:
                return _of_version_1(msgspec.json.decode(data, type=_Text1))
            text = msgspec.json.decode(data, type=_Text)
            return Lock(
                inputs=text.inputs,
                instances=ReadRows(text.steps),
                order=text.order,
                orphans=text.orphans,
            )
        except (ValueError, RecursionError) as error:
            message = f"{self.shown} is not a lock this version can read: {_reason(error, data)}"
            raise StaleError(message, hint="run the flow to write it anew") from None

    def check_folder(self) -> None:
        """Raise `DiskError` if the lock could not be written."""
        folder = next(one for one in self.path.absolute().parents if one.is_dir())
        if not os.access(folder, os.W_OK | os.X_OK):
            hint = "let it be written to, or run in a copy"
            raise DiskError(f"{folder} cannot be written to, and the lock is there", hint=hint)

    def write(self, lock: Lock) -> None:
        """Replace the lock, unless it is the same. Raises `DiskError`."""
        with disk_errors(self.path.parent, "made"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(self.path, LockText(lock))


class LockText:
    """A lock as text, made piece by piece as it is iterated."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._tables = LockTables(lock.rows)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the text, many blocks at a time."""
        blocks = self.blocks()
        while piece := b"".join([block for _, block in islice(blocks, _TOGETHER)]):
            yield piece

    def blocks(self) -> Iterator[tuple[tuple[str, ...], bytes]]:
        """Yield the text in self-contained blocks, with their keys, in order."""
        head = '{{\n"poeflow_lock": {},\n"inputs": "{}",\n"steps": {{\n'
        yield ("0",), head.format(VERSION, short_hash(self._lock.inputs)).encode()
        for key, block in self._tables.blocks():
            yield ("1", *key), block
        yield from _end(self._lock)


def _end(lock: Lock) -> Iterator[tuple[tuple[str, ...], bytes]]:
    """Yield what follows the tables."""
    yield ("2",), b"}\n"
    if lock.order:
        yield ("2", "0"), b',"order": {\n'
    for number, (step, keys) in enumerate(sorted(lock.order.items())):
        lines = b"\n,".join(map(msgspec.json.encode, keys))
        name = (b"," if number else b"") + msgspec.json.encode(step)
        yield ("2", "1", step), b"%b: [\n%b\n]\n" % (name, lines)
    if lock.order:
        yield ("2", "2"), b"}\n"
    if lock.orphans:
        yield ("3",), b',"orphans": {\n'
    for number, (path, digest) in enumerate(sorted(lock.orphans.items())):
        lead = "," if number else ""
        yield ("3", path), f'{lead}{msgspec.json.encode(path).decode()}: "{digest}"\n'.encode()
    yield ("4",), b"}\n}\n" if lock.orphans else b"}\n"


def _reason(error: ValueError | RecursionError, data: bytes) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    try:
        data.decode()
    except UnicodeDecodeError:
        return "it is not UTF-8"
    return str(error)


_REQUEST: Final = lazy_pattern(
    rb'"(?:[A-Za-z0-9_-]{22} ([A-Za-z0-9_-]{22})(?= )|request": ?"([0-9a-f]{32})[0-9a-f]{32}")'
)


def requests_in(path: Path) -> frozenset[str]:
    """Return the first 32 digits of the hash of each request that a lock mentions.

    The rest of the lock may be damaged. Raises `DiskError`.
    """
    try:
        found = _REQUEST.findall(read_plain(path, limit=MAX_BYTES))
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        hint = "repair or remove it: the answers that it mentions would be deleted"
        raise DiskError(f"{path}: {reason}", hint=hint) from None
    return frozenset(long.decode() or hash_prefix(short.decode()) for short, long in found)


class _Accepted1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    written: LongHash | None = None
    text: LongHash | None = None
    result: LongHash | None = None


class _Entry1(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    status: Literal["ok", "skipped"]
    recipe: LongHash
    request: LongHash | None = None
    server: str = ""
    parts: dict[str, str] = {}
    result: LongHash | None = None
    extras: LongHash | None = None
    text: LongHash | None = None
    outputs: dict[str, LongHash] = {}
    untracked: bool = False
    usage: dict[str, int] = {}
    answered_by: str | None = None
    warnings: list[str] = []
    accepted: _Accepted1 | None = None


class _Text1(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A lock of the first format: long hashes, all values repeated for each instance."""

    poeflow_lock: Literal[1]
    inputs: LongHash
    instances: dict[str, _Entry1]
    orphans: dict[str, LongHash] = {}


def _of_version_1(text: _Text1) -> Lock:
    return Lock(
        inputs=short_hash(text.inputs),
        instances=PackedRows({name: _entry_of(one) for name, one in text.instances.items()}),
        orphans=short_hashes(text.orphans),
    )


def _entry_of(old: _Entry1) -> LockEntry:
    accepted = None
    if old.accepted is not None:
        accepted = Accepted(**msgspec.structs.asdict(old.accepted)).with_short_hashes()
    names = (one.split(".")[1] for one in old.parts if one.startswith("steps."))
    return LockEntry(
        status=old.status,
        recipe=short_hash(old.recipe),
        request=short_hash_or_none(old.request),
        server=old.server,
        because=tuple(sorted(set(names))),
        parts={name: _part_of(value) for name, value in old.parts.items()},
        result=short_hash_or_none(old.result),
        extras=short_hash_or_none(old.extras),
        text=short_hash_or_none(old.text),
        outputs=short_hashes(old.outputs),
        untracked=old.untracked,
        answered_by=old.answered_by,
        warnings=old.warnings,
        accepted=accepted,
        before=Before(
            recipe=old.recipe,
            request=old.request,
            result=old.result,
            extras=old.extras,
            text=old.text,
        ),
    )


_PART: Final = lazy_pattern(r"[0-9a-f]{8}")


def _part_of(value: str) -> str:
    """Return the short form of a part, also if it is not a hash."""
    begin = value[:PART]
    return begin if _PART.fullmatch(begin) else sha256_of(value.encode())[:PART]
