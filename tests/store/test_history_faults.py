"""The history when things go wrong: kills, damage, full disks, others at work, hostile text."""

import asyncio
import contextlib
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from poeflow.errors import DiskError
from poeflow.records import (
    AnswerRecord,
    InstanceRecord,
    RequestRecord,
    RunEnd,
    RunFilter,
    RunRecord,
)
from poeflow.store.database_file import FIXED_WAL, JOURNAL
from poeflow.store.history import History

RUN = RunRecord(flow="//a.yaml", name="a", started=1.0, simulated=False, version="1")
END = RunEnd(exit_code=0, seconds=1.0)
WORKER = """
import asyncio, sys, time
from pathlib import Path
from poeflow.records import RequestRecord, RunRecord
from poeflow.store.history import History

RUN = RunRecord(flow="//killed.yaml", name="a", started=1.0, simulated=False, version="1")
history = History(Path(sys.argv[1]), warn=print, journal=sys.argv[2])
recorder = history.begin(RUN)

async def work():
    number = 0
    while True:
        await recorder.requested(request(number))
        print(number, flush=True)
        number += 1

def request(number):
    return RequestRecord(
        instance=f"s[{number}]", fingerprint=str(number), provider="poe", model="A", began=0.0,
        request={"body": {"messages": [{"role": "user", "content": "x" * 5000}], "n": number}},
    )

asyncio.run(work())
"""
HALF_WRITTEN = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
for number in range(2000):
    sql = "INSERT INTO contents (hash, kind, body) VALUES (?, 'result', ?)"
    connection.execute(sql, (b"%d" % number, "x" * 500))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(params=["wal", "delete"])
