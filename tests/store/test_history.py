"""The history file: what is kept, found, searched, pruned, and what damage does to it."""

import asyncio
import contextlib
import sqlite3
import stat
from decimal import Decimal

import msgspec
import pytest
from storing import answer_in, put

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
from poeflow.store.cache import Cache
from poeflow.store.history import History
from poeflow.store.history_rows import cost_since
from poeflow.store.writer import StoreWriter

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
    with History(tmp_path / ".poeflow" / "history.db", warn=pytest.fail) as made:
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
    with History(path, warn=told.append) as history:
        with pytest.raises(DiskError, match="the store cannot be read"):
            history.runs(RunFilter())
        keep(history, run_record())
        assert len(history.runs(RunFilter())) == 1
    assert told == [
        "the store was damaged; it was renamed to history.damaged-1.db, and a new one begun"
    ]
    assert (tmp_path / "history.damaged-1.db").read_bytes() == damage


def test_the_file_of_a_newer_version_is_left_alone(tmp_path):
    path = tmp_path / "history.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = path.read_bytes()
    told: list[str] = []
    with History(path, warn=told.append) as history:
        recorder = history.begin(run_record())
        assert asyncio.run(recorder.requested(request())) == 0
        recorder.ended(END)
        with pytest.raises(DiskError, match="newer version"):
            history.runs(RunFilter())
    assert told == [
        (
            "this run is not stored in the history: the store was written by a newer version of "
            "poeflow; update poeflow to use it"
        ),
    ]
    assert path.read_bytes() == before


def test_a_folder_that_is_a_file_stops_no_run(tmp_path):
    (tmp_path / "state").write_text("in the way")
    told: list[str] = []
    with History(tmp_path / "state" / "history.db", warn=told.append) as history:
        recorder = history.begin(run_record())
        assert asyncio.run(recorder.requested(request())) == 0
        recorder.instance(DRAFT)
        recorder.ended(END)
    assert len(told) == 1
    assert told[0].startswith("this run is not stored in the history: ")


def test_a_file_without_a_table_is_set_aside_and_the_run_goes_on(history, tmp_path):
    keep(history, run_record())
    with sqlite3.connect(tmp_path / ".poeflow/history.db") as connection:
        connection.execute("DROP TABLE instances")
    connection.close()
    told: list[str] = []
    with History(tmp_path / ".poeflow/history.db", warn=told.append) as other:
        recorder = other.begin(run_record())
        asyncio.run(recorder.requested(request()))
        recorder.instance(DRAFT)
        recorder.instance(DRAFT)
        recorder.ended(END)
    assert told == [
        (
            "the store was damaged (index 'instances_of_a_run' is not there as poeflow makes "
            "it); it was renamed to history.damaged-1.db, and a new one begun"
        )
    ]


@pytest.mark.parametrize("text", ["They hold hands while they sleep. " * 50, ""])
async def test_an_answer_is_stored_once_for_all_that_have_it(tmp_path, text):
    path, name = tmp_path / "poeflow.db", "ab" * 32
    store = StoreWriter(path)
    cache = Cache(tmp_path / "cache", store, on_corrupt=pytest.fail)
    message = {"content": text, "reasoning_content": "hm, otters"}
    answer = {"choices": [{"message": message}]}
    with History(path, warn=pytest.fail, store=store) as history:
        recorder = history.begin(run_record())
        number = await recorder.requested(request(fingerprint=name))
        await cache.store(name, answer, request=BODY)
        recorder.answered(number, AnswerRecord(ended=1.0), stored=name)
        same = msgspec.structs.replace(DRAFT, fingerprint=name, text=text, reasoning="hm, otters")
        other = msgspec.structs.replace(same, id="other", text="Something else.")
        recorder.instance(same)
        recorder.instance(other)
        recorder.ended(END)
        assert history.instances(1) == (same, other)
        assert history.made(name) == other
        (row,) = history.requests(1)
        assert row.answer == AnswerRecord(ended=1.0, answer=answer)
        assert [run.id for run in history.runs(RunFilter(text="hm"))] == [1]
        with contextlib.closing(sqlite3.connect(path)) as connection:
            kinds = connection.execute("SELECT kind FROM contents ORDER BY kind").fetchall()
        assert kinds == [("completion",), ("request",), ("result",)]
        assert history.prune(keep=0) == 1
        assert answer_in(cache, name) == answer, "the history is forgotten, not what was paid for"
    store.close()


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_later_run_refers_to_the_stored_request_unless_it_is_damaged(tmp_path, is_damaged):
    path, name = tmp_path / "poeflow.db", "ab" * 32
    answer = {"choices": [{"message": {"content": "They hold hands."}}]}
    store = StoreWriter(path)
    put(Cache(tmp_path / "cache", store, on_corrupt=pytest.fail), name, answer, request=BODY)
    store.close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        if is_damaged:
            connection.execute("UPDATE contents SET body = '{}' WHERE kind = 'request'")
        known = connection.execute("SELECT id, kind FROM contents").fetchall()
    made = msgspec.structs.replace(DRAFT, fingerprint=name, text="They hold hands.")
    with History(path, warn=pytest.fail) as history:
        recorder = history.begin(run_record())
        recorder.instance(made)
        recorder.ended(END)
        assert history.instances(1) == (made,)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id, kind FROM contents").fetchall() == known


