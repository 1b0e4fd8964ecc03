"""Copies what can still be read of a damaged, renamed store into the new one."""

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

from poeflow.digest import encode_json
from poeflow.errors import DiskError
from poeflow.events import ignore
from poeflow.store.answer_lines import CacheEntry, EndLine
from poeflow.store.cache import Cache
from poeflow.store.database import Database
from poeflow.store.database_file import RowReader
from poeflow.store.folders import disk_errors
from poeflow.store.ledger import LedgerRow, record_row, stored_rows
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
    for rows in batches(_readable(stored_rows(aside, simulated=simulated)), lambda _row: 0):
        writer.do_all([_row_write(row, simulated=simulated) for row in rows])
    return count


def _row_write(row: LedgerRow, *, simulated: bool) -> Write:
    def write(connection: Database) -> int:
        return record_row(connection, row, simulated=simulated)

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
