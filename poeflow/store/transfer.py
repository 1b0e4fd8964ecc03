"""Carries answers into a store and out of it: lines of JSON, older files, a damaged store.

Files of older versions are deleted only after their content is committed, so that after a kill the
next run goes on.
"""

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import msgspec

from poeflow.digest import decode_json, encode_json, sha256_of_json
from poeflow.errors import DiskError, UsageError
from poeflow.events import ignore
from poeflow.project.atomic_write import sync_folder
from poeflow.redact import Scrubber, masked
from poeflow.store import ledger
from poeflow.store.answer_lines import (
    FORMAT,
    AnswerLine,
    CacheEntry,
    EndLine,
    OldAnswers,
    answer_line,
)
from poeflow.store.cache import Cache, put_end, put_new
from poeflow.store.contents import MAX_BYTES
from poeflow.store.database import COMPANIONS, Database
from poeflow.store.database_file import RowReader, mark_of
from poeflow.store.folders import disk_errors
from poeflow.store.writer import StoreWriter, Write, batches

_TAKEN: Final = ".taken"
"""Suffix of the mark beside a damaged file: all that can be read was copied."""
_MAX_DAMAGE: Final = 500
"""How many damaged places of a store are passed before the rest is left."""
_KEYS: Final = """SELECT fingerprint FROM answers
    WHERE simulated = ? AND fingerprint > ? AND fingerprint < ? ORDER BY fingerprint"""
_KEYS_BACKWARD: Final = f"{_KEYS} DESC"
_LAST: Final = b"\xff" * 33
"""Greater than any fingerprint."""
_T = TypeVar("_T")


class Imported(msgspec.Struct, frozen=True):
    """How many answers an import added, and how many were there already.

    Ends of conversations are imported, too, but not counted.
    """

    added: int
    known: int


def export_answers(cache: Cache, file: BinaryIO, scrubber: Scrubber) -> int:
    """Write all sound answers, then the ends of conversations, as lines; return how many answers.

    Keys are masked; a request that holds one is left out. Raises `DiskError` and `OSError`.
    """
    count = 0
    for entry in cache.entries():
        answer = masked(entry.answer, scrubber)
        is_clean = masked(entry.request, scrubber) == entry.request
        line = AnswerLine(
            format=FORMAT,
            fingerprint=entry.fingerprint,
            sha256=sha256_of_json(answer),
            answer=answer,
            answered_by=entry.answered_by,
            request=entry.request if is_clean else None,
        )
        file.write(encode_json(line) + b"\n")
        count += 1
    ends = (EndLine(format=FORMAT, first=first, last=last) for first, last in cache.ends())
    file.writelines(encode_json(end) + b"\n" for end in ends)
    return count


def import_answers(
    cache: Cache, writer: StoreWriter, file: BinaryIO, scrubber: Scrubber, *, name: str
) -> Imported:
    """Store the answers that are not there yet. Each line is checked by its hashes.

    Raises `UsageError` with the number of a line that is not an answer; the lines before it are
    stored. Raises `DiskError`.
    """
    added = known = 0
    lines = ((_read(data, f"{name}:{at}", scrubber), len(data)) for at, data in _lines(file, name))
    for batch in batches(lines, lambda pair: pair[1]):
        answers = [cache.add(line.entry) for line, _ in batch if isinstance(line, AnswerLine)]
        ends = [_uncounted(cache.add(line)) for line, _ in batch if isinstance(line, EndLine)]
        stored = writer.do_all([*answers, *ends])
        added, known = added + stored, known + len(answers) - stored
    return Imported(added, known)


def _uncounted(write: Write) -> Write:
    """Return a write that gives 0."""

    def do(connection: Database) -> int:
        write(connection)
        return 0

    return do


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while data := file.readline(MAX_BYTES + 1):
        number += 1
        if len(data) > MAX_BYTES:
            raise UsageError(f"{name}:{number} is longer than an answer can be")
        if data.strip():
            yield number, data


