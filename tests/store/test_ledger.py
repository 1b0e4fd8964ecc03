"""The ledger knows what poeflow wrote, whatever crashed and whoever else writes to it."""

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import threading

import pytest
from storing import record

from poeflow.store.ledger import Ledger
from poeflow.store.writer import StoreWriter


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".poeflow" / "poeflow.db"


@pytest.fixture
def ledger_at():
    """Return a function that makes a ledger in the store at a path, with a thread of its own."""
    with contextlib.ExitStack() as stack:

        def make(path, **options) -> Ledger:
            writer = StoreWriter(path)
            stack.callback(writer.close)
            return Ledger(writer, **options)

        yield make


@pytest.fixture
def ledger(ledger_at, path):
    return ledger_at(path)


def rows(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT path, sha256 FROM outputs").fetchall()


def has(ledger, *rows):
    """Tell of each path and hash whether the ledger has them."""
    return [digest in ledger.written(path) for path, digest in rows]


def test_knows_what_was_recorded(ledger, ledger_at, path):
    assert "1" not in ledger.written("//a.md")
    record(ledger, "//a.md", "1")
    record(ledger, "//a.md", "2")
    asked = [("//a.md", "1"), ("//a.md", "2"), ("//a.md", "3"), ("//b.md", "1")]
    assert has(ledger, *asked) == [True, True, False, False]
    assert has(ledger_at(path), *asked) == [True, True, False, False]


def test_asking_makes_nothing(ledger, tmp_path):
    ledger.written("//a.md")
    assert list(tmp_path.iterdir()) == []


def test_what_lies_on_disk_is_private(ledger, path):
    record(ledger, "//ü\n\ud800.md", "1")
    assert rows(path) == [("//ü\n?.md", "1")]
    assert ledger.written("//ü\n\ud800.md") == {"1"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_the_same_row_is_written_once(ledger_at, path):
    for ledger in (ledger_at(path), ledger_at(path)):
        await ledger.store("//a.md", "1")
        await ledger.store("//a.md", "1")
    assert rows(path) == [("//a.md", "1")]


def test_sees_what_others_add(ledger_at, path):
    ours, theirs = ledger_at(path), ledger_at(path)
    record(ours, "//a.md", "1")
    record(theirs, "//b.md", "2")
    assert "2" in ours.written("//b.md")


async def test_rows_of_many_share_a_commit(path):
    writer = StoreWriter(path)
    ledger = Ledger(writer)
    await asyncio.gather(*(ledger.store(f"//{number}", "1") for number in range(100)))
    assert writer.commits <= 2
    assert has(ledger, ("//0", "1"), ("//99", "1"), ("//100", "1")) == [True, True, False]
    writer.close()


OLD = b"""\
{"path":"//a.md","sha256":"1"}
{"path":"//a.md","sha256":"2","place":"there"}

\xff\xfe
[1]
{"path":1}
<<<<<<< HEAD
{"path":"//b.md","sha256":"3"}
{"path":"//c.md","sha2"""


def test_the_ledger_of_older_versions_is_read(ledger_at, path):
    path.parent.mkdir()
    old = path.with_name("ledger.jsonl")
    old.write_bytes(OLD.replace(b"[1]", b"[" * 100_000 + b"\n" + b'{"a":' * 2_000))
    here, there = (ledger_at(path, old=old, place=place) for place in ("", "there"))
    asked = [("//a.md", "1"), ("//a.md", "2"), ("//b.md", "3"), ("//c.md", "2")]
    assert has(here, *asked) == [True, False, True, False]
    assert has(there, *asked) == [False, True, False, False]
    record(here, "//a.md", "4")
    assert here.written("//a.md") == {"1", "4"}


def test_a_store_that_was_removed_is_begun_again(ledger_at, path):
    ledger = ledger_at(path)
    record(ledger, "//a.md", "1")
    for one in path.parent.iterdir():
        one.unlink()
    assert ledger.written("//a.md") == frozenset()
    record(ledger_at(path), "//b.md", "2")
    assert has(ledger, ("//a.md", "1"), ("//b.md", "2")) == [False, True]


def test_a_link_is_not_written_through(ledger, path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    path.parent.mkdir()
    path.symlink_to(victim)
    assert ledger.written("//a.md") == frozenset()
    record(ledger, "//a.md", "1")
    assert ledger.written("//a.md") == {"1"}
    assert path.with_name("poeflow.damaged-1.db").is_symlink()
    assert victim.read_bytes() == b"mine"


def test_a_full_disk_is_said(tmp_path, ledger_at):
    script = (
        "import asyncio, resource, pathlib, signal, sys\n"
        "from poeflow.errors import DiskError\n"
        "from poeflow.store.ledger import Ledger\n"
        "from poeflow.store.writer import StoreWriter\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "ledger = Ledger(StoreWriter(pathlib.Path(sys.argv[1])))\n"
        "asyncio.run(ledger.store('//a.md', '1'))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (250_000, 250_000))\n"
        "try:\n"
        "    for number in range(400):\n"
        "        asyncio.run(ledger.store(f'//{number}' + 'b' * 1000, '2'))\n"
        "except DiskError as error:\n"
        "    print(number > 5, error.message)\n"
    )
    path = tmp_path / "poeflow.db"
    ran = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("True the store cannot be written: ")
    found = [("//a.md", "1"), ("//5" + "b" * 1000, "2"), ("//199" + "b" * 1000, "2")]
    assert has(ledger_at(path), *found) == [True, True, False]


def test_processes_and_threads_lose_nothing(ledger, path):
    script = (
        "import asyncio, pathlib, sys\n"
        "from poeflow.store.ledger import Ledger\n"
        "from poeflow.store.writer import StoreWriter\n"
        "writer = StoreWriter(pathlib.Path(sys.argv[1]))\n"
        "ledger = Ledger(writer)\n"
        "for number in range(30):\n"
        "    asyncio.run(ledger.store(f'//{number}', sys.argv[2]))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, path, name]) for name in "xy"]

    def record_all(name):
        for number in range(30):
            record(ledger, f"//{number}", name)

    threads = [threading.Thread(target=record_all, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    expected = {(f"//{number}", name) for number in range(30) for name in "abxy"}
    assert sorted(rows(path)) == sorted(expected)
    assert all(row[1] in ledger.written(row[0]) for row in expected)


def test_a_row_of_another_place_says_nothing_of_files_here(ledger_at, path):
    record(ledger_at(path, place="here"), "//a.md", "1")
    for elsewhere in ("", "there"):
        assert ledger_at(path, place=elsewhere).written("//a.md") == frozenset()
    simulated = ledger_at(path, place="here", simulated=True)
    assert simulated.written("//a.md") == frozenset()
    record(simulated, "//b.md", "2")
    assert has(ledger_at(path, place="here"), ("//a.md", "1"), ("//b.md", "2")) == [True, False]
