"""The history of runs: begun, looked through, searched, and made smaller. One file, SQLite.

Readers open the file for themselves, so that looking never waits for a run that writes.
"""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from poeflow.errors import DiskError
from poeflow.records import InstanceRecord, RequestRow, RunFilter, RunRecord, RunRow
from poeflow.store.database import Database
from poeflow.store.history_file import JOURNAL, Journal, is_written, reading, writing
from poeflow.store.history_rows import (
    INSTANCES,
    REQUESTS,
    add_index,
    condition,
    counts_of,
    index_again,
    instance_row,
    plain,
    request_row,
    run_row,
)
from poeflow.store.history_writer import RunWriter

_DOOMED: Final = """CREATE TEMP TABLE doomed AS SELECT id FROM runs
    WHERE (:before IS NULL OR started < :before)
      AND (:keep IS NULL OR id NOT IN (SELECT id FROM runs ORDER BY id DESC LIMIT :keep))
      AND (exit_code IS NOT NULL OR NOT :is_written)"""
_FORGET: Final = (
    "DELETE FROM instances WHERE run IN (SELECT id FROM doomed)",
    "DELETE FROM requests WHERE run IN (SELECT id FROM doomed)",
    "DELETE FROM runs WHERE id IN (SELECT id FROM doomed)",
    """DELETE FROM contents WHERE id NOT IN (
        SELECT request FROM instances WHERE request IS NOT NULL
        UNION SELECT result FROM instances WHERE result IS NOT NULL
        UNION SELECT request FROM requests
        UNION SELECT completion FROM requests WHERE completion IS NOT NULL)""",
    "UPDATE changes SET number = number + 1",
)


def prune(
    path: Path,
    told: Callable[[str], None],
    journal: Journal,
    *,
    before: float | None,
    keep: int | None,
) -> int:
    """Forget runs, and give the space back; return how many they were. Raises `DiskError`.

    Where somebody writes a run, those that have not ended stay: one is at work.
    """
    given = {"before": before, "keep": keep, "is_written": is_written(path)}
    try:
        with writing(path, told, journal=journal) as connection:
            return _forget(connection, given)
    except (sqlite3.Error, OSError) as error:
        raise DiskError(f"the history was not made smaller: {error}") from None


def _forget(connection: Database, given: Mapping[str, object]) -> int:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(_DOOMED, given)
    (count,) = connection.execute("SELECT count(*) FROM doomed").fetchone()
    for sql in _FORGET:
        connection.renew()
        connection.execute(sql)
    if add_index(connection):
        index_again(connection)
    connection.execute("COMMIT")
    connection.renew()
    connection.execute("VACUUM")
    return int(count)


_FITTING: Final = """
SELECT id, record, ending FROM runs
WHERE (:flow IS NULL OR flow = :flow)
  AND (:simulated IS NULL OR simulated = :simulated)
  AND (:since IS NULL OR started >= :since)
  AND (:state IS NULL OR :state = CASE
       WHEN exit_code IS NULL THEN 'unfinished'
       WHEN exit_code = 0 THEN 'ok'
       WHEN exit_code IN (129, 130, 141, 143) THEN 'interrupted'
       ELSE 'failed' END)
"""
_NEWEST: Final = " ORDER BY id DESC LIMIT :limit"


