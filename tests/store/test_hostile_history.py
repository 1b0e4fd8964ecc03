"""A history that a stranger made: none of it is used, and nothing outside is touched."""

import asyncio
import os
import resource
import shutil
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

import pytest

from poeflow.errors import DiskError
from poeflow.records import InstanceRecord, RequestRecord, RunEnd, RunFilter, RunRecord
from poeflow.store.database import StrangeError, compare, connected
from poeflow.store.database_file import form, reading
from poeflow.store.history import History

RUN = RunRecord(flow="//a.yaml", name="a", started=1.0, simulated=False, version="1")
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "project" / ".poeflow" / "history.db"
    for _ in range(2):
        assert kept(path) == []
    return path


def kept(path: Path) -> list[str]:
    """Keep a run, and return what was told of the history meanwhile."""
    told: list[str] = []
    request = RequestRecord(
        instance="draft", fingerprint="f", provider="poe", model="A", began=0.0,
        request={"body": {"messages": [{"role": "user", "content": "on otters"}]}},
    )  # fmt: skip
    with History(path, warn=told.append) as history:
        recorder = history.begin(RUN)
        asyncio.run(recorder.requested(request))
        recorder.instance(InstanceRecord(id="draft", step="draft", status="ok", text="otters"))
        recorder.ended(RunEnd(exit_code=0, seconds=1.0))
    return told


def looked(path: Path) -> None:
    """Look at the history in all ways there are."""
    history = History(path, warn=pytest.fail)
    history.runs(RunFilter(text="otters"))
    history.run(1)
    history.instances(1)
    history.requests(1)
    history.made("f")
    history.changes()
    history.running()


def names(path: Path) -> set[str]:
    return {one.name for one in path.parent.iterdir()}


