"""The history of runs in the store: written, listed, searched, and pruned.

Readers have connections of their own, so that they never wait for a run that writes.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec

from poeflow.errors import DiskError
from poeflow.records import (
    AnswerRecord,
    InstanceRecord,
    RequestRecord,
    RequestRow,
    RunEnd,
    RunFilter,
    RunRecord,
    RunRow,
    whole_instance,
)
from poeflow.store.contents import condition, drop_unused, plain
from poeflow.store.database import Database
from poeflow.store.database_file import JOURNAL, Journal, is_written, reading, writing
from poeflow.store.history_rows import (
    INSTANCES,
    INSTANCES_1,
    LENGTHS,
    REQUESTS,
    RunRows,
    counts_of,
    instance_row,
    lengths_of,
    request_row,
    run_row,
)
from poeflow.store.writer import StoreWriter

_FITTING: Final = """
SELECT id, record, ending FROM runs
WHERE (:flow IS NULL OR flow = :flow)
  AND (:simulated IS NULL OR simulated = :simulated)
  AND (:is_trial IS NULL OR :is_trial = (coalesce(json_extract(record, '$.models'), '{}') <> '{}'))
  AND (:since IS NULL OR started >= :since)
  AND (:state IS NULL OR :state = CASE
       WHEN exit_code IS NULL THEN 'unfinished'
       WHEN exit_code = 0 THEN 'ok'
       WHEN exit_code IN (129, 130, 141, 143) THEN 'interrupted'
       ELSE 'failed' END)
