"""The file of the history: opened, brought up to date, and set aside where it is damaged."""

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote

from poeflow.errors import DiskError
from poeflow.store.folders import make_private

MIGRATIONS: Final = (Path(__file__).with_name("schema.sql"),)
"""What makes an older file a newer one, in order; `user_version` counts those that were run."""
WAIT: Final = 5.0
"""Seconds to wait for another process that writes."""
_SAFE_WAL: Final = (3, 51, 3)
"""From here on a write-ahead log survives a reset at a bad time: https://sqlite.org/wal.html."""
_FTS: Final = "CREATE VIRTUAL TABLE texts USING fts5(text, run UNINDEXED)"
_PLAIN: Final = "CREATE TABLE texts (text TEXT NOT NULL, run INTEGER NOT NULL)"
_OURS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class NewerError(Exception):
    """The file was written by a later version of poeflow."""


def open_for_writing(path: Path, told: Callable[[str], None]) -> sqlite3.Connection | None:
    """Return a connection that writes, None where there can be none; why is told in a sentence.

    A damaged file is set aside, never deleted, and a fresh one begun.
    """
    try:
        try:
            return _opened(path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            aside = set_aside(path)
            told(f"the history was damaged; it is kept as {aside.name}, and a new one begun")
            return _opened(path)
    except NewerError:
        told("the history was written by a newer version of poeflow; this run is not kept in it")
    except (sqlite3.Error, OSError, DiskError) as error:
        told(f"the history cannot be written, and this run is not kept: {error}")
    return None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """Yield a connection that only reads, None where there is no history. Raises `DiskError`."""
    if not path.exists():
        yield None
        return
    try:
        address = f"file:{quote(str(path))}?mode=ro"
        connection = sqlite3.connect(address, uri=True, timeout=WAIT, isolation_level=None)
        with contextlib.closing(connection):
            if _version(connection) > len(MIGRATIONS):
                raise DiskError("the history was written by a newer version", hint="update poeflow")
            yield connection if _version(connection) else None
    except sqlite3.Error as error:
        hint = "the next run sets a damaged one aside"
        raise DiskError(f"the history cannot be read: {error}", hint=hint) from None


def set_aside(path: Path) -> Path:
    """Rename a damaged file and its journals; return its new name."""
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    path.replace(aside)
    for ending in ("-wal", "-shm", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).replace(aside.with_name(aside.name + ending))
    return aside


def _opened(path: Path) -> sqlite3.Connection:
    make_private(path.parent)
    os.close(os.open(path, _OURS, 0o600))
    connection = sqlite3.connect(path, timeout=WAIT, isolation_level=None, check_same_thread=False)
    try:
        is_safe = sqlite3.sqlite_version_info >= _SAFE_WAL
        connection.execute(f"PRAGMA journal_mode = {'WAL' if is_safe else 'DELETE'}")
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if is_safe else 'FULL'}")
        connection.execute("PRAGMA foreign_keys = ON")
        _migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection) -> None:
    version = _version(connection)
    if version > len(MIGRATIONS):
        raise NewerError
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        texts = f"{_FTS if _has_fts(connection) else _PLAIN};" if number == 1 else ""
        connection.executescript(
            f"BEGIN IMMEDIATE; {script.read_text('utf-8')} {texts}"
            f" PRAGMA user_version = {number}; COMMIT;"
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _has_fts(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone()
    return found is not None
