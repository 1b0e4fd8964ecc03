"""SQLite files, opened as if a stranger had made them.

A file is looked at before SQLite opens it, what it holds is compared with what poeflow makes before
anything in it is used, and no statement goes on without end. What the tables are for is known to
those who open it.
"""

import os
import re
import sqlite3
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import msgspec

from poeflow.errors import DiskError
from poeflow.opener import regular
from poeflow.store.folders import owners

Mode = Literal["ro", "rw"]
COMPANIONS: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a file, and reads, writes and removes with it."""
BUDGET: Final = 1_000_000_000
"""Steps of SQLite's machine that one statement may take: some ten seconds of work."""
_PERIOD: Final = 100_000
"""Steps from one look at the budget to the next."""
_JOURNAL_MAGIC: Final = bytes.fromhex("d9d505f920a163d7")
"""Ends a journal that names a super-journal: https://sqlite.org/fileformat2.html#the_rollback_journal."""
_MOST_LENGTH: Final = 256 * 1024 * 1024
_PRAGMAS: Final = (
    "trusted_schema = OFF",
    "cell_size_check = ON",
    "mmap_size = 0",
    "writable_schema = OFF",
    "recursive_triggers = OFF",
)
_KNOWN_PRAGMAS: Final = frozenset(
    {
        *("user_version", "journal_mode", "synchronous"),
        "data_version",  # by which the index of words sees a change
    }
)
_ACTIONS: Final = frozenset(
    {
        *(sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_INSERT),
        *(sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE, sqlite3.SQLITE_TRANSACTION),
        *(sqlite3.SQLITE_SAVEPOINT, sqlite3.SQLITE_CREATE_TABLE, sqlite3.SQLITE_CREATE_INDEX),
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_REINDEX,  # part of making an index
        sqlite3.SQLITE_DETACH,  # of what could be attached
    }
)
"""What statements of poeflow do: no views, no triggers, no recursion."""
_NO_FUNCTIONS: Final = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile"})
_MODULE: Final = "fts5"
_SPACE: Final = re.compile(r"[ \t\n\r\f]+")
"""What SQLite takes for space, and nothing else."""


class StrangeError(sqlite3.DatabaseError):
    """A file is not what poeflow makes: nothing in it was used. The text says why."""