class History:
    """The history at `path`; a `Records`. What goes wrong in keeping it goes to `told`.

    `journal` is how SQLite keeps what is committed; the default suits its version.
    """

    def __init__(
        self,
        path: Path,
        *,
        told: Callable[[str], None],
        journal: Journal = JOURNAL,
    ) -> None:
        self._path = path
        self._told = told
        self._journal: Journal = journal
        self._writers: list[RunWriter] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        for writer in self._writers:
            writer.close()
        self._writers.clear()

    @property
    def exists(self) -> bool:
        """Whether any run was ever kept."""
        return self._path.exists()

    def begin(self, record: RunRecord) -> RunWriter:
        """Return the recorder of a run that begins. Nothing it does ever stops the run."""
        writer = RunWriter(self._path, record, self._told, journal=self._journal)
        self._writers.append(writer)
        return writer

    def runs(self, wanted: RunFilter) -> tuple[RunRow, ...]:
        """Return the runs that fit, the newest first. Raises `DiskError`."""
        values: dict[str, object] = msgspec.structs.asdict(wanted)
        values["flow"] = None if wanted.flow is None else plain(wanted.flow)
        with reading(self._path) as connection:
            if connection is None:
                return ()
            sql = _FITTING
            if wanted.text and not wanted.text.isspace():
                found = condition(connection, wanted.text)
                sql += f" AND {found.sql}"
                values |= found.values
            rows = connection.execute(sql + _NEWEST, values).fetchall()
            return tuple(_with_counts(connection, run_row(row)) for row in rows)

    def run(self, number: int) -> RunRow | None:
        """Return one run, None where there is none with this number. Raises `DiskError`."""
        sql = "SELECT id, record, ending FROM runs WHERE id = ?"
        with reading(self._path) as connection:
            if connection is None:
                return None
            found = connection.execute(sql, (min(number, 2**63 - 1),)).fetchone()
            return None if found is None else _with_counts(connection, run_row(found))

    def instances(self, run: int) -> tuple[InstanceRecord, ...]:
        """Return the instances of a run, in the order they ended. Raises `DiskError`."""
        sql = f"{INSTANCES} WHERE run = ? ORDER BY instances.id"
        with reading(self._path) as connection:
            rows = connection.execute(sql, (run,)) if connection is not None else ()
            return tuple(map(instance_row, rows))

    def made(self, fingerprint: str) -> InstanceRecord | None:
        """Return the newest instance that has this request's result. Raises `DiskError`.

        A run keeps no result of what its lock alone proves to be current: an earlier one has it.
        """
        sql = f"""{INSTANCES} WHERE fingerprint = ? AND result IS NOT NULL
            ORDER BY instances.id DESC LIMIT 1"""
        with reading(self._path) as connection:
            if connection is None:
                return None
            found = connection.execute(sql, (plain(fingerprint),)).fetchone()
            return None if found is None else instance_row(found)

    def requests(self, run: int, instance: str | None = None) -> tuple[RequestRow, ...]:
        """Return the requests sent in a run, in order; of an instance, for all its samples.

        Raises `DiskError`.
        """
        sql = f"""{REQUESTS} WHERE run = :run AND (:name IS NULL OR instance = :name
            OR substr(instance, 1, length(:name) + 1) = :name || '#') ORDER BY requests.id"""
        values = {"run": run, "name": None if instance is None else plain(instance)}
        with reading(self._path) as connection:
            rows = connection.execute(sql, values) if connection is not None else ()
            return tuple(map(request_row, rows))

    def changes(self) -> int:
        """Return a number that is another one whenever something was added."""
        with reading(self._path) as connection:
            if connection is None:
                return 0
            (number,) = connection.execute("SELECT number FROM changes").fetchone()
            return int(number)

    def running(self) -> int | None:
        """Return the number of the run that is at work now, in whichever process.

        Every other run without an end was killed.
        """
        newest = self.runs(RunFilter(state="unfinished", limit=1))
        return newest[0].id if newest and is_written(self._path) else None

    def prune(self, *, before: float | None = None, keep: int | None = None) -> int:
        """Forget runs begun before a time in Unix seconds, but never the newest `keep`.

        With one of them alone the other says nothing. Returns how many they were; one that is at
        work stays. Raises `DiskError`.
        """
        if not self.exists:
            return 0
        return prune(self._path, self._told, self._journal, before=before, keep=keep)


def _with_counts(connection: sqlite3.Connection, row: RunRow) -> RunRow:
    """Return a run with what it did so far, where it does not say so itself."""
    if row.end is not None:
        return row
    return msgspec.structs.replace(row, so_far=counts_of(connection, row.id))