"""
_NEWEST: Final = " ORDER BY id DESC LIMIT :limit"


class History:
    """The history in the store at `path`; a `Records`. `warn` gets messages about errors.

    `journal` is SQLite's journal mode; the default suits its version. Runs are written through
    `store` if it is given; its owner closes it.
    """

    def __init__(
        self,
        path: Path,
        *,
        warn: Callable[[str], None],
        journal: Journal = JOURNAL,
        store: StoreWriter | None = None,
    ) -> None:
        self._path = path
        self._store = store
        self._warn = warn
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
        """Whether the store exists."""
        return self._path.exists()

    def begin(self, record: RunRecord) -> "RunWriter":
        """Return the recorder of a new run. Its errors never stop the run."""
        store = self._store or StoreWriter(self._path, journal=self._journal)
        writer = RunWriter(store, record, self._warn, owns=self._store is None)
        self._writers.append(writer)
        return writer

    def runs(self, wanted: RunFilter) -> tuple[RunRow, ...]:
        """Return the matching runs, the newest first. Raises `DiskError`."""
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
        """Return one run, None if none has this number. Raises `DiskError`."""
        sql = "SELECT id, record, ending FROM runs WHERE id = ?"
        with reading(self._path) as connection:
            if connection is None:
                return None
            found = connection.execute(sql, (min(number, 2**63 - 1),)).fetchone()
            return None if found is None else _with_counts(connection, run_row(found))

    def instances(self, run: int) -> tuple[InstanceRecord, ...]:
        """Return the instances of a run, in the order they ended. Raises `DiskError`."""
        with reading(self._path) as connection:
            if connection is None:
                return ()
            sql = f"{_instances(connection)} WHERE run = ? ORDER BY instances.id"
            return tuple(map(instance_row, connection.execute(sql, (run,))))

    def made(self, fingerprint: str) -> InstanceRecord | None:
        """Return the newest instance that has this request's result. Raises `DiskError`.

        `fingerprint` may be a beginning, as a lock has it. If a lock alone proves a result to be
        current, the run does not store it: an earlier run has it.
        """
        with reading(self._path) as connection:
            if connection is None:
                return None
            sql = f"""{_instances(connection)} WHERE fingerprint >= ?1
                AND fingerprint < ?1 || 'g' AND result IS NOT NULL
                ORDER BY instances.id DESC LIMIT 1"""
            found = connection.execute(sql, (plain(fingerprint),)).fetchone()
            return None if found is None else instance_row(found)

    def requests(self, run: int, instance: str | None = None) -> tuple[RequestRow, ...]:
        """Return the requests of a run, or of an instance with all its samples, in order.

        Raises `DiskError`.
        """
        sql = f"""{REQUESTS} WHERE run = :run AND (:name IS NULL OR instance = :name
            OR substr(instance, 1, length(:name) + 1) = :name || '#') ORDER BY requests.id"""
        values = {"run": run, "name": None if instance is None else plain(instance)}
        with reading(self._path) as connection:
            rows = connection.execute(sql, values) if connection is not None else ()
            return tuple(map(request_row, rows))

    def lengths(self, flow: str, *, simulated: bool) -> Mapping[str, tuple[int | None, int | None]]:
        """Return the token counts of the newest request of each instance, and of its answer.

        Only first requests in the latest runs of the flow count, trials of other models left out,
        and of several samples the newest. The API reported the counts. Raises `DiskError`.
        """
        found: dict[str, tuple[int | None, int | None]] = {}
        values = {"flow": plain(flow), "simulated": simulated}
        with reading(self._path) as connection:
            rows = connection.execute(LENGTHS, values) if connection is not None else ()
            for name, record, ending in rows:
                known = lengths_of(record, ending)
                if known is not None:
                    found.setdefault(whole_instance(name), known)
        return found

    def changes(self) -> int:
        """Return a number that changes with every write."""
        with reading(self._path) as connection:
            if connection is None:
                return 0
            (number,) = connection.execute("SELECT number FROM changes").fetchone()
            return int(number)

    def running(self) -> int | None:
        """Return the number of the run that is at work now, in any process.

        Every other run without an end was killed.
        """
        newest = self.runs(RunFilter(state="unfinished", limit=1))
        return newest[0].id if newest and is_written(self._path) else None

    def prune(self, *, before: float | None = None, keep: int | None = None) -> int:
        """Delete runs begun before a time in Unix seconds, but never the newest `keep`.

        Each condition applies only if it is given. Returns how many were deleted; a run that is at
        work is never deleted. Raises `DiskError`.
        """
        if not self.exists:
            return 0
        if self._store is not None:
            self._store.close()  # or its mark would say that a run is at work
        return _prune(self._path, self._warn, self._journal, before=before, keep=keep)


def _instances(connection: Database) -> str:
    return INSTANCES if connection.version > 1 else INSTANCES_1


def _with_counts(connection: sqlite3.Connection, row: RunRow) -> RunRow:
    """Return a run; if it has no end, its counts are those of its records so far."""
    if row.end is not None:
        return row
    return msgspec.structs.replace(row, so_far=counts_of(connection, row.id))


_ELSEWHERE: Final = "the run began in a file that was damaged"


class RunWriter:
    """Writes one run; a `Recorder`.

    An error is reported once, to `warn`; after it, nothing is recorded.
    """

    def __init__(
        self, store: StoreWriter, record: RunRecord, warn: Callable[[str], None], *, owns: bool
    ) -> None:
        self._store = store
        self._warn = warn
        self._owns = owns
        self._errors: deque[BaseException] = deque()
        self._rows: RunRows | None = None
        self._is_closed = False
        store.submit(lambda connection: self._begin(connection, record), self._errors.append)

    async def requested(self, record: RequestRecord) -> int:
        """Store a request before it is sent: on disk when this returns. Returns its number.

        If this is cancelled, the request is not sent, and is deleted. Without history it is 0.
        """
        if self._is_closed:
            return 0
        number = 0

        def write(connection: Database) -> int:
            nonlocal number
            number = self._rows_in(connection).request(record)
            return number

        try:
            return await self._store.wait(write)
        except asyncio.CancelledError:
            self._later(lambda connection: self._rows_in(connection).withdraw(number))
            raise
        except DiskError as error:
            self._errors.append(error)
            return 0
        finally:
            self._tell()

    def answered(self, number: int, record: AnswerRecord, *, stored: str | None = None) -> None:
        """Store how a request ended.

        `stored` is the fingerprint of an answer that is in the store: then `record` needs none.
        """
        if number:
            self._later(lambda connection: self._rows_in(connection).answer(number, record, stored))

    def instance(self, record: InstanceRecord) -> None:
        """Store how an instance ended."""
        self._later(lambda connection: self._rows_in(connection).instance(record))

    def ended(self, record: RunEnd) -> None:
        """Store how the run ended; everything is on disk when this returns."""
        self._later(lambda connection: self._rows_in(connection).end(record))
        self.close()

    def close(self) -> None:
        """Write what is left and end; may be called again."""
        if self._owns:
            self._store.close()
        else:
            self._store.flush()
        self._tell()
        self._is_closed = True

    def _begin(self, connection: Database, record: RunRecord) -> int:
        self._rows = RunRows(connection, record)
        return 0

    def _rows_in(self, connection: Database) -> RunRows:
        if self._errors:
            raise DiskError("what came before could not be written")
        if self._rows is None or not self._rows.is_in(connection):
            raise DiskError(_ELSEWHERE)
        return self._rows

    def _later(self, write: Callable[[Database], int]) -> None:
        if not self._is_closed:
            self._store.submit(write, self._errors.append)
        self._tell()

    def _tell(self) -> None:
        """Report errors in the caller's thread: listeners expect only one thread."""
        while self._store.messages:
            self._warn(self._store.messages.popleft())
        if self._errors and not self._is_closed:
            self._is_closed = True
            self._warn(f"this run is not stored in the history: {self._errors[0]}")


_DOOMED: Final = """CREATE TEMP TABLE doomed AS SELECT id FROM runs
    WHERE (:before IS NULL OR started < :before)
      AND (:keep IS NULL OR id NOT IN (SELECT id FROM runs ORDER BY id DESC LIMIT :keep))
      AND (exit_code IS NOT NULL OR NOT :is_written)"""
_FORGET: Final = (
    """DELETE FROM quoted WHERE instance IN
        (SELECT id FROM instances WHERE run IN (SELECT id FROM doomed))""",
    "DELETE FROM instances WHERE run IN (SELECT id FROM doomed)",
    "DELETE FROM requests WHERE run IN (SELECT id FROM doomed)",
    "DELETE FROM runs WHERE id IN (SELECT id FROM doomed)",
)


def _prune(
    path: Path,
    warn: Callable[[str], None],
    journal: Journal,
    *,
    before: float | None,
    keep: int | None,
) -> int:
    """Delete runs, and free their space; return how many. Raises `DiskError`.

    While any process writes a run, runs without an end stay: one of them is at work.
    """
    given = {"before": before, "keep": keep, "is_written": is_written(path)}
    try:
        with writing(path, warn, journal=journal) as connection:
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
    drop_unused(connection)
    return int(count)
