"""The file of the history: opened, brought up to date, and set aside where it is damaged."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import msgspec

from poeflow.errors import DiskError
from poeflow.opener import read_packaged, regular
from poeflow.store.folders import disk_errors, make_private

Journal = Literal["wal", "delete"]
MIGRATIONS: Final = (Path(__file__).with_name("schema.sql"),)
"""What makes an older file a newer one, in order; `user_version` counts those that were run."""
WAIT: Final = 15.0
"""Seconds to wait for another process that writes: on a busy disk a commit may take one."""
FIXED_WAL: Final = (3, 51, 3)
"""Before it a log that is reset at a bad time loses what was committed:
https://sqlite.org/wal.html#walresetbug."""
JOURNAL: Final[Journal] = "wal" if sqlite3.sqlite_version_info >= FIXED_WAL else "delete"
"""How what is committed survives a kill and a power cut, as this SQLite can."""
_SYNCHRONOUS: Final = {"wal": "NORMAL", "delete": "FULL"}
_TO_RECOVER: Final = {
    sqlite3.SQLITE_READONLY_ROLLBACK,
    sqlite3.SQLITE_READONLY_RECOVERY,
    sqlite3.SQLITE_READONLY_CANTINIT,
}
_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@contextlib.contextmanager
def writing(
    path: Path, told: Callable[[str], None], *, journal: Journal
) -> Iterator[sqlite3.Connection]:
    """Yield a connection that writes; while the block lasts the file is marked as written to.

    A damaged file is set aside, never deleted, and a fresh one begun: that is `told`. Raises
    `DiskError`, also where damage shows later, `OSError` and `sqlite3.Error`.
    """
    make_private(path.parent)
    with _marked(path) as mark:
        try:
            connection = _opened(path, journal)
        except sqlite3.DatabaseError as error:
            aside = _set_aside(path, mark, error)
            told(f"the history was damaged; it is kept as {aside.name}, and a new one begun")
            connection = _opened(path, journal)
            fcntl.flock(mark, fcntl.LOCK_SH)
        try:
            with contextlib.closing(connection):
                yield connection
        except sqlite3.DatabaseError as error:
            aside = _set_aside(path, mark, error)
            message = f"the history was damaged; it is kept as {aside.name}"
            raise DiskError(message, hint="the next run begins a new one") from None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Yield a connection that only reads, None where there is no history. Raises `DiskError`."""
    if not path.exists():
        yield None
        return
    try:
        with contextlib.closing(_readable(path)) as connection:
            yield connection if _known_version(connection) else None
    except (sqlite3.Error, msgspec.ValidationError, UnicodeDecodeError) as error:
        hint = "the next run sets a damaged one aside"
        raise DiskError(f"the history cannot be read: {error}", hint=hint) from None


def is_written(path: Path) -> bool:
    """Whether some process, perhaps this one, writes a run at the moment."""
    mark = _mark_of(path)
    try:
        with regular(mark.parent, (mark.name,)) as (handle, _):
            return not _is_alone(handle)
    except OSError:
        return False


def _mark_of(path: Path) -> Path:
    return path.with_suffix(".lock")


@contextlib.contextmanager
def _marked(path: Path) -> Iterator[int]:
    with disk_errors(_mark_of(path), "opened"):
        handle = os.open(_mark_of(path), _CREATE, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield handle
    finally:
        os.close(handle)


def _is_alone(mark: int) -> bool:
    try:
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _set_aside(path: Path, mark: int, error: sqlite3.DatabaseError) -> Path:
    """Rename a damaged file and its journals; return its new name.

    Raises `error` where it says nothing of damage, or where others have the file open.
    """
    code: int = getattr(error, "sqlite_errorcode", 0)
    if code & 0xFF not in _DAMAGE or not _is_alone(mark):
        raise error
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    path.replace(aside)
    for ending in ("-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(aside.with_name(aside.name + ending))
    return aside


def _opened(path: Path, journal: Journal) -> sqlite3.Connection:
    with disk_errors(path, "opened"):
        os.close(os.open(path, _CREATE, 0o600))
    connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        version = _known_version(connection)
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[journal]}")
        if version < len(MIGRATIONS):
            _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _readable(path: Path) -> sqlite3.Connection:
    """Open a file for reading; what a killed process left half written is rolled back first."""
    connection = _connected(path, "ro")
    try:
        _version(connection)
    except sqlite3.OperationalError as error:
        connection.close()
        if error.sqlite_errorcode not in _TO_RECOVER:
            raise
        with contextlib.closing(_connected(path, "rw")) as recovering:
            _version(recovering)
        connection = _connected(path, "ro")
    except BaseException:
        connection.close()
        raise
    return connection


def _connected(path: Path, mode: Literal["ro", "rw"]) -> sqlite3.Connection:
    address = f"file:{quote(os.fsencode(path))}?mode={mode}"
    connection = sqlite3.connect(address, uri=True, timeout=WAIT, isolation_level=None)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    """Bring a file up to date, whole or not at all, however many do it at the same time."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _version(connection)
        for script in MIGRATIONS[version:]:
            for statement in _statements(read_packaged(script).decode()):
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; `executescript` would end the transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _known_version(connection: sqlite3.Connection) -> int:
    version = _version(connection)
    if version > len(MIGRATIONS):
        message = "the history was written by a newer version of poeflow"
        raise DiskError(message, hint="update poeflow to keep and see runs in it")
    return version
