"""Making the history smaller: whole runs are forgotten, with all that only they held."""

import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from poeflow.errors import DiskError
from poeflow.store.database import Database
from poeflow.store.history_file import Journal, is_written, writing
from poeflow.store.history_search import add_index, index_again

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