def altered(path: Path, *statements: str) -> None:
    """Change a database past all that SQLite forbids."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)


SCHEMAS = {
    "a view that never ends": (
        "ALTER TABLE runs RENAME TO other",
        (
            f"CREATE VIEW runs AS {ENDLESS} i AS id, '' AS flow, 0 AS started, 0 AS simulated,"
            " '{}' AS record, 0 AS exit_code, '' AS ending FROM n"
        ),
    ),
    "a trigger that never ends": (
        f"CREATE TRIGGER t AFTER INSERT ON runs BEGIN {ENDLESS} count(*) FROM n; END",
    ),
    "a trigger on pruning": (
        f"CREATE TRIGGER t BEFORE DELETE ON runs BEGIN {ENDLESS} count(*) FROM n; END",
    ),
    "an index on an expression": ("CREATE INDEX i ON runs (abs(started))",),
    "a partial index": ("CREATE INDEX i ON runs (flow) WHERE length(record) > 5",),
    "a virtual table": ("CREATE VIRTUAL TABLE v USING fts5(words)",),
    "another index of words": (
        "DROP TABLE search",
        "CREATE VIRTUAL TABLE search USING fts5(words, content='runs')",
    ),
    "a generated column": ("ALTER TABLE runs ADD COLUMN g AS (randomblob(100000000))",),
    "a check": (
        (
            "UPDATE sqlite_master SET sql = replace(sql, 'ending TEXT', 'ending TEXT CHECK ("
            "length(randomblob(1000000000)) > 0)') WHERE name = 'runs'"
        ),
    ),
    "a default": (
        (
            "UPDATE sqlite_master SET sql = replace(sql, 'ending TEXT', 'ending TEXT DEFAULT ("
            "randomblob(1000000000))') WHERE name = 'runs'"
        ),
    ),
    "a table of its own": ("CREATE TABLE extra (x)",),
    "no table": ("DROP TABLE requests",),
    "an index of words without its parts": (
        "DELETE FROM sqlite_master WHERE name = 'search_docsize'",
    ),
    "settings of the index": ("INSERT INTO search_config VALUES ('rank', 'load_extension()')",),
    "another version of the index": ("UPDATE search_config SET v = 5 WHERE k = 'version'",),
    "a number of version below zero": ("PRAGMA user_version = -5",),
    "a schema that cannot be read": (
        "UPDATE sqlite_master SET sql = 'CREATE NONSENSE' WHERE name = 'runs'",
    ),
    "names that are no text": ("UPDATE sqlite_master SET tbl_name = x'ff' WHERE name = 'runs'",),
}


@pytest.mark.parametrize("kind", SCHEMAS)
def test_what_poeflow_did_not_make_is_set_aside(path, kind):
    altered(path, *SCHEMAS[kind])
    before = path.read_bytes()
    with pytest.raises(DiskError, match="the store cannot be read: "):
        looked(path)
    assert path.read_bytes() == before, "looking changes nothing"
    (told,) = kept(path)
    assert told.endswith("; it was renamed to history.damaged-1.db, and a new one begun")
    assert path.with_name("history.damaged-1.db").read_bytes() == before
    looked(path)


def a_link(path: Path, aside: Path) -> None:
    path.rename(aside)
    path.symlink_to(aside)


def a_folder(path: Path, aside: Path) -> None:
    path.rename(aside)
    path.mkdir()
    (path / "x").touch()


def a_pipe(path: Path, aside: Path) -> None:
    path.rename(aside)
    os.mkfifo(path)


def a_sparse_file(path: Path, aside: Path) -> None:
    path.rename(aside)
    os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 2 << 30)


def pages_that_lie(path: Path, aside: Path) -> None:
    data = bytearray(path.read_bytes())
    data[16:18], data[28:32] = struct.pack(">H", 512), struct.pack(">I", 0x7FFFFFFF)
    path.write_bytes(data)


def another_owner(path: Path, aside: Path) -> None:
    os.chown(path, 12345, 12345)


def a_linked_journal(path: Path, aside: Path) -> None:
    aside.write_text("precious")
    path.with_name(path.name + "-journal").symlink_to(aside)


def a_linked_log(path: Path, aside: Path) -> None:
    aside.write_text("precious")
    path.with_name(path.name + "-wal").symlink_to(aside)


def a_log_that_is_a_pipe(path: Path, aside: Path) -> None:
    os.mkfifo(path.with_name(path.name + "-wal"))


FILES = (
    *(a_link, a_folder, a_pipe, a_sparse_file, pages_that_lie, another_owner),
    *(a_linked_journal, a_linked_log, a_log_that_is_a_pipe),
)


@pytest.mark.parametrize("trap", FILES, ids=lambda trap: trap.__name__)
def test_what_is_no_plain_file_of_ours_is_not_opened(path, tmp_path, trap):
    if trap is another_owner and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    outside = tmp_path / "file"
    trap(path, outside)
    before = outside.read_bytes() if outside.exists() else b""
    with pytest.raises(DiskError, match="the store cannot be read: "):
        looked(path)
    (told,) = kept(path)
    assert told.endswith("; it was renamed to history.damaged-1.db, and a new one begun")
    assert (outside.read_bytes() if outside.exists() else b"") == before
    looked(path)


def test_a_log_that_is_huge_and_says_nothing_is_bounded(path):
    with path.with_name("history.db-wal").open("wb") as log:
        log.truncate(2 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    looked(path)
    assert kept(path) == []
    looked(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "in KiB"


def test_what_is_set_aside_replaces_nothing(path, tmp_path):
    taken = path.with_name("history.damaged-1.db")
    taken.symlink_to(tmp_path / "nowhere")
    path.with_name("history.damaged-2.db-wal").write_text("of an earlier one")
    path.write_bytes(b"\xa5" * 8192)
    (told,) = kept(path)
    assert "it was renamed to history.damaged-3.db" in told
    assert taken.is_symlink()


def test_a_mark_that_is_a_link_or_a_pipe_misleads_and_blocks_nobody(path, tmp_path):
    mark = path.with_name("history.lock")
    mark.unlink()
    mark.symlink_to(tmp_path / "outside")
    (told,) = kept(path)
    assert told.startswith("this run is not stored in the history: ")
    assert not (tmp_path / "outside").exists()
    mark.unlink()
    os.mkfifo(mark)
    looked(path)
    assert History(path, warn=pytest.fail).running() is None


@pytest.mark.parametrize("value", ["'{'", "5", "x'ff'", "''", f"'{'[' * 100_000}'"])
def test_rows_that_are_no_records_are_told_in_a_line(path, value):
    for table, column in (("runs", "record"), ("instances", "record"), ("contents", "body")):
        altered(path, f"UPDATE {table} SET {column} = {value}")
    for look in ("instances", "requests"):
        with pytest.raises(DiskError, match="the store cannot be read: "):
            getattr(History(path, warn=pytest.fail), look)(1)
    with pytest.raises(DiskError, match="the store cannot be read: "):
        History(path, warn=pytest.fail).runs(RunFilter())


def test_a_folder_of_state_that_is_a_link_is_not_read_through(path, tmp_path):
    outside = tmp_path / "outside"
    shutil.move(path.parent, outside)
    path.parent.symlink_to(outside)
    with pytest.raises(DiskError, match="is a link; no state is read or written through it"):
        looked(path)
    (told,) = kept(path)
    assert "is a link" in told


def test_a_statement_that_takes_too_long_is_ended(path):
    tables = ", ".join(f"instances AS i{number}" for number in range(40))

    def ask() -> None:
        with reading(path) as connection:
            connection.budget = 1_000_000
            connection.execute(f"SELECT count(*) FROM {tables}").fetchone()

    with pytest.raises(DiskError, match="the store cannot be read: it takes too long"):
        ask()


@pytest.mark.parametrize(
    "statement",
    [
        "ATTACH 'other.db' AS other",
        "DETACH main",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TEMP VIEW v AS SELECT 1",
        "CREATE TRIGGER t AFTER INSERT ON runs BEGIN SELECT 1; END",
        "CREATE TEMP TRIGGER t AFTER INSERT ON runs BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE v USING rtree(id, a, b)",
        f"{ENDLESS} count(*) FROM n",
        "SELECT load_extension('x')",
        "PRAGMA writable_schema",
        "PRAGMA temp_store_directory = '/'",
        "ANALYZE",
        "ALTER TABLE runs RENAME TO others",
        "VACUUM INTO 'other.db'",
    ],
)
def test_statements_that_poeflow_never_makes_are_refused(path, statement, monkeypatch):
    monkeypatch.chdir(path.parent)
    before = names(path)
    with closing(connected(path, "rw", wait=1)) as connection:
        compare(connection, form())
        with pytest.raises(sqlite3.Error):
            connection.execute(statement).fetchall()
    assert names(path) == before


def test_comments_and_space_in_our_own_sql_may_change():
    from poeflow.store.database import plain_sql

    assert plain_sql("CREATE TABLE a (\n  b -- why\n)") == "CREATE TABLE a ( b )"
    for sql in ("a '-- b'", 'a "--\n"', "a [--\n]", "a `--`"):
        assert plain_sql(sql) == sql
    assert plain_sql("a\u00a0b") == "a\u00a0b"


def test_a_journal_that_names_another_file_is_not_rolled_back(path, tmp_path):
    victim = tmp_path / "precious.txt"
    victim.write_text("precious")
    hot_journal(path, victim)
    with pytest.raises(DiskError, match="its journal names another file"):
        looked(path)
    with pytest.raises(StrangeError):
        connected(path, "rw", wait=1)
    (told,) = kept(path)
    assert "its journal names another file" in told
    assert victim.read_text() == "precious"
    assert {"history.damaged-1.db", "history.damaged-1.db-journal"} <= names(path)


def test_that_journal_is_what_sqlite_acts_on(path, tmp_path):
    victim = tmp_path / "precious.txt"
    victim.write_text("precious")
    hot_journal(path, victim)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("SELECT * FROM runs").fetchall()
    assert not victim.exists(), "or the tests above show nothing"


def hot_journal(path: Path, names_file: Path) -> None:
    """Write the journal of a transaction over several databases, which names the file of all."""
    magic = bytes.fromhex("d9d505f920a163d7")
    size = struct.unpack(">H", path.read_bytes()[16:18])[0]
    pages = path.stat().st_size // size
    header = magic + struct.pack(">5I", 0, 0, pages, 512, size)
    name = os.fsencode(names_file)
    end = struct.pack(">I", 0x40000000 // size + 1) + name
    end += struct.pack(">2I", len(name), sum(name)) + magic
    path.with_name(path.name + "-journal").write_bytes(header.ljust(512, b"\0") + end)