class Thing(msgspec.Struct, frozen=True):
    """A table or an index as SQLite has it; `sql` is None where SQLite makes it by itself."""

    type: str
    name: str
    table: str
    sql: str | None


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What a database holds: things made by `scripts`, one for each version, in order.

    `called` is what messages call it. `index` are things that may be there too, all or none;
    `settings` is what each of its tables named here holds.
    """

    called: str
    scripts: tuple[str, ...]
    index: frozenset[Thing] = frozenset()
    settings: Mapping[str, tuple[tuple[str, int], ...]] = {}

    def things(self, version: int) -> frozenset[Thing]:
        """Return what a file of a version holds, the index left out."""
        made = sqlite3.connect(":memory:", isolation_level=None)
        try:
            for script in self.scripts[:version]:
                made.executescript(script)
            return frozenset(_things(made, most=1000))
        finally:
            made.close()


class Database(sqlite3.Connection):
    """A connection whose statements end: each may take `budget` steps, counted by `renew`.

    `version` is that of what it holds, once that was compared.
    """

    budget: int = BUDGET
    version: int = 0
    _spent: int = 0

    def renew(self) -> None:
        """Begin to count anew: what follows is another piece of work."""
        self._spent = 0

    @property
    def is_spent(self) -> bool:
        """Whether a statement was ended because it took too long."""
        return self._spent > self.budget

    def guard(self) -> None:
        """Turn off what a file could have SQLite do, and bound what it does."""
        self.set_progress_handler(self._count, _PERIOD)
        self.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_LENGTH)
        self.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 1)  # which VACUUM uses
        if sys.version_info >= (3, 12):
            self.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
            for switch in (
                sqlite3.SQLITE_DBCONFIG_ENABLE_TRIGGER,
                sqlite3.SQLITE_DBCONFIG_ENABLE_VIEW,
                sqlite3.SQLITE_DBCONFIG_TRUSTED_SCHEMA,
                sqlite3.SQLITE_DBCONFIG_DQS_DDL,
                sqlite3.SQLITE_DBCONFIG_DQS_DML,
            ):
                self.setconfig(switch, False)
        for pragma in _PRAGMAS:
            self.execute(f"PRAGMA {pragma}")
        self.set_authorizer(_permitted)

    def _count(self) -> int:
        self._spent += _PERIOD
        return int(self.is_spent)


def connected(path: Path, mode: Mode, *, wait: float) -> Database:
    """Return a guarded connection to a file that was looked at first.

    `wait` is how many seconds to wait for another process that writes. Raises `StrangeError` for
    what is no plain file of ours, and `sqlite3.Error`.
    """
    refuse_strange(path)
    address = f"file:{quote(os.fsencode(path))}?mode={mode}"
    found = sqlite3.connect(address, uri=True, timeout=wait, isolation_level=None, factory=Database)
    try:
        found.guard()
    except BaseException:
        found.close()
        raise
    return found


def refuse_strange(path: Path) -> None:
    """Raise `StrangeError` for a file, or what is beside it, that SQLite must not open."""
    allowed = owners(path.parent)
    for name in (path.name, *(path.name + ending for ending in COMPANIONS)):
        try:
            status = path.with_name(name).lstat()
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(status.st_mode):
            raise StrangeError(f"{name} is a link")
        if not stat.S_ISREG(status.st_mode):
            raise StrangeError(f"{name} is not a regular file")
        if status.st_uid not in allowed:
            raise StrangeError(f"{name} belongs to another user")
    if _names_another(path.with_name(path.name + "-journal")):
        raise StrangeError("its journal names another file")


def compare(connection: Database, form: Form) -> None:
    """Note the version of a file that holds what it should, and nothing else.

    Raises `StrangeError` for any other, `DiskError` for one of a newer poeflow.
    """
    connection.execute("BEGIN")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(form.scripts):
            message = f"{form.called} was written by a newer version of poeflow"
            raise DiskError(message, hint="update poeflow to keep and see runs in it")
        _compare(connection, form, int(version))
        connection.version = int(version)
    except UnicodeDecodeError:  # in the words of SQLite, which quote the file
        raise StrangeError("what it is to hold is not said in UTF-8") from None
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _compare(connection: Database, form: Form, version: int) -> None:
    if version < 0:
        raise StrangeError("its version is below zero")
    expected = form.things(version)
    found = frozenset(_things(connection, most=len(expected | form.index) + 1))
    has_index = bool(form.index) and form.index <= found
    strange = (found - form.index if has_index else found) ^ expected
    if strange:
        one = min(strange, key=lambda thing: (thing.type, thing.name))
        how = "was not made by poeflow" if one in found else "is not there as poeflow makes it"
        raise StrangeError(f"{one.type} {one.name[:60]!r} {how}")
    for select, rows in form.settings.items() if has_index else ():
        if tuple(connection.execute(select)) != rows:
            raise StrangeError("the settings of its index are others")


def _things(connection: sqlite3.Connection, *, most: int) -> list[Thing]:
    """Return what a file says that it holds, comments and line ends in our own SQL left out."""
    connection.text_factory = _lenient
    try:
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
        return [_thing(row) for row in rows.fetchmany(most)]
    finally:
        connection.text_factory = str


def _thing(row: tuple[object, ...]) -> Thing:
    type_, name, table, sql = row
    return Thing(str(type_), str(name), str(table), None if sql is None else plain_sql(str(sql)))


def plain_sql(sql: str) -> str:
    """Return a statement without comments and needless space; with quotes in it, as it is."""
    code = "\n".join(line.partition("--")[0] for line in sql.split("\n"))
    return sql if set(code) & set("'\"`[") else " ".join(_SPACE.split(code.strip(" \t\n\r\f")))


def _lenient(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _names_another(journal: Path) -> bool:
    """Whether a journal names the journal of several databases, which SQLite would then remove."""
    length = len(_JOURNAL_MAGIC)
    try:
        with regular(journal.parent, (journal.name,)) as (handle, status):
            end = os.pread(handle, length, max(0, status.st_size - length))
            return end == _JOURNAL_MAGIC
    except FileNotFoundError:
        return False


def _permitted(
    action: int, first: str | None, second: str | None, _base: str | None, within: str | None
) -> int:
    """Permit what poeflow's own statements do, and nothing on behalf of a view or a trigger."""
    is_fine = within is None and (
        action in _ACTIONS
        or (action == sqlite3.SQLITE_PRAGMA and first in _KNOWN_PRAGMAS)
        or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in _NO_FUNCTIONS)
        or (action == sqlite3.SQLITE_CREATE_VTABLE and (second or "").lower() == _MODULE)
        or (action == sqlite3.SQLITE_ATTACH and not first)  # a nameless one, for VACUUM
    )
    return sqlite3.SQLITE_OK if is_fine else sqlite3.SQLITE_DENY
