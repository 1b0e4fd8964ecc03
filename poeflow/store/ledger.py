"""The ledger: the hash of every output file that poeflow wrote, by path and checkout."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from poeflow.opener import head, regular
from poeflow.store.contents import output_key, plain
from poeflow.store.database import Database
from poeflow.store.database_file import DamagedStoreError, RowReader
from poeflow.store.folders import disk_errors
from poeflow.store.writer import StoreWriter, Write

MAX_LEDGER_BYTES: Final = 64 * 1024 * 1024
"""Bytes of an old ledger that are read: a row has about 150."""
_RECORD: Final = "INSERT OR IGNORE INTO outputs VALUES (?, ?, ?, ?)"
_WRITTEN: Final = "SELECT sha256 FROM outputs WHERE simulated = ? AND place = ? AND path = ?"
_HAS: Final = f"{_WRITTEN} AND sha256 = ?"
_ROWS: Final = """SELECT place, path, sha256 FROM outputs
    WHERE simulated = ? AND (place, path, sha256) > (?, ?, ?) ORDER BY place, path, sha256"""
_MOST: Final = 10_000


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`path` is a project path, `sha256` the hash of the bytes written there.

    `place` names the checkout in which they were written.
    """

    path: str
    sha256: str
    place: str = ""


class Ledger:
    """Rows in the store of `writer`: of real files, or of `simulated` ones.

    A row is committed before its file is replaced: a crash between the two never makes poeflow's
    own file look edited. Rows of another `place` do not count: files written elsewhere say nothing
    about a file here. Unless it `is_used`, no row counts. `old` is the ledger file of an older
    version.
    """

    def __init__(
        self,
        writer: StoreWriter,
        *,
        old: Path | None = None,
        place: str = "",
        is_used: bool = True,
        simulated: bool = False,
    ) -> None:
        self._writer = writer
        self._reader = RowReader(writer.path)
        self._old = old
        self._place = place
        self._is_used = is_used
        self._simulated = simulated

    async def store(self, path: str, sha256: str) -> None:
        """Commit a row; it is on disk when this returns. Raises `DiskError`."""
        if not self._has(path, sha256):
            await self._writer.wait(self._row_write(path, sha256), is_durable=True)

    def written(self, path: str) -> frozenset[str]:
        """Return the hashes of all that poeflow ever wrote to a path. Raises `DiskError`."""
        if not self._is_used:
            return frozenset()
        values = (self._simulated, self._place, plain(path))
        found: set[str] = set()
        is_absent = self._writer.is_absent(self._key(path))
        with contextlib.suppress(DamagedStoreError):  # then no file counts as poeflow's own
            rows = [] if is_absent else self._reader.rows(_WRITTEN, values, most=_MOST)
            found |= {str(sha256) for (sha256,) in rows}
        if self._old is not None:
            rows_of_old = old_rows(self._old)
            found |= {
                row.sha256 for row in rows_of_old if (row.place, row.path) == (self._place, path)
            }
        return frozenset(found)

    def _key(self, path: str) -> bytes:
        return output_key(self._place, plain(path), simulated=self._simulated)

    def _has(self, path: str, sha256: str) -> bool:
        if self._writer.is_absent(self._key(path)):
            return False
        values = (self._simulated, self._place, plain(path), sha256)
        try:
            return self._reader.row(_HAS, values) is not None
        except DamagedStoreError:
            return False

    def _row_write(self, path: str, sha256: str) -> Write:
        row = LedgerRow(path=path, sha256=sha256, place=self._place)
        return lambda connection: record_row(connection, row, simulated=self._simulated)


def record_row(connection: Database, row: LedgerRow, *, simulated: bool) -> int:
    """Write a row, within a transaction, unless it is there."""
    values = (simulated, row.place, plain(row.path), row.sha256)
    connection.note(output_key(row.place, values[2], simulated=simulated))
    return connection.execute(_RECORD, values).rowcount


def stored_rows(store: Path, *, simulated: bool) -> Iterator[LedgerRow]:
    """Yield the rows in a store, in order. Raises `DiskError`."""
    reader, last = RowReader(store), ("", "", "")
    while rows := reader.rows(_ROWS, (simulated, *last), most=_MOST):
        for place, path, sha256 in rows:
            last = (str(place), str(path), str(sha256))
            yield LedgerRow(place=last[0], path=last[1], sha256=last[2])


def old_rows(path: Path) -> Iterator[LedgerRow]:
    """Yield the rows of a ledger file of JSON lines, without torn and foreign lines.

    Raises `DiskError`.
    """
    with disk_errors(path, "read"):
        try:
            with regular(path.parent, (path.name,)) as (handle, _):
                data = head(handle, MAX_LEDGER_BYTES)
        except FileNotFoundError:
            return
    for line in data[: data.rfind(b"\n") + 1].split(b"\n"):
        try:
            yield msgspec.json.decode(line, type=LedgerRow)
        except (ValueError, RecursionError):
            continue