def _read(data: bytes, place: str, scrubber: Scrubber) -> AnswerLine | EndLine:
    """Return the answer or end in a line, keys masked. Raises `UsageError`."""
    try:
        end = msgspec.convert(decode_json(data), EndLine)
    except (ValueError, RecursionError):
        pass
    else:
        if end.format == FORMAT:
            return end
    line = answer_line(data)
    hint = "write it with `poeflow cache export`"
    if line is None:
        raise UsageError(f"{place} is not an answer, or its hash does not match", hint=hint)
    if line.request is not None and sha256_of_json(line.request) != line.fingerprint:
        raise UsageError(f"{place}: its request is not the one its fingerprint says", hint=hint)
    answer = masked(line.answer, scrubber)
    is_clean = masked(line.request, scrubber) == line.request
    request = line.request if is_clean else None
    return msgspec.structs.replace(line, answer=answer, request=request)


def import_old_files(state: Path, writer: StoreWriter) -> None:
    """Move the files of older versions in the folder `state` into the store.

    Call it only while no other run can be at work. Messages are in `writer.messages`. Raises
    `DiskError`.
    """
    _import_history(state / "history.db", writer)
    for simulated, folder in ((False, state), (True, state / "simulated")):
        _import_old_answers(folder / "cache", writer, simulated=simulated)
        _import_ledger(folder / "ledger.jsonl", writer, simulated=simulated)


def _import_history(old: Path, writer: StoreWriter) -> None:
    """Turn the old history into the store by adding the tables that it lacks.

    If the store exists already, an older version was used again: its history stays unchanged.
    """
    if not os.path.lexists(old) or os.path.lexists(writer.path):
        return
    StoreWriter(old, journal="delete", messages=writer.messages).open_once()
    if any(os.path.lexists(old.with_name(old.name + ending)) for ending in COMPANIONS):
        raise DiskError(f"{old} is in use", hint="end `poeflow view`, then run again")
    with disk_errors(old, "renamed"):
        old.rename(writer.path)
        sync_folder(old.parent)
        mark_of(old).unlink(missing_ok=True)


def _import_old_answers(folder: Path, writer: StoreWriter, *, simulated: bool) -> None:
    old = OldAnswers(folder, writer.messages.append)
    for inner in list(old.folders()):
        with disk_errors(inner, "looked at"):
            paths = sorted(inner.iterdir()) if inner.is_dir() else []
        read = _old_end if inner.name == "ends" else _old_answer
        found = ((path, read(old, path, simulated=simulated)) for path in paths)
        taken = ((path, write) for path, write in found if write is not None)
        for batch in batches(taken, lambda pair: pair[0].lstat().st_size):
            writer.do_all([write for _, write in batch])
            with disk_errors(inner, "emptied"):
                for path, _ in batch:
                    path.unlink()
        with contextlib.suppress(OSError):  # a folder with other files stays
            inner.rmdir()


def _old_answer(old: OldAnswers, path: Path, *, simulated: bool) -> Write | None:
    line = old.entry(path.stem) if path.suffix == ".json" else None
    if line is None:
        return None
    entry, at = line.entry, path.stat().st_mtime
    return lambda connection: put_new(connection, entry, simulated=simulated, at=at, since=at)


def _old_end(old: OldAnswers, path: Path, *, simulated: bool) -> Write | None:
    last = old.end(path.name)
    if last is None:
        return None
    end = EndLine.of(path.name, last)
    if end is None:
        return None
    return lambda connection: put_end(connection, end, simulated=simulated)


def _import_ledger(path: Path, writer: StoreWriter, *, simulated: bool) -> None:
    if not os.path.lexists(path):
        return
    rows = list(ledger.old_rows(path))

    def write(connection: Database) -> int:
        return sum(ledger.record_row(connection, row, simulated=simulated) for row in rows)

    writer.do_all([write])
    with disk_errors(path, "removed"):
        if path.stat().st_size > ledger.MAX_LEDGER_BYTES:
            path.rename(path.with_name("ledger.old.jsonl"))
        else:
            path.unlink()


@contextlib.contextmanager
def opened_store(writer: StoreWriter) -> Iterator[None]:
    """Open the store, and close it at the end of the block.

    If it is damaged, then or later, it is renamed, and its readable answers, ends of conversations
    and ledger rows are copied, once: if that is cut short, the next opening of the store goes on.
    Messages are in `writer.messages`. Raises `DiskError`.
    """
    try:
        for mark in writer.path.parent.glob(f"{writer.path.stem}.damaged-*{_TAKEN}"):
            if not os.path.lexists(mark.with_suffix(writer.path.suffix)):
                mark.unlink()
        writer.track_keys()
        writer.check()
        _rescue_all(writer)
        try:
            yield
        except BaseException:
            with contextlib.suppress(DiskError):
                _rescue_all(writer)
            raise
        _rescue_all(writer)
    finally:
        writer.close()


