"""The history of runs: begun, looked through, searched, and made smaller. One file, SQLite.

Readers open the file for themselves, so that looking never waits for a run that writes.
"""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

import msgspec

from poeflow.digest import Json, decode_json
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
)
from poeflow.store.history_file import open_for_writing, reading
from poeflow.store.history_writer import RunWriter

_FITTING: Final = """
SELECT id, record, ending FROM runs
WHERE (:flow IS NULL OR flow = :flow)
  AND (:simulated IS NULL OR simulated = :simulated)
  AND (:since IS NULL OR started >= :since)
  AND (:state IS NULL OR :state = CASE
       WHEN exit_code IS NULL THEN 'unfinished'
       WHEN exit_code = 0 THEN 'ok'
       WHEN exit_code IN (130, 141, 143) THEN 'cancelled'
       ELSE 'failed' END)
"""
_SEARCHED: Final = " AND id IN (SELECT run FROM texts WHERE texts MATCH :words)"
_LOOKED_THROUGH: Final = " AND id IN (SELECT run FROM texts WHERE instr(lower(text), :words))"
_NEWEST: Final = " ORDER BY id DESC LIMIT :limit"
_OLD: Final = """
DELETE FROM runs WHERE started < :before OR (:keep IS NOT NULL AND id NOT IN
    (SELECT id FROM runs ORDER BY id DESC LIMIT coalesce(:keep, 0)))
"""
_UNUSED: Final = (
    "DELETE FROM texts WHERE run NOT IN (SELECT id FROM runs)",
    """DELETE FROM bodies WHERE NOT EXISTS (SELECT 1 FROM instances
    WHERE instances.fingerprint = bodies.fingerprint) AND NOT EXISTS (SELECT 1
    FROM requests WHERE requests.fingerprint = bodies.fingerprint)""",
)
_COUNTS: Final = """
SELECT coalesce((SELECT max(id) FROM runs), 0) + coalesce((SELECT max(id) FROM instances), 0)
     + coalesce((SELECT max(id) FROM requests), 0) + (SELECT count(exit_code) FROM runs)
     + (SELECT count(*) FROM requests WHERE answer IS NOT NULL)
"""
Record = TypeVar("Record")


class History:
    """The history at `path`; a `Records`. What goes wrong in keeping it goes to `told`."""

    def __init__(self, path: Path, *, told: Callable[[str], None]) -> None:
        self._path = path
        self._told = told
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
        writer = RunWriter(self._path, record, self._told)
        self._writers.append(writer)
        return writer

    def runs(self, wanted: RunFilter) -> tuple[RunRow, ...]:
        """Return the runs that fit, the newest first. Raises `DiskError`."""
        values: dict[str, object] = msgspec.structs.asdict(wanted)
        with reading(self._path) as connection:
            if connection is None:
                return ()
            search, words = _search(connection, wanted.text or "")
            sql = _FITTING + search + _NEWEST
            return tuple(map(_run_row, connection.execute(sql, {**values, "words": words})))

    def run(self, number: int) -> RunRow | None:
        """Return one run, None where there is none with this number. Raises `DiskError`."""
        with reading(self._path) as connection:
            if connection is None:
                return None
            sql = "SELECT id, record, ending FROM runs WHERE id = ?"
            found = connection.execute(sql, (number,)).fetchone()
            return None if found is None else _run_row(found)

    def instances(self, run: int) -> tuple[InstanceRecord, ...]:
        """Return the instances of a run, in the order they ended. Raises `DiskError`."""
        sql = """SELECT instances.record, bodies.body FROM instances
            LEFT JOIN bodies USING (fingerprint) WHERE run = ? ORDER BY instances.id"""
        with reading(self._path) as connection:
            rows = connection.execute(sql, (run,)) if connection is not None else ()
            return tuple(
                msgspec.structs.replace(_decoded(record, InstanceRecord), request=_body(body))
                for record, body in rows
            )

    def requests(self, run: int, instance: str | None = None) -> tuple[RequestRow, ...]:
        """Return the requests sent in a run, in order. Raises `DiskError`."""
        sql = """SELECT requests.id, requests.record, bodies.body, requests.answer FROM requests
            LEFT JOIN bodies USING (fingerprint)
            WHERE run = ? AND (? IS NULL OR instance = ?) ORDER BY requests.id"""
        with reading(self._path) as connection:
            if connection is None:
                return ()
            return tuple(
                RequestRow(
                    id=number,
                    record=msgspec.structs.replace(
                        _decoded(record, RequestRecord), request=_body(body) or {}
                    ),
                    answer=None if answer is None else _decoded(answer, AnswerRecord),
                )
                for number, record, body, answer in connection.execute(
                    sql, (run, instance, instance)
                )
            )

    def changes(self) -> int:
        """Return a number that is another one whenever something was added."""
        with reading(self._path) as connection:
            if connection is None:
                return 0
            (count,) = connection.execute(_COUNTS).fetchone()
            return int(count)

    def prune(self, *, before: float | None = None, keep: int | None = None) -> int:
        """Forget runs begun before a time in Unix seconds, and all but the newest `keep`.

        Returns how many they were. Nobody may be writing. Raises `DiskError`.
        """
        if not self.exists:
            return 0
        connection = open_for_writing(self._path, self._told)
        if connection is None:
            raise DiskError("the history was not made smaller", hint="see the warning above")
        with contextlib.closing(connection):
            try:
                connection.execute("BEGIN IMMEDIATE")
                gone = connection.execute(_OLD, {"before": before or 0.0, "keep": keep}).rowcount
                for sql in _UNUSED:
                    connection.execute(sql)
                if _is_indexed(connection):  # its words stay in the index until it is merged
                    connection.execute("INSERT INTO texts (texts) VALUES ('optimize')")
                connection.execute("COMMIT")
                connection.execute("VACUUM")
            except sqlite3.Error as error:
                raise DiskError(f"the history was not made smaller: {error}") from None
        return gone


def _search(connection: sqlite3.Connection, text: str) -> tuple[str, str]:
    """Return what more is asked of a run with all words of `text`, and how they are given."""
    words = text.replace("\0", " ").encode("utf-8", "replace").decode().split()
    if not words:
        return "", ""
    if not _is_indexed(connection):
        return _LOOKED_THROUGH, " ".join(words).lower()
    return _SEARCHED, " ".join('"' + word.replace('"', '""') + '"' for word in words)


def _is_indexed(connection: sqlite3.Connection) -> bool:
    """Whether the file was begun by an SQLite that knows full-text search."""
    sql = "SELECT 1 FROM sqlite_master WHERE name = 'texts' AND sql LIKE '%fts5%'"
    return connection.execute(sql).fetchone() is not None


def _run_row(row: tuple[int, str, str | None]) -> RunRow:
    number, record, ending = row
    return RunRow(
        id=number,
        record=_decoded(record, RunRecord),
        end=None if ending is None else _decoded(ending, RunEnd),
    )


def _decoded(data: str, kind: type[Record]) -> Record:
    """Return a record; a text with half a surrogate pair is beyond the fast decoder."""
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return msgspec.convert(decode_json(data.encode()), kind)


def _body(data: str | None) -> dict[str, Json] | None:
    found = None if data is None else decode_json(data.encode())
    return found if isinstance(found, dict) else None