def journal(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".poeflow" / "history.db"


def request(instance: str = "draft", *, said: str = "about otters") -> RequestRecord:
    body = {"messages": [{"role": "user", "content": said}]}
    return RequestRecord(
        instance=instance,
        fingerprint=said[:20],
        provider="poe",
        model="A",
        began=0.0,
        request={"body": body},
    )


def instance(text: str, *, said: str | None = None, name: str = "draft") -> InstanceRecord:
    whole = None if said is None else request(said=said).request
    return InstanceRecord(
        id=name, step=name, status="ok", fingerprint=said and said[:20], text=text, request=whole
    )


def keep(path, *instances: InstanceRecord, run: RunRecord = RUN) -> None:
    with History(path, warn=pytest.fail) as history:
        recorder = history.begin(run)
        for one in instances:
            recorder.instance(one)
        recorder.ended(END)


@contextlib.contextmanager
def at_work(path, journal="delete"):
    """Yield a process that writes a run and has written some of it already."""
    command = [sys.executable, "-c", WORKER, str(path), journal]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as worker:
        try:
            worker.stdout.readline()
            yield worker
        finally:
            worker.kill()


def test_a_log_is_written_ahead_only_where_sqlite_resets_it_rightly():
    is_right = sqlite3.sqlite_version_info >= FIXED_WAL
    assert {True: "wal", False: "delete"}[is_right] == JOURNAL


def test_what_was_acknowledged_is_there_after_a_kill(path, journal):
    with at_work(path, journal) as worker:
        for _ in range(5):
            worker.stdout.readline()
        os.kill(worker.pid, signal.SIGKILL)
        acknowledged = worker.stdout.read().split()
    history = History(path, warn=pytest.fail)
    (run,) = history.runs(RunFilter())
    assert (run.end, history.running()) == (None, None)
    rows = history.requests(run.id)
    assert len(rows) >= 6 + len(acknowledged)
    assert {row.answer for row in rows} == {None}, "each may have been billed"
    keep(path, instance("x"))
    assert [(row.id, row.end is None) for row in history.runs(RunFilter())] == [
        (2, False),
        (1, True),
    ]


def test_what_a_kill_left_half_written_is_rolled_back_by_whoever_looks(path):
    keep(path, instance("x"))
    subprocess.run([sys.executable, "-c", HALF_WRITTEN, path], check=False)
    assert path.with_name("history.db-journal").exists()
    history = History(path, warn=pytest.fail)
    assert history.instances(1) == (instance("x"),)
    assert not path.with_name("history.db-journal").exists()


def test_a_run_is_looked_at_while_another_process_writes_it(path, journal):
    with at_work(path, journal):
        history = History(path, warn=pytest.fail)
        seen = {history.changes() for _ in range(50)}
        (run,) = history.runs(RunFilter())
        assert run.record.flow == "//killed.yaml"
        assert history.running() == run.id
        assert history.requests(run.id)
        assert len(seen) > 1


def test_two_processes_write_at_once(path, journal):
    with at_work(path, journal) as worker:
        with History(path, warn=pytest.fail, journal=journal) as history:
            recorder = history.begin(RUN)
            numbers = [asyncio.run(recorder.requested(request(f"i{n}"))) for n in range(20)]
            recorder.ended(END)
        worker.stdout.readline()
    assert len(set(numbers)) == 20
    (finished,) = history.runs(RunFilter(state="ok"))
    assert [row.id for row in history.requests(finished.id)] == numbers


def test_many_threads_look_while_one_writes(path, journal):
    with History(path, warn=pytest.fail, journal=journal) as history:
        recorder = history.begin(RUN)
        asyncio.run(recorder.requested(request()))
        seen: list[int] = []
        threads = [
            threading.Thread(target=lambda: seen.append(len(history.requests(1)))) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for number in range(100):
            recorder.instance(instance("x", name=f"i{number}"))
        for thread in threads:
            thread.join()
        recorder.ended(END)
        assert (seen, len(history.instances(1))) == ([1] * 8, 100)


def test_pruning_spares_the_run_at_work_and_no_other(path):
    keep(path, instance("old"))
    with at_work(path) as worker:
        assert History(path, warn=pytest.fail).prune(keep=0) == 1
        for _ in range(3):
            assert worker.stdout.readline(), "it writes on"
        (run,) = History(path, warn=pytest.fail).runs(RunFilter())
        assert run.end is None
    assert History(path, warn=pytest.fail).prune(keep=0) == 1, "it was killed"


def test_pruning_takes_what_is_neither_new_nor_among_the_newest(path):
    for started in (10.0, 20.0, 30.0):
        keep(
            path, run=RunRecord(flow="//a", name="a", started=started, simulated=False, version="")
        )
    history = History(path, warn=pytest.fail)
    assert history.prune(before=25.0, keep=2) == 1
    assert history.prune(before=5.0, keep=0) == 0
    assert [row.record.started for row in history.runs(RunFilter())] == [30.0, 20.0]
    assert history.prune() == 2


def test_texts_are_kept_once_however_often_they_come(path):
    said, text = "asked about otters " * 10_000, "they hold hands " * 10_000
    keep(path, instance(text, said=said))
    size = path.stat().st_size
    for _ in range(4):
        keep(path, instance(text, said=said))
    assert path.stat().st_size - size < 20_000
    assert History(path, warn=pytest.fail).instances(5) == (instance(text, said=said),)


async def test_a_request_that_is_cancelled_before_it_is_sent_is_forgotten(path):
    with History(path, warn=pytest.fail) as history:
        recorder = history.begin(RUN)
        asking = asyncio.create_task(recorder.requested(request()))
        await asyncio.sleep(0)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await recorder.requested(request("other"))
        recorder.ended(END)
        assert [row.record.instance for row in history.requests(1)] == ["other"]


async def test_no_text_is_beyond_it(path):
    odd = "\ud83d \0 \u202e'\"; DROP TABLE runs; --"
    run = RunRecord(
        flow=odd, name=odd, started=1.0, simulated=False, version=odd, inputs={odd: odd}
    )
    asked = RequestRecord(
        instance=odd,
        fingerprint=odd,
        provider=odd,
        model=odd,
        began=0.0,
        request={"body": {"messages": [{"role": "user", "content": odd}]}},
    )
    made = InstanceRecord(
        id=odd, step=odd, status="failed", reason=odd, fingerprint=odd, request=asked.request,
        text=odd, reasoning=odd, data={odd: [10**30, 1e300, None]}, files={odd: odd},
    )  # fmt: skip
    answer = AnswerRecord(ended=1.0, answer={odd: odd}, prompt_tokens=10**30)
    with History(path, warn=pytest.fail) as history:
        recorder = history.begin(run)
        recorder.answered(await recorder.requested(asked), answer)
        recorder.instance(made)
        recorder.ended(END)
        assert [row.record for row in history.runs(RunFilter(flow=odd, text=odd))] == [run]
        assert history.instances(1) == (made,)
        assert history.made(odd) == made
        assert [(row.record, row.answer) for row in history.requests(1, odd)] == [(asked, answer)]
        assert history.run(10**30) is None


def test_what_the_lock_proved_is_found_where_it_was_made(path):
    keep(path, instance("first", said="q"))
    keep(path, instance("second", said="q"))
    keep(path, InstanceRecord(id="draft", step="draft", status="ok", fingerprint="q"))
    history = History(path, warn=pytest.fail)
    assert history.made("q") == instance("second", said="q")
    assert history.made("other") is None


TEXTS = ["Die Otter spielen", "カワウソは手をつなぐ", "foo-bar, (baz)", "naïve"]


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("otter", [1]),
        ("OTT spiel", [1]),
        ("手", [2]),
        ("カワウソ", [2]),
        ("foo-bar", [3]),
        ("(baz)", [3]),
        ("Die カワウソ", []),
        ("q3", [4]),
        ("  ", [4, 3, 2, 1]),
    ],
)
def test_words_of_any_script_are_found(path, wanted, found, has_index):
    for number, text in enumerate(TEXTS):
        keep(path, instance(text, said=f"q{number}"))
    if not has_index:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("DROP TABLE search")
    history = History(path, warn=pytest.fail)
    assert [row.id for row in history.runs(RunFilter(text=wanted))] == found


