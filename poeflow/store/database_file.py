"""The file of the store: opened, upgraded, read, and renamed if it is damaged."""

import contextlib
import fcntl
import functools
import itertools
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from poeflow.errors import DiskError
from poeflow.opener import read_packaged, regular
from poeflow.store.contents import INDEX_SETTINGS, INDEX_THINGS
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

Journal = Literal["wal", "delete"]
MIGRATIONS: Final = tuple(Path(__file__).with_name(f"schema-{n}.sql") for n in (1, 2))
"""The scripts that upgrade a file, in order; `user_version` counts those that were run."""
WAIT: Final = 15.0
"""Seconds to wait for another process that writes: on a busy disk a commit may take one."""
FIXED_WAL: Final = (3, 51, 3)
"""Before this version, a log that is reset at a bad time loses commits:
https://sqlite.org/wal.html#walresetbug."""
JOURNAL: Final[Journal] = "wal" if sqlite3.sqlite_version_info >= FIXED_WAL else "delete"
"""The journal mode in which commits survive a kill and a power cut in this version of SQLite."""
_DAMAGED_HINT: Final = "the next run sets a damaged one aside"
_MODES: Final = {"wal": "WAL", "delete": "PERSIST"}
"""The journal mode while a file is open for writing. A rollback journal is emptied after each
transaction and deleted at the end: deleting it each time takes ten times as long."""
TO_RECOVER: Final = {
    sqlite3.SQLITE_READONLY_ROLLBACK,
    sqlite3.SQLITE_READONLY_RECOVERY,
    sqlite3.SQLITE_READONLY_CANTINIT,
}
_DAMAGE: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
UNREADABLE: Final = (sqlite3.Error, msgspec.MsgspecError, ValueError, TypeError, RecursionError)
"""Errors from reading rows that are not poeflow's records, besides damage."""
_CREATE: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class DamagedStoreError(DiskError):
    """A store is damaged, or was not made by poeflow."""


class SetAsideError(DiskError):
    """A file in use was found damaged, and was renamed."""


@functools.cache
def form() -> Form:
    """Return what a store holds."""
    scripts = tuple(read_packaged(script).decode() for script in MIGRATIONS)
    return Form(called="the store", scripts=scripts, index=INDEX_THINGS, settings=INDEX_SETTINGS)


@contextlib.contextmanager
def writing(
    path: Path, warn: Callable[[str], None], *, journal: Journal = JOURNAL
) -> Iterator[Database]:
    """Yield a connection that writes. Until the block ends, the file is marked as being written.

    A file that is damaged, or that poeflow did not make, is renamed, never deleted, and a new one
    is begun: `warn` gets a message. Raises `DiskError`, also for damage that is found later,
    `OSError` and `sqlite3.Error`.
    """
    make_private(path.parent)
    with _marked(path) as mark:
        try:
            connection = _opened(path, journal)
        except sqlite3.DatabaseError as error:
            aside = _set_aside(path, mark, error)
            why = f" ({error})" if isinstance(error, StrangeError) else ""
            warn(f"the store was damaged{why}; it was renamed to {aside.name}, and a new one begun")
            connection = _opened(path, journal)
            fcntl.flock(mark, fcntl.LOCK_SH)
        try:
            with contextlib.closing(connection):
                yield connection
                if journal == "delete":
                    with contextlib.suppress(sqlite3.OperationalError):  # another reads or writes
                        connection.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.DatabaseError as error:
            aside = _set_aside(path, mark, error)
            message = f"the store was damaged; it was renamed to {aside.name}"
            raise SetAsideError(message, hint="the next run begins a new one") from None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Database | None]:
    """Yield a connection that only reads, None if there is no file. Raises `DiskError`."""
    if not os.path.lexists(path):
        yield None
        return
    check_folder(path.parent, owners(path.parent.parent))
    try:
        with contextlib.closing(readable(path)) as connection, telling_interrupts(connection):
            yield connection if connection.version else None
    except UNREADABLE as error:
        raise DiskError(f"the store cannot be read: {error}", hint=_DAMAGED_HINT) from None


