"""The history file: what is kept, found, searched, pruned, and what damage does to it."""

import asyncio
import sqlite3
import stat

import pytest

from poeflow.errors import DiskError
from poeflow.records import (
    AnswerRecord,
    InstanceRecord,
    RequestRecord,
    RequestRow,
    RunEnd,
    RunFilter,
    RunRecord,
    RunRow,
)
from poeflow.store.history import History

BODY = {"body": {"model": "A", "messages": [{"role": "user", "content": "about otters"}]}}


def run_record(flow: str = "//a.yaml", *, started: float = 1000.0, **more) -> RunRecord:
    given = {"name": "a", "simulated": False, "version": "1", "started": started}
    return RunRecord(flow=flow, **(given | more))


def request(instance: str = "draft", fingerprint: str = "f1") -> RequestRecord:
    return RequestRecord(
        instance=instance,
        fingerprint=fingerprint,
        provider="poe",
        model="A",
        began=0.5,
        request=BODY,
    )


DRAFT = InstanceRecord(
    id="draft", step="draft", status="ok", source="asked", fingerprint="f1", request=BODY,
    text="They hold hands, \ud83d.", files={"//out.md": "0" * 64},
)  # fmt: skip
END = RunEnd(exit_code=0, seconds=2.5, asked=1, outputs={"draft": "They"})


@pytest.fixture
def history(tmp_path):
    with History(tmp_path / ".poeflow" / "history.db", told=pytest.fail) as made:
        yield made


def keep(history: History, record: RunRecord, *instances: InstanceRecord, end: RunEnd = END) -> int:
    """Keep a whole run and return its number."""
    recorder = history.begin(record)
    for instance in instances:
        recorder.instance(instance)
    recorder.ended(end)
    return history.runs(RunFilter())[0].id


async def test_a_run_is_read_as_it_was_told(history):
    recorder = history.begin(run_record(inputs={"x": [1, None]}, steps={"draft": ()}))
    number = await recorder.requested(request())
    answer = AnswerRecord(ended=1.5, answer={"a": "\ud800"}, retries=("busy",))
    recorder.answered(number, answer)
    recorder.instance(DRAFT)
    recorder.ended(END)
    (row,) = history.runs(RunFilter())
    assert row == RunRow(
        id=1, record=run_record(inputs={"x": [1, None]}, steps={"draft": ()}), end=END
    )
    assert history.run(1) == row
    assert history.run(2) is None
    assert history.instances(1) == (DRAFT,)
    assert history.requests(1) == (RequestRow(id=number, record=request(), answer=answer),)
    assert history.requests(1, "other") == ()


async def test_a_request_is_on_disk_before_it_is_sent(history):
    recorder = history.begin(run_record())
    numbers = await asyncio.gather(*(recorder.requested(request(f"i{n}")) for n in range(50)))
    assert sorted(numbers) == list(range(1, 51))
    rows = history.requests(1)
    assert [row.answer for row in rows] == [None] * 50, "the outcome is unknown"
    (run,) = history.runs(RunFilter(state="unfinished"))
    assert run.end is None


def test_what_is_looked_for_is_found(history):
    keep(history, run_record(started=10.0), DRAFT)
    keep(history, run_record("//b.yaml", started=20.0), end=RunEnd(exit_code=1, seconds=1))
    keep(history, run_record(started=30.0, simulated=True), end=RunEnd(exit_code=130, seconds=1))

    def numbers(**wanted) -> list[int]:
        return [row.id for row in history.runs(RunFilter(**wanted))]

    assert numbers() == [3, 2, 1]
    assert numbers(limit=1) == [3]
    assert numbers(flow="//b.yaml") == [2]
    assert numbers(since=20.0) == [3, 2]
    assert [numbers(state=s) for s in ("ok", "failed", "interrupted", "unfinished")] == [
        [1],
        [2],
        [3],
        [],
    ]
    assert numbers(simulated=True) == [3]
    assert numbers(text="HANDS otters") == [1]
    assert numbers(text="hands zebras") == []


@pytest.mark.parametrize("text", ['"', "a OR b", "NEAR(", "x*", "col:x", "^", "\0", "", "\ud800"])
def test_no_text_is_a_query_language(history, text):
    keep(history, run_record(), DRAFT)
    assert len(history.runs(RunFilter(text=text))) in (0, 1)


