"""The ledger knows what poeflow wrote, whatever crashed and whoever else writes to it."""

import json
import subprocess
import sys
import threading

import pytest

from poeflow.errors import DiskError
from poeflow.store.workspace import Ledger


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".poeflow" / "ledger.jsonl"


def rows(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def has(ledger, *rows):
    """Tell of each path and hash whether the ledger has them."""
    return [digest in ledger.written(path) for path, digest in rows]


def test_knows_what_was_recorded(path):
    ledger = Ledger(path)
    assert "1" not in ledger.written("//a.md")
    ledger.record("//a.md", "1")
    ledger.record("//a.md", "2")
    asked = [("//a.md", "1"), ("//a.md", "2"), ("//a.md", "3"), ("//b.md", "1")]
    assert [pair[1] in ledger.written(pair[0]) for pair in asked] == [True, True, False, False]
    assert [pair[1] in Ledger(path).written(pair[0]) for pair in asked] == [
        True,
        True,
        False,
        False,
    ]


def test_asking_makes_nothing(path, tmp_path):
    Ledger(path).written("//a.md")
    assert list(tmp_path.iterdir()) == []


def test_what_lies_on_disk_is_private(path):
    Ledger(path).record("//ü\n.md", "1")
    assert path.read_text() == '{"path":"//ü\\n.md","sha256":"1"}\n'
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_the_same_row_is_written_once(path):
    for ledger in (Ledger(path), Ledger(path)):
        ledger.record("//a.md", "1")
        ledger.record("//a.md", "1")
    assert rows(path) == [{"path": "//a.md", "sha256": "1"}]


def test_sees_what_others_add(path):
    ours, theirs = Ledger(path), Ledger(path)
    ours.record("//a.md", "1")
    theirs.record("//b.md", "2")
    assert "2" in ours.written("//b.md")


@pytest.mark.parametrize("length", range(1, 30))
def test_a_torn_last_line_is_ignored_and_mended(path, length):
    Ledger(path).record("//a.md", "1")
    with path.open("ab") as file:
        file.write(b'{"path":"//b.md","sha256":"2"}\n'[:length])
    ledger = Ledger(path)
    assert ("1" in ledger.written("//a.md"), "2" in ledger.written("//b.md")) == (True, False)
    ledger.record("//c.md", "3")
    assert has(Ledger(path), ("//a.md", "1"), ("//c.md", "3")) == [
        True,
        True,
    ]


def test_foreign_lines_are_ignored(path):
    Ledger(path).record("//a.md", "1")
    with path.open("ab") as file:
        file.write(b'\n\xff\xfe\n[1]\n{"path":1}\n<<<<<<< HEAD\n' + b"[" * 100_000 + b"\n")
        file.write(b'{"a":' * 2_000 + b"\n")
    ledger = Ledger(path)
    ledger.record("//b.md", "2")
    assert has(Ledger(path), ("//a.md", "1"), ("//b.md", "2")) == [
        True,
        True,
    ]


def test_a_ledger_that_was_removed_is_begun_again(path):
    ledger = Ledger(path)
    ledger.record("//a.md", "1")
    path.unlink()
    assert "1" not in ledger.written("//a.md")
    ledger.record("//b.md", "2")
    assert ("1" in ledger.written("//a.md"), "2" in ledger.written("//b.md")) == (False, True)


def test_a_link_is_not_written_through(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    path.parent.mkdir()
    path.symlink_to(victim)
    with pytest.raises(DiskError) as caught:
        Ledger(path).record("//a.md", "1")
    assert str(caught.value) == (
        f"{path} cannot be written: too many levels of symbolic links;"
        " check its permissions and the free space"
    )
    assert victim.read_bytes() == b"mine"


def test_a_full_disk_is_said(tmp_path):
    script = (
        "import resource, pathlib, signal, sys\n"
        "from poeflow.errors import DiskError\n"
        "from poeflow.store.workspace import Ledger\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "ledger = Ledger(pathlib.Path(sys.argv[1]))\n"
        "ledger.record('//a.md', '1')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40, 40))\n"
        "try:\n"
        "    ledger.record('//b.md', '2')\n"
        "except DiskError as error:\n"
        "    print(error.message)\n"
    )
    path = tmp_path / "ledger.jsonl"
    ran = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"{path} cannot be written: no space left on device\n"
    ledger = Ledger(path)
    assert ("1" in ledger.written("//a.md"), "2" in ledger.written("//b.md")) == (True, False)


def test_processes_and_threads_lose_nothing(path):
    script = (
        "import pathlib, sys\n"
        "from poeflow.store.workspace import Ledger\n"
        "ledger = Ledger(pathlib.Path(sys.argv[1]))\n"
        "for number in range(30):\n"
        "    ledger.record(f'//{number}', sys.argv[2])\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", script, path, name]) for name in "xy"]
    ledger = Ledger(path)

    def record(name):
        for number in range(30):
            ledger.record(f"//{number}", name)

    threads = [threading.Thread(target=record, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    expected = {(f"//{number}", name) for number in range(30) for name in "abxy"}
    assert sorted((row["path"], row["sha256"]) for row in rows(path)) == sorted(expected)
    assert all(row[1] in ledger.written(row[0]) for row in expected)


def test_a_row_of_another_place_says_nothing_of_files_here(path):
    Ledger(path, place="here").record("//a.md", "1")
    for elsewhere in ("", "there"):
        assert Ledger(path, place=elsewhere).written("//a.md") == frozenset()
    with path.open("ab") as file:
        file.write(b'{"path":"//b.md","sha256":"2"}\n')
    here = Ledger(path, place="here")
    assert has(here, ("//a.md", "1"), ("//b.md", "2")) == [True, False]
    here.record("//b.md", "2")
    assert has(Ledger(path, place="here"), ("//b.md", "2")) == [True]