@contextlib.contextmanager
def telling_interrupts(connection: Database) -> Iterator[None]:
    """Distinguish Ctrl-C from a statement that took too long: SQLite ends both the same way."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        if not connection.is_spent:
            raise KeyboardInterrupt from None
        raise StrangeError("it takes too long") from None


def is_written(path: Path) -> bool:
    """Whether any process, this one included, has the file open for writing."""
    mark = mark_of(path)
    try:
        with regular(mark.parent, (mark.name,)) as (handle, _):
            return not _is_alone(handle)
    except OSError:
        return False


def mark_of(path: Path) -> Path:
    return path.with_suffix(".lock")


@contextlib.contextmanager
def _marked(path: Path) -> Iterator[int]:
    with disk_errors(mark_of(path), "opened"):
        handle = os.open(mark_of(path), _CREATE, 0o600)
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

    Raises `error` if it is not about damage, or if another process has the file open for writing.
    """
    if not is_damage(error) or not _is_alone(mark):
        raise error
    aside = _free_name(path)
    for ending in ("", *COMPANIONS):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(aside.with_name(aside.name + ending))
    return aside


def is_damage(error: BaseException) -> bool:
    """Whether an error says that a file is damaged, or was not made by poeflow."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return isinstance(error, StrangeError) or code & 0xFF in _DAMAGE


def _free_name(path: Path) -> Path:
    """Return the first new name for a damaged file that is free, also for its journals."""
    for number in itertools.count(1):
        aside = path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")
        names = (aside.with_name(aside.name + ending) for ending in ("", *COMPANIONS))
        if not any(map(os.path.lexists, names)):
            return aside
    raise AssertionError("numbers do not end")


def _opened(path: Path, journal: Journal) -> Database:
    refuse_strange(path)
    if not path.exists():  # opening and closing one drops this process's locks on it
        with disk_errors(path, "opened"):
            os.close(os.open(path, _CREATE, 0o600))
    connection = connected(path, "rw", wait=WAIT)
    try:
        compare(connection, form())
        connection.execute(f"PRAGMA journal_mode = {_MODES[journal]}")
        connection.execute("PRAGMA synchronous = FULL")
        if connection.version < len(MIGRATIONS):
            _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def readable(path: Path) -> Database:
    """Open a file for reading, after rolling back the unfinished write of a killed process."""
    try:
        return _checked(path, "ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode not in TO_RECOVER:
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
    """Upgrade a file in one transaction; several processes may try at the same time."""
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


class RowReader:
    """Reads rows of the store at `path`. While there is no file, it finds nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: Database | None = None
        self._inode = 0

    def __del__(self) -> None:
        self._close()

    def row(self, sql: str, values: tuple[object, ...]) -> tuple[object, ...] | None:
        """Return the first row of a query on tables that version 1 does not have, or None.

        Raises `DiskError`: a `DamagedStoreError` if the file is damaged.
        """
        rows = self.rows(sql, values, most=1)
        return rows[0] if rows else None

    def rows(self, sql: str, values: tuple[object, ...], *, most: int) -> list[tuple[object, ...]]:
        """Return up to `most` rows, as `row` does. Raises as `row`."""
        with self._lock:
            try:
                return self._rows(sql, values, most)
            except (sqlite3.Error, OSError) as error:
                self._close()
                kind = DamagedStoreError if is_damage(error) else DiskError
                raise kind(f"the store cannot be read: {error}", hint=_DAMAGED_HINT) from None

    def _rows(self, sql: str, values: tuple[object, ...], most: int) -> list[tuple[object, ...]]:
        connection = self._opened()
        if connection is None or connection.version < 2:
            return []
        connection.renew()
        try:
            with telling_interrupts(connection):
                return connection.execute(sql, values).fetchmany(most)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode not in TO_RECOVER:
                raise
        self._close()  # a process was killed while writing: opening the file rolls that back
        connection = self._opened()
        return [] if connection is None else connection.execute(sql, values).fetchmany(most)

    def _opened(self) -> Database | None:
        """Return a connection to the current file, None if there is none."""
        try:
            inode = os.lstat(self._path).st_ino
        except FileNotFoundError:
            inode = 0
        if inode != self._inode or (self._connection is not None and self._connection.version < 2):
            self._close()
        if inode and self._connection is None:
            check_folder(self._path.parent, owners(self._path.parent.parent))
            self._connection = readable(self._path)
            self._inode = inode
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._inode = None, 0