def test_there_is_no_history_before_the_first_run(history):
    assert not history.exists
    assert (history.runs(RunFilter(text="x")), history.run(1), history.instances(1)) == (
        (),
        None,
        (),
    )
    assert (history.requests(1), history.changes(), history.prune(keep=1)) == ((), 0, 0)


async def test_every_change_is_seen(history):
    seen = {history.changes()}
    recorder = history.begin(run_record())
    number = await recorder.requested(request())
    seen.add(history.changes())
    recorder.answered(number, AnswerRecord(ended=1.0, error="no"))
    await recorder.requested(request("other"))
    seen.add(history.changes())
    recorder.instance(DRAFT)
    await recorder.requested(request("last"))
    seen.add(history.changes())
    recorder.ended(END)
    seen.add(history.changes())
    assert len(seen) == 5
    assert history.changes() in seen


def test_pruning_forgets_whole_runs_and_what_only_they_used(history, tmp_path):
    secret = InstanceRecord(
        id="b", step="b", status="ok", fingerprint="f2", request={"body": "zebra"}, text="zebra"
    )
    keep(history, run_record(started=10.0), secret, DRAFT)
    keep(history, run_record(started=20.0), DRAFT)
    assert history.prune(before=15.0) == 1
    assert [row.id for row in history.runs(RunFilter())] == [2]
    assert history.instances(2) == (DRAFT,)
    assert history.runs(RunFilter(text="zebra")) == ()
    assert b"zebra" not in (tmp_path / ".poeflow/history.db").read_bytes()
    keep(history, run_record(started=30.0))
    assert history.prune(keep=1) == 1
    assert [row.id for row in history.runs(RunFilter())] == [3]


def test_the_file_is_nobody_elses(history, tmp_path):
    keep(history, run_record())
    path = tmp_path / ".poeflow" / "history.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [b"not a database at all, and long enough for a header" * 20])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path, damage):
    path = tmp_path / "history.db"
    path.write_bytes(damage)
    told: list[str] = []
    with History(path, told=told.append) as history:
        with pytest.raises(DiskError, match="the history cannot be read"):
            history.runs(RunFilter())
        keep(history, run_record())
        assert len(history.runs(RunFilter())) == 1
    assert told == [
        "the history was damaged; it is kept as history.damaged-1.db, and a new one begun"
    ]
    assert (tmp_path / "history.damaged-1.db").read_bytes() == damage


def test_the_file_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "history.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    told: list[str] = []
    with History(path, told=told.append) as history:
        recorder = history.begin(run_record())
        assert asyncio.run(recorder.requested(request())) == 0
        recorder.ended(END)
        with pytest.raises(DiskError, match="newer version"):
            history.runs(RunFilter())
    assert told == [
        (
            "this run is not kept in the history: the history was written by a newer version of "
            "poeflow; update poeflow to keep and see runs in it"
        ),
    ]
    assert path.read_bytes() == before


def test_a_folder_that_is_a_file_stops_no_run(tmp_path):
    (tmp_path / "state").write_text("in the way")
    told: list[str] = []
    with History(tmp_path / "state" / "history.db", told=told.append) as history:
        recorder = history.begin(run_record())
        assert asyncio.run(recorder.requested(request())) == 0
        recorder.instance(DRAFT)
        recorder.ended(END)
    assert len(told) == 1
    assert told[0].startswith("this run is not kept in the history: ")


def test_a_file_without_a_table_is_set_aside_and_the_run_goes_on(history, tmp_path):
    keep(history, run_record())
    with sqlite3.connect(tmp_path / ".poeflow/history.db") as connection:
        connection.execute("DROP TABLE instances")
    connection.close()
    told: list[str] = []
    with History(tmp_path / ".poeflow/history.db", told=told.append) as other:
        recorder = other.begin(run_record())
        asyncio.run(recorder.requested(request()))
        recorder.instance(DRAFT)
        recorder.instance(DRAFT)
        recorder.ended(END)
    assert told == [
        (
            "the history was damaged (index 'instances_of_a_run' is not there as poeflow makes "
            "it); it is kept as history.damaged-1.db, and a new one begun"
        )
    ]
