"""The thread that writes: groups, failures, damage, and what a kill leaves."""

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from storing import answer_in, link, put, record

from poeflow.digest import sha256_of
from poeflow.errors import DiskError
from poeflow.records import RequestRecord, RunEnd, RunFilter, RunRecord
from poeflow.store.cache import Cache
from poeflow.store.database_file import RowReader
from poeflow.store.history import History
from poeflow.store.ledger import Ledger
from poeflow.store.writer import MAX_BACKLOG, MAX_GROUP, StoreWriter

RUN = RunRecord(flow="//a.yaml", name="a", started=1.0, simulated=False, version="1")
KILLED = """
import asyncio, sys
from pathlib import Path
from poeflow.digest import sha256_of
from poeflow.records import RequestRecord, RunRecord
from poeflow.store.cache import Cache
from poeflow.store.history import History
from poeflow.store.ledger import Ledger
from poeflow.store.writer import StoreWriter

path, journal, first = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
store = StoreWriter(path, journal=journal)
cache = Cache(path.parent / "cache", store, on_corrupt=print)
ledger = Ledger(store)
run = RunRecord(flow="//a.yaml", name="a", started=1.0, simulated=False, version="1")
recorder = History(path, warn=print, store=store).begin(run)

async def work(number):
    while True:
        name = sha256_of(b"%d" % number)
        request = {"body": {"n": number, "x": "y" * (number % 3000)}}
        record = RequestRecord(
            instance="s", fingerprint=name, provider="poe", model="A", began=0.0, request=request
        )
        await recorder.requested(record)
        print("requested", number, flush=True)
        await cache.store(name, {"n": number, "text": "z" * (number % 5000)}, request=request)
        print("stored", number, flush=True)
        await ledger.store(f"//{number}", name)
        print("recorded", number, flush=True)
        number += 10

async def main():
    await asyncio.gather(*(work(first + lane) for lane in range(10)))

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "poeflow.db"


@pytest.fixture
def store(path):
    made = StoreWriter(path)
    yield made
    made.close()


def request(number: int) -> RequestRecord:
    return RequestRecord(
        instance=f"i{number}",
        fingerprint="f",
        provider="poe",
        model="A",
        began=0.0,
        request={"n": number},
    )


@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_nothing_that_was_acknowledged_is_lost_by_kills(path, journal):
    dice, said = random.Random(3), []
    for turn in range(6):
        command = [sys.executable, "-c", KILLED, path, journal, str(turn * 100_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            said.append(worker.stdout.readline())
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(timeout=dice.uniform(0.0, 0.3))
            os.kill(worker.pid, signal.SIGKILL)
            said += worker.stdout.read().splitlines(keepends=True)
    acknowledged = {tuple(line.split()) for line in said if line.endswith("\n")}
    assert len(acknowledged) > 100
    store = StoreWriter(path, journal=journal)
    cache = Cache(path.parent / "cache", store, on_corrupt=pytest.fail)
    history = History(path, warn=pytest.fail)
    sent = {
        str(row.record.request["body"]["n"])
        for run in history.runs(RunFilter())
        for row in history.requests(run.id)
    }
    with contextlib.closing(sqlite3.connect(path)) as connection:
        recorded = {name[2:] for (name,) in connection.execute("SELECT path FROM outputs")}
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    there = {
        *(("requested", number) for number in sent),
        *(("recorded", number) for number in recorded),
        *(("stored", n) for n in sent if answer_in(cache, sha256_of(n.encode())) is not None),
    }
    assert acknowledged - there == set()


async def test_one_that_writes_alone_does_not_wait_for_others(store):
    await store.wait(lambda _connection: 0)
    before = store.commits
    for number in range(20):
        assert await store.wait(lambda _connection, n=number: n) == number
    assert store.commits - before == 20


async def test_a_caller_that_only_waits_commits_nothing(store):
    store.submit(lambda _connection: 1, pytest.fail)
    store.flush()
    before = store.commits
    for _ in range(3):
        store.flush()
    assert (before, store.commits) == (1, 1)


async def test_a_request_that_nobody_else_writes_with_is_read_by_another_at_once(path, store):
    recorder = History(path, warn=pytest.fail, store=store).begin(RUN)
    number = await recorder.requested(request(1))
    (row,) = History(path, warn=pytest.fail).requests(1)
    assert (row.id, row.record) == (number, request(1))


def test_rows_that_nobody_waits_for_do_not_pile_up(store):
    gate = threading.Event()
    written: list[int] = []
    store.submit(lambda _connection: int(gate.wait(10)), pytest.fail)

    def fill() -> None:
        for number in range(MAX_BACKLOG + MAX_GROUP + 5):
            store.submit(lambda _connection, n=number: written.append(n) or 0, pytest.fail)

    filling = threading.Thread(target=fill)
    filling.start()
    filling.join(timeout=2)
    is_held_back = filling.is_alive()
    gate.set()
    filling.join()
    store.flush()
    assert is_held_back
    assert written == list(range(MAX_BACKLOG + MAX_GROUP + 5))


async def test_one_that_fails_fails_alone(store):
    def fail(_connection) -> int:
        raise ValueError("no")

    both = (store.wait(fail), store.wait(lambda _connection: 7))
    first, second = await asyncio.gather(*both, return_exceptions=True)
    assert (str(first), second) == (
        "the store cannot be written: no; check its permissions and the free space",
        7,
    )


def test_answers_that_met_damage_are_stored_in_the_new_file(path):
    store = StoreWriter(path, journal="delete")
    cache = Cache(path.parent / "cache", store, on_corrupt=pytest.fail)
    told: list[str] = []
    history = History(path, warn=told.append, store=store)
    recorder = history.begin(RUN)
    for number in range(200):
        put(cache, sha256_of(b"%d" % number), {"x": os.urandom(2000).hex()})
    store.flush()
    data = bytearray(path.read_bytes())
    data[24:28] = b"\xff" * 4  # a change by another connection, so that all is read again
    data[4096:] = b"\xa5" * (len(data) - 4096)
    with path.open("r+b") as file:  # the file that is open, not another of its name
        file.write(data)
    put(cache, sha256_of(b"new"), {"n": 1})
    assert answer_in(cache, sha256_of(b"new")) == {"n": 1}
    assert asyncio.run(recorder.requested(request(1))) == 0
    recorder.ended(RunEnd(exit_code=0, seconds=1.0))
    store.close()
    assert path.with_name("poeflow.damaged-1.db").exists()
    assert any("it was renamed to poeflow.damaged-1.db" in message for message in told)


def test_who_closes_it_may_write_again(store):
    assert store.do(lambda _connection: 1) == 1
    store.close()
    assert store.do(lambda _connection: 2) == 2


def test_a_place_that_is_a_file_is_said_to_all_who_wait(tmp_path):
    (tmp_path / "state").write_text("in the way")
    store = StoreWriter(tmp_path / "state" / "poeflow.db")
    for _ in range(2):
        with pytest.raises(DiskError, match="state"):
            store.do(lambda _connection: 0)
    with pytest.raises(DiskError, match="state"):
        store.check()
    store.close()


def test_what_is_known_to_be_absent_is_not_looked_for(path):
    store = StoreWriter(path, journal="delete")
    cache = Cache(path.parent / "cache", store, on_corrupt=pytest.fail)
    ledger = Ledger(store, place="here")
    names = [sha256_of(b"%d" % number) for number in range(2000)]
    for name in names[:10]:
        put(cache, name, {"of": name})
    link(cache, names[0], names[1])
    record(ledger, "//a", "1")
    store.close()
    store.track_keys()
    store.check()
    cache._reader = ledger._reader = CountingReader(path)
    found = [answer_in(cache, name) for name in names]
    assert found == [{"of": name} for name in names[:10]] + [None] * 1990
    assert cache._reader.count < 20, "all but the stored ones, and a few by chance"
    assert (cache.end(names[0]), cache.end(names[1])) == (cache.entry(names[1]), None)
    assert (ledger.written("//a"), ledger.written("//b")) == ({"1"}, frozenset())
    put(cache, names[50], {"n": 1})
    link(cache, names[1], names[50])
    record(ledger, "//b", "2")
    assert (answer_in(cache, names[50]), cache.end(names[1])) == ({"n": 1}, cache.entry(names[50]))
    assert ledger.written("//b") == {"2"}
    store.close()
    assert not store.is_absent(b"anything")


class CountingReader(RowReader):
    count = 0

    def rows(self, *arguments, **options):
        self.count += 1
        return super().rows(*arguments, **options)


LEFT = """\
import types
from pathlib import Path
from poeflow.store.writer import StoreWriter

@types.coroutine
def pause(): yield

async def hold():
    try:
        await pause()
    finally:
        store.submit(lambda connection: 0, print)
        store.flush()
        store.close()

store = StoreWriter(Path("a.db"))
store.check()
held = hold()
held.send(None)
"""


def test_what_is_left_when_python_ends_waits_for_no_thread(tmp_path):
    command = [sys.executable, "-c", LEFT]
    assert subprocess.run(command, cwd=tmp_path, timeout=20, check=False).returncode == 0
