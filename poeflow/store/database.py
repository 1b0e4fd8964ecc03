"""SQLite files, opened as if a stranger had made them.

A file is checked before SQLite opens it, its tables are compared with poeflow's own before anything
is read, and each statement has a limit. The modules that open a file know what its tables mean.
"""

import functools
import os
import sqlite3
import stat
import sys
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import msgspec

from poeflow.errors import DiskError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import regular
from poeflow.store.folders import owners

Mode = Literal["ro", "rw"]
COMPANIONS: Final = ("-wal", "-shm", "-journal")
"""Suffixes of the files that SQLite reads, writes and removes beside a database."""
BUDGET: Final = 1_000_000_000
"""Steps of SQLite's virtual machine that one statement may take: about ten seconds of work."""
MOST_RECENT: Final = 5000
"""How many recent rows are remembered by the hash of their content."""
_FILTER_BITS: Final = 23
_PAGE: Final = 4096
"""Bytes of a page of a filter."""
_NO_BITS: Final = bytes(_PAGE)
_PERIOD: Final = 100_000
"""Steps between two checks of the budget."""
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
        "data_version",  # the index of words detects changes by it
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
"""The actions that statements of poeflow need: no views, no triggers, no recursion."""
_NO_FUNCTIONS: Final = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile"})
_MODULE: Final = "fts5"
_SPACE: Final = lazy_pattern(r"[ \t\n\r\f]+")
"""The characters that are space to SQLite."""


class StrangeError(sqlite3.DatabaseError):
    """A file was not made by poeflow, and nothing in it was used. The text says why."""


class Thing(msgspec.Struct, frozen=True):
    """A table or an index as SQLite lists it; `sql` is None if SQLite made it by itself."""

    type: str
    name: str
    table: str
    sql: str | None


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """The tables and indices of a database: `scripts` make them, one for each version, in order.

    `called` is its name in messages. `index` are others that may be there, all or none; `settings`
    are queries of the index, each with the rows it must give.
    """

    called: str
    scripts: tuple[str, ...]
    index: frozenset[Thing] = frozenset()
    settings: Mapping[str, tuple[tuple[str, int], ...]] = {}

    def things(self, version: int) -> frozenset[Thing]:
        """Return the tables and indices of a file of a version, without the index of words."""
        return _made_by(self.scripts[:version])


@functools.cache
def _made_by(scripts: tuple[str, ...]) -> frozenset[Thing]:
    """Return the tables and indices that scripts make, by running them."""
    made = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for script in scripts:
            made.executescript(script)
        return frozenset(_things(made, most=1000))
    finally:
        made.close()


