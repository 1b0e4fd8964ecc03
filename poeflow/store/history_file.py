"""The file of the history: opened, brought up to date, and set aside where it is damaged."""

import contextlib
import fcntl
import functools
import itertools
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from poeflow.errors import DiskError
from poeflow.opener import read_packaged, regular
from poeflow.store.database import (
    COMPANIONS,
    Database,
    Form,
    Mode,
    StrangeError,
    compare,
    connected,
    refuse_strange,
)
from poeflow.store.folders import check_folder, disk_errors, make_private, owners
from poeflow.store.history_rows import INDEX_SETTINGS, INDEX_THINGS

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
_UNREADABLE: Final = (sqlite3.Error, msgspec.MsgspecError, ValueError, TypeError, RecursionError)
"""What rows that are no records of ours lead to, besides damage."""
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@functools.cache
def form() -> Form:
    """Return what a history holds."""
    scripts = tuple(read_packaged(script).decode() for script in MIGRATIONS)
    return Form(called="the history", scripts=scripts, index=INDEX_THINGS, settings=INDEX_SETTINGS)


@contextlib.contextmanager
def writing(path: Path, told: Callable[[str], None], *, journal: Journal) -> Iterator[Database]:
    """Yield a connection that writes; while the block lasts the file is marked as written to.

    A file that is damaged, or that poeflow did not make, is set aside, never deleted, and a fresh
    one begun: that is `told`. Raises `DiskError`, also where damage shows later, `OSError` and
    `sqlite3.Error`.
    """
    make_private(path.parent)
    with _marked(path) as mark:
        try:
            connection = _opened(path, journal)
        except sqlite3.DatabaseError as error:
            aside = _set_aside(path, mark, error)
            why = f" ({error})" if isinstance(error, StrangeError) else ""
            told(f"the history was damaged{why}; it is kept as {aside.name}, and a new one begun")
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
def reading(path: Path) -> Iterator[Database | None]:
    """Yield a connection that only reads, None where there is no history. Raises `DiskError`."""
    if not os.path.lexists(path):
        yield None
        return
    check_folder(path.parent, owners(path.parent.parent))
    try:
        with contextlib.closing(_readable(path)) as connection, _told_apart(connection):
            yield connection if connection.version else None
    except _UNREADABLE as error:
        hint = "the next run sets a damaged one aside"
        raise DiskError(f"the history cannot be read: {error}", hint=hint) from None


@contextlib.contextmanager
def _told_apart(connection: Database) -> Iterator[None]:
    """Tell Ctrl-C from a statement that took too long: SQLite ends both in the same way."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        if not connection.is_spent:
            raise KeyboardInterrupt from None
        raise StrangeError("it takes too long") from None


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
    is_damage = isinstance(error, StrangeError) or code & 0xFF in _DAMAGE
    if not is_damage or not _is_alone(mark):
        raise error
    aside = _free_name(path)
    for ending in ("", *COMPANIONS):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(aside.with_name(aside.name + ending))
    return aside


def _free_name(path: Path) -> Path:
    """Return the first name to set a file aside under that neither it nor its journals have."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")
        names = (aside.with_name(aside.name + ending) for ending in ("", *COMPANIONS))
        if not any(map(os.path.lexists, names)):
            return aside
    raise AssertionError("numbers do not end")


def _opened(path: Path, journal: Journal) -> Database:
    refuse_strange(path)
    with disk_errors(path, "opened"):
        os.close(os.open(path, _CREATE, 0o600))
    connection = connected(path, "rw", wait=WAIT)
    try:
        compare(connection, form())
        connection.execute(f"PRAGMA journal_mode = {journal}")
        connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[journal]}")
        if connection.version < len(MIGRATIONS):
            _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _readable(path: Path) -> Database:
    """Open a file for reading; what a killed process left half written is rolled back first."""
    try:
        return _checked(path, "ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in _TO_RECOVER:
            raise
    _checked(path, "rw").close()
    return _checked(path, "ro")


def _checked(path: Path, mode: Mode) -> Database:
    connection = connected(path, mode, wait=WAIT)
    try:
        compare(connection, form())
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: Database) -> None:
    """Bring a file up to date, whole or not at all, however many do it at the same time."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        for script in form().scripts[version:]:
            for statement in _statements(script):
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