def test_a_result_is_found_by_how_its_fingerprint_begins(history):
    whole = msgspec.structs.replace(DRAFT, fingerprint="ab" * 32)
    keep(history, run_record(), whole, msgspec.structs.replace(DRAFT, fingerprint="ac" * 32))
    assert history.made("ab" * 16) == history.made("ab" * 32) == whole
    assert history.made("ad" * 16) is None


def test_trials_are_found_or_left_out(history):
    keep(history, run_record())
    keep(history, run_record(models={"writer": "Grok-4"}))

    def found(*, is_trial: bool | None) -> list[int]:
        return [row.id for row in history.runs(RunFilter(is_trial=is_trial))]

    assert [found(is_trial=one) for one in (None, True, False)] == [[2, 1], [2], [1]]


async def test_lengths_are_those_of_the_newest_first_request_of_a_flow(history):
    async def asked(instance: str, prompt: int, *, flow: str = "//a.yaml", **more) -> None:
        recorder = history.begin(run_record(flow, **more))
        first = msgspec.structs.replace(request(instance))
        number = await recorder.requested(first)
        tokens = {"prompt_tokens": prompt, "completion_tokens": 2 * prompt}
        recorder.answered(number, AnswerRecord(ended=1.0, **tokens))
        judge = await recorder.requested(msgspec.structs.replace(first, purpose="judge"))
        recorder.answered(judge, AnswerRecord(ended=2.0, prompt_tokens=999))
        await recorder.requested(first)
        recorder.ended(END)

    await asked("draft", 5)
    await asked("draft", 7)
    await asked("each[x]#2", 3)
    await asked("draft", 8, simulated=True)
    await asked("draft", 9, flow="//b.yaml")
    await asked("draft", 6, models={"writer": "Grok-4"})
    found = {"draft": (7, 14), "each[x]": (3, 6)}
    assert history.lengths("//a.yaml", simulated=False) == found
    assert history.lengths("//a.yaml", simulated=True) == {"draft": (8, 16)}
    assert history.lengths("//none.yaml", simulated=False) == {}


async def test_costs_are_those_of_answers_since_a_time_whatever_became_of_their_run(
    history, tmp_path
):
    async def spend(record: RunRecord, *answers: AnswerRecord | None, is_over: bool = True) -> None:
        recorder = history.begin(record)
        for answer in answers:
            number = await recorder.requested(request())
            if answer is not None:
                recorder.answered(number, answer)
        if is_over:
            recorder.ended(RunEnd(exit_code=0, seconds=600.0))
        recorder.close()

    path = tmp_path / ".poeflow" / "history.db"
    cost = AnswerRecord(ended=10.0, cost_usd=0.25)
    late = AnswerRecord(ended=500.0, cost_usd=1.0)
    refused = AnswerRecord(ended=500.0, sends=0, error="no")
    unpriced = AnswerRecord(ended=500.0)
    assert cost_since(path, 0) == (Decimal(0), 0)
    await spend(run_record(started=100.0), cost)
    await spend(run_record(started=1000.0), cost, late, refused, unpriced)
    await spend(run_record(started=2000.0, simulated=True), cost)
    await spend(run_record(started=2000.0), cost, None, is_over=False)
    assert cost_since(path, 0) == (Decimal("1.75"), 2)
    assert cost_since(path, 1200.0) == (Decimal("1.25"), 2), "a run goes on after midnight"
    assert cost_since(path, 1601.0) == (Decimal("0.25"), 1), "a killed one has spent, too"
    assert cost_since(path, 3000.0) == (Decimal(0), 0)


def said(text: str) -> dict:
    return {"choices": [{"message": {"content": text}}]}


async def test_older_answers_to_a_request_are_read_from_the_runs_that_got_them(tmp_path):
    """The newest first: none of a judge, of another request, or of another kind of run."""
    first, spare, repair, judge, other = (letter * 64 for letter in "abcde")
    asked = {
        "one": [("draft", first, "answer"), ("draft", judge, "judge")],
        "no": [("draft", first, "answer")],
        "two": [("draft", spare, "fallback"), ("draft", repair, "repair"), ("b", other, "answer")],
    }
    with History(tmp_path / ".poeflow" / "history.db", warn=pytest.fail) as history:
        for run, requests in asked.items():
            recorder = history.begin(run_record(simulated=run == "no"))
            for name, fingerprint, purpose in requests:
                sent = msgspec.structs.replace(request(name, fingerprint), purpose=purpose)
                number = await recorder.requested(sent)
                recorder.answered(number, AnswerRecord(ended=1.0, answer=said(f"{run} {purpose}")))
            made = {"fingerprint": first, "answered_by": "B" if run == "two" else None}
            recorder.instance(msgspec.structs.replace(DRAFT, **made))
            recorder.ended(END)
    with contextlib.closing(StoreWriter(tmp_path / ".poeflow" / "history.db")) as writer:
        cache = Cache(tmp_path / ".poeflow" / "cache", writer, on_corrupt=pytest.fail)
        found = [
            (one.fingerprint, one.answer, one.answered_by, one.request)
            for one in cache.older(first)
        ]
    assert found == [
        (repair, said("two repair"), "B", BODY),
        (first, said("two fallback"), "B", BODY),
        (first, said("one answer"), None, BODY),
    ]