class KeyFilter:
    """A Bloom filter: says which keys are certainly not in the store, in memory of bounded size.

    Rarely, a missing key is not recognized.
    """

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}
        """The bits by pages; a page without any is not here."""

    def add(self, key: bytes) -> None:
        for place in _places(key):
            number, byte = divmod(place >> 3, _PAGE)
            page = self._pages.get(number)
            if page is None:
                page = self._pages[number] = bytearray(_PAGE)
            page[byte] |= 1 << (place & 7)

    def may_have(self, key: bytes) -> bool:
        return all(
            self._pages.get((place >> 3) // _PAGE, _NO_BITS)[(place >> 3) % _PAGE]
            & 1 << (place & 7)
            for place in _places(key)
        )


def _places(key: bytes) -> tuple[int, int, int]:
    number = int.from_bytes(blake2b(key, digest_size=12).digest(), "big")
    mask = (1 << _FILTER_BITS) - 1
    return number & mask, (number >> 32) & mask, (number >> 64) & mask


class Database(sqlite3.Connection):
    """A connection that limits its statements: each may take `budget` steps, until `renew`.

    `version` is the file's, once it was compared. A writer sets `has_index`, and may set `keys`
    to collect all keys that are written.
    """

    budget: int = BUDGET
    version: int = 0
    has_index: bool = False
    keys: KeyFilter | None = None
    _spent: int = 0
    _recent: "dict[bytes, int] | None" = None
    _data_version: int = 0

    @property
    def recent(self) -> "dict[bytes, int]":
        """The numbers of rows written lately, by a hash of their content.

        Outside of a transaction that `begin` began, it is empty and forgets what is added.
        """
        if self._recent is None:
            return {}
        if len(self._recent) > MOST_RECENT:
            self._recent.clear()
        return self._recent

    def begin(self) -> None:
        """Begin a transaction that writes. If another connection wrote, `recent` is emptied."""
        self.renew()
        self.execute("BEGIN IMMEDIATE")
        (version,) = self.execute("PRAGMA data_version").fetchone()
        if version != self._data_version or self._recent is None:
            self._recent, self._data_version = {}, version

    def note(self, key: bytes) -> None:
        """Note a key that is written."""
        if self.keys is not None:
            self.keys.add(key)

    def give_up(self) -> None:
        """Roll the transaction back, if there is one."""
        self._recent = None
        if self.in_transaction:
            self.execute("ROLLBACK")

    def renew(self) -> None:
        """Reset the count of steps, for the next piece of work."""
        self._spent = 0

    @property
    def is_spent(self) -> bool:
        """Whether a statement was ended because it took too long."""
        return self._spent > self.budget

    def guard(self) -> None:
        """Turn off what a file could make SQLite do, and limit its work."""
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
    """Check a file, then return a guarded connection to it.

    `wait` is how many seconds to wait for another process that writes. Raises `StrangeError` if it
    is not a plain file of the user's, and `sqlite3.Error`.
    """
    refuse_strange(path)
    address = f"file:{quote(os.fsencode(path))}?mode={mode}"
    found = sqlite3.connect(
        address,
        uri=True,
        timeout=wait,
        isolation_level=None,
        factory=Database,
        check_same_thread=False,  # threads that share one use a lock
    )
    try:
        found.guard()
    except BaseException:
        found.close()
        raise
    return found


def refuse_strange(path: Path) -> None:
    """Raise `StrangeError` if SQLite must not open a file, or a journal beside it."""
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
    if _names_super_journal(path.with_name(path.name + "-journal")):
        raise StrangeError("its journal names another file")


def compare(connection: Database, form: Form) -> None:
    """Check that a file has the tables of its version and nothing else; set its version.

    Raises `StrangeError` if not, `DiskError` for a file of a newer poeflow.
    """
    connection.execute("BEGIN")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > len(form.scripts):
            message = f"{form.called} was written by a newer version of poeflow"
            raise DiskError(message, hint="update poeflow to use it")
        _compare(connection, form, int(version))
        connection.version = int(version)
    except UnicodeDecodeError:  # in the words of SQLite, which quote the file
        raise StrangeError("its list of tables is not UTF-8") from None
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
            raise StrangeError("the settings of its index differ")


def _things(connection: sqlite3.Connection, *, most: int) -> list[Thing]:
    """Return the tables and indices that a file lists, without comments and line ends."""
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
    """Return a statement without comments and extra space, or unchanged if it has quotes."""
    code = "\n".join(line.partition("--")[0] for line in sql.split("\n"))
    return sql if set(code) & set("'\"`[") else " ".join(_SPACE.split(code.strip(" \t\n\r\f")))


def _lenient(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _names_super_journal(journal: Path) -> bool:
    """Whether a journal names a super-journal, which SQLite would then remove."""
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
    """Permit the actions that poeflow's statements need, and none from a view or a trigger."""
    is_fine = within is None and (
        action in _ACTIONS
        or (action == sqlite3.SQLITE_PRAGMA and first in _KNOWN_PRAGMAS)
        or (action == sqlite3.SQLITE_FUNCTION and (second or "").lower() not in _NO_FUNCTIONS)
        or (action == sqlite3.SQLITE_CREATE_VTABLE and (second or "").lower() == _MODULE)
        or (action == sqlite3.SQLITE_ATTACH and not first)  # a nameless one, for VACUUM
    )
    return sqlite3.SQLITE_OK if is_fine else sqlite3.SQLITE_DENY