def test_an_index_that_is_missing_is_made_anew(path):
    keep(path, instance("zebra"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE search")
    keep(path, instance("otter"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        sql = "SELECT count(*) FROM search WHERE search MATCH 'zebra OR otter'"
        assert connection.execute(sql).fetchone() == (2,)


@pytest.mark.parametrize("damage", [b"CREATE T\x83BLE contents", b"CREATE TABLE r\x83ns ("])
def test_a_schema_that_is_no_text_is_told_as_damage(path, damage):
    keep(path)
    sound = re.sub(rb"[^\x00-\x7f]", b".", damage)
    path.write_bytes(re.sub(sound.replace(b"(", rb"\("), damage, path.read_bytes()))
    history = History(path, warn=pytest.fail)
    with pytest.raises(DiskError, match="the store cannot be read"):
        history.runs(RunFilter(text="otter"))
    said: list[str] = []
    with History(path, warn=said.append) as writing:
        writing.begin(RUN).ended(END)
    assert [message.startswith("the store was damaged") for message in said] == [True]
    assert [row.id for row in History(path, warn=pytest.fail).runs(RunFilter())] == [1]


@pytest.mark.parametrize("body", ["{", b"\xff", "[" * 100_000], ids=len)
def test_a_damaged_text_is_not_found_and_stops_nothing(path, body):
    keep(path, instance("zebra"))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE contents SET body = ?", (body,))
        connection.execute("DROP TABLE search")
        connection.commit()
    found = History(path, warn=pytest.fail).runs(RunFilter(text="zebra"))
    keep(path, instance("otter"))
    again = History(path, warn=pytest.fail).runs(RunFilter(text="otter"))
    assert (found, [row.id for row in again]) == ((), [2])


@pytest.mark.parametrize("is_early", [True, False])
def test_damage_that_shows_while_writing_is_set_aside(path, is_early):
    keep(path, *(instance("x" * 3000 + str(number), name=f"i{number}") for number in range(50)))
    damaged = bytearray(path.read_bytes())
    start = 100 if is_early else 8192
    damaged[start:] = b"\xa5" * (len(damaged) - start)
    path.write_bytes(damaged)
    told: list[str] = []
    with History(path, warn=told.append) as history:
        recorder = history.begin(RUN)
        asyncio.run(recorder.requested(request()))
        recorder.instance(instance("x"))
        recorder.ended(END)
    assert len(told) == 1
    assert "history.damaged-1.db" in told[0]
    assert path.with_name("history.damaged-1.db").stat().st_size >= len(damaged)
    keep(path, instance("x"))
    assert History(path, warn=pytest.fail).instances(1) == (instance("x"),)


def test_damage_is_not_renamed_while_another_has_the_file_open(path):
    with History(path, warn=pytest.fail) as other:
        asyncio.run(other.begin(RUN).requested(request()))
        path.write_bytes(b"\xa5" * 8192)
        told: list[str] = []
        with History(path, warn=told.append) as history:
            recorder = history.begin(RUN)
            assert asyncio.run(recorder.requested(request())) == 0
            recorder.ended(END)
    assert len(told) == 1
    assert told[0].startswith("this run is not stored in the history: ")
    assert sorted(path.parent.glob("*.db")) == [path]


def test_a_link_in_its_place_is_not_followed(path, tmp_path):
    path.parent.mkdir()
    path.symlink_to(tmp_path / "elsewhere")
    told: list[str] = []
    with History(path, warn=told.append) as history:
        history.begin(RUN).ended(END)
    assert len(told) == 1
    assert not (tmp_path / "elsewhere").exists()


DAMAGED = {
    "another shape": '[{"flow": 5}]',
    "nothing": "",
    "cut short": '{"flow": "//a',
    "a blob": b"\xff\xfe",
    "not a number": '{"flow": NaN}',
    "half a character in a key": '{"\\ud800": 1}',
    "nested without end": "[" * 100_000,
}


@pytest.mark.parametrize("record", DAMAGED.values(), ids=list(DAMAGED))
@pytest.mark.parametrize(
    "column",
    ["runs.record", "runs.ending", "instances.record", "contents.body"],
)
def test_rows_that_are_no_records_are_told_as_damage(path, column, record):
    keep(path, instance("a text", said="about otters"))
    table, _, name = column.partition(".")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"UPDATE {table} SET {name} = ?", (record,))
        connection.commit()
    history = History(path, warn=pytest.fail)
    with pytest.raises(DiskError, match="the store cannot be read"):
        [history.instances(run.id) for run in history.runs(RunFilter())]


FULL = """
import asyncio, random, resource, signal, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[2])))
from test_history_faults import END, RUN, instance, request
from poeflow.store.history import History

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with History(Path(sys.argv[1]), warn=print) as history:
    recorder = history.begin(RUN)
    first = asyncio.run(recorder.requested(request()))
    recorder.instance(instance(random.Random(0).randbytes(500_000).hex()))
    second = asyncio.run(recorder.requested(request("later")))
    recorder.ended(END)
print(first, second)
"""


def test_a_full_disk_is_told_once_and_the_run_goes_on(path):
    command = [sys.executable, "-c", FULL, path, os.path.dirname(__file__)]  # noqa: PTH120
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    message, numbers = done.stdout.splitlines()
    assert message.startswith("this run is not stored in the history: ")
    assert numbers == "1 0"
    (row,) = History(path, warn=pytest.fail).requests(1)
    assert (row.record.instance, row.answer) == ("draft", None)


async def test_what_goes_wrong_is_told_to_the_one_who_runs(tmp_path):
    (tmp_path / "state").write_text("in the way")
    heard: list[int] = []
    with History(
        tmp_path / "state" / "history.db", warn=lambda _: heard.append(threading.get_ident())
    ) as history:
        recorder = history.begin(RUN)
        numbers = await asyncio.gather(*(recorder.requested(request()) for _ in range(3)))
        recorder.ended(END)
        assert await recorder.requested(request()) == 0
    assert (numbers, heard) == ([0, 0, 0], [threading.get_ident()])