def _rescue_all(writer: StoreWriter) -> None:
    """Copy what can be read of the renamed files, and mark them as copied."""
    folder = writer.path.parent
    for aside in sorted(folder.glob(f"{writer.path.stem}.damaged-*{writer.path.suffix}")):
        mark = aside.with_suffix(_TAKEN)
        if os.path.lexists(mark):
            continue
        count = sum(_rescue(aside, writer, simulated=simulated) for simulated in (False, True))
        if count:
            writer.messages.append(f"{count:,} answers were taken from {aside.name}")
        with disk_errors(mark, "made"):
            mark.touch(mode=0o600)


def _rescue(aside: Path, writer: StoreWriter, *, simulated: bool) -> int:
    """Store what can be read of a damaged file; return how many answers."""

    def cache_of(one: StoreWriter) -> Cache:
        return Cache(one.path.parent, one, on_corrupt=ignore, simulated=simulated)

    old, new = cache_of(StoreWriter(aside)), cache_of(writer)
    count = 0
    entries = _readable_entries(old, RowReader(aside), simulated=simulated)
    for batch in batches(entries, lambda entry: len(encode_json(entry.answer))):
        count += writer.do_all([new.add(entry) for entry in batch])
    ends = (EndLine.of(first, last) for first, last in _readable(old.ends()))
    for some in batches((end for end in ends if end is not None), lambda _end: 0):
        writer.do_all([new.add(end) for end in some])
    for rows in batches(_readable(ledger.stored_rows(aside, simulated=simulated)), lambda _row: 0):
        writer.do_all([_row_write(row, simulated=simulated) for row in rows])
    return count


def _row_write(row: ledger.LedgerRow, *, simulated: bool) -> Write:
    def write(connection: Database) -> int:
        return ledger.record_row(connection, row, simulated=simulated)

    return write


def _readable(items: Iterator[_T]) -> Iterator[_T]:
    """Yield items until one cannot be read."""
    with contextlib.suppress(DiskError):
        yield from items


def _readable_entries(old: Cache, reader: RowReader, *, simulated: bool) -> Iterator[CacheEntry]:
    """Yield the sound answers of a damaged store, passing damaged ones."""
    for key in _readable_keys(reader, simulated=simulated):
        with contextlib.suppress(DiskError):
            entry = old.entry(key.hex())
            if entry is not None:
                yield entry


def _readable_keys(reader: RowReader, *, simulated: bool) -> Iterator[bytes]:
    """Yield the keys of a damaged store: from both ends, then from the middle of the rest.

    It stops after `_MAX_DAMAGE` damaged places.
    """
    ranges, faults = deque([(b"", _LAST)]), 0
    while ranges and faults < _MAX_DAMAGE:
        low, high = ranges.popleft()  # the widest first
        try:
            for key in _keys_between(reader, _KEYS, (simulated, low, high)):
                low = key
                yield key
            continue
        except DiskError:
            faults += 1
        try:
            for key in _keys_between(reader, _KEYS_BACKWARD, (simulated, low, high)):
                high = key
                yield key
            continue
        except DiskError:
            faults += 1
        first, last = (int.from_bytes(key.ljust(32, b"\0")[:32]) for key in (low, high))
        middle = (first + last) // 2
        if middle - first > 1:
            between = middle.to_bytes(32)
            ranges += [(low, between), ((middle - 1).to_bytes(32), high)]


def _keys_between(reader: RowReader, sql: str, of: tuple[bool, bytes, bytes]) -> Iterator[bytes]:
    simulated, low, high = of
    while row := reader.row(sql, (simulated, low, high)):
        key = row[0] if isinstance(row[0], bytes) else b""
        if not low < key < high:
            raise DiskError("a key of the store is not where it should be")
        yield key
        low, high = (low, key) if sql is _KEYS_BACKWARD else (key, high)
