"""What is dropped is an answer that no lock mentions, as far as all locks can be read."""

import os

import pytest
from storing import answer_in

from poeflow.digest import sha256_of, short_hash
from poeflow.errors import DiskError
from poeflow.records import RunEnd, RunRecord
from poeflow.store.answer_lines import CacheEntry, EndLine
from poeflow.store.cache import Cache, prune_cache, put_end, put_entry
from poeflow.store.contents import Pruning
from poeflow.store.history import History
from poeflow.store.writer import StoreWriter

A, B, C = (sha256_of(name) for name in (b"a", b"b", b"c"))
TEXT = "they hold hands"


@pytest.fixture
def store(tmp_path):
    """A folder with a store of two answers, the second a day newer, and a lock with the first."""
    writer = StoreWriter(tmp_path / "poeflow.db")
    for at, name in ((1000.0, A), (90_000.0, B)):
        entry = CacheEntry(fingerprint=name, answer={"of": name, "text": TEXT})
        writer.do(lambda c, e=entry, at=at: put_entry(c, e, simulated=False, at=at))
        writer.do(lambda c, e=entry, at=at: put_entry(c, e, simulated=True, at=at))
    writer.close()
    (tmp_path / "a.lock.json").write_text(f'{{"request": "{A}"}}')
    return tmp_path


def prune(store, **wanted):
    return prune_cache(store / "poeflow.db", store / "media", Pruning(**wanted), pytest.fail)


def left(store, *, simulated=False):
    writer = StoreWriter(store / "poeflow.db")
    cache = Cache(store, writer, on_corrupt=pytest.fail, simulated=simulated)
    return [name for name in (A, B, C) if answer_in(cache, name) is not None]


def test_what_no_lock_mentions_is_dropped(store):
    count, size = prune(store, locks=(store / "a.lock.json",))
    assert (count, size > 60) == (1, True)
    assert (left(store), left(store, simulated=True)) == ([A], [A, B])


def test_what_a_conversation_ended_with_stays_with_its_first_request(store):
    writer = StoreWriter(store / "poeflow.db")
    writer.do(lambda c: put_end(c, EndLine(format=1, first=A, last=B), simulated=False))
    writer.close()
    assert prune(store, locks=(store / "a.lock.json",)) == (0, 0)
    assert left(store) == [A, B]


@pytest.mark.parametrize("more", ["", " 0a1b2c3d", '","outputs":{'])
def test_a_short_request_is_mentioned(store, more):
    row = f'"{"a" * 22} {short_hash(A)} - - -{more}"'
    lock = store / "a.lock.json"
    lock.write_text(f'<<<<<<< a lock that was cut short\n,"[x]":\n {row}')
    writer = StoreWriter(store / "poeflow.db")
    writer.do(lambda c: put_end(c, EndLine(format=1, first=A, last=C), simulated=False))
    entry = CacheEntry(fingerprint=C, answer={"of": C, "text": TEXT})
    writer.do(lambda c: put_entry(c, entry, simulated=False, at=1.0))
    writer.close()
    assert prune(store, locks=(lock,))[0] == 1
    assert left(store) == [A, C]


def test_the_old_are_dropped_and_the_newest_kept(store):
    assert prune(store, before=1000.0)[0] == 0
    assert prune(store, max_bytes=1000)[0] == 0
    assert prune(store, before=1001.0)[0] == 1
    assert left(store) == [B]
    assert prune(store, max_bytes=0)[0] == 1
    assert left(store) == []


def test_media_are_dropped_by_age_and_size_and_not_by_locks(store):
    for number, name in enumerate(("old", "new")):
        path = store / "media" / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (1000.0 + number * 99_000, 1000.0 + number * 99_000))
    assert prune(store, locks=(store / "a.lock.json",))[0] == 1
    assert prune(store, before=50_000.0)[0] == 2
    assert [path.name for path in (store / "media/files").iterdir()] == ["new"]
    assert prune(store, max_bytes=99) == (1, 100)


def test_dropping_gives_the_space_back_and_leaves_the_history(store):
    path = store / "poeflow.db"
    large = CacheEntry(fingerprint=C, answer={"text": os.urandom(200_000).hex()})
    writer = StoreWriter(path)
    writer.do(lambda c: put_entry(c, large, simulated=False, at=1.0))
    with History(path, warn=pytest.fail, store=writer) as history:
        run = RunRecord(flow="//a", name="a", started=1.0, simulated=False, version="1")
        history.begin(run).ended(RunEnd(exit_code=0, seconds=1.0))
        writer.close()
        assert path.stat().st_size > 200_000
        assert prune(store, before=2.0)[0] == 1
        assert path.stat().st_size < 150_000
        assert [row.record for row in (history.run(1),)] == [run]


@pytest.mark.parametrize("kind", ["zero", "pipe", "huge"])
def test_a_lock_that_cannot_be_read_costs_no_answer(store, kind):
    lock = store / "b.lock.json"
    match kind:
        case "zero":
            lock.symlink_to("/dev/zero")
        case "pipe":
            os.mkfifo(lock)
        case _:
            with lock.open("wb") as file:
                file.truncate(3 * 1024**3)
    with pytest.raises(DiskError, match="the answers that it mentions would be deleted"):
        prune(store, locks=(store / "a.lock.json", lock))
    assert left(store) == [A, B]


def test_nothing_is_dropped_through_a_link(store, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").write_text("precious")
    (store / "media").symlink_to(elsewhere)
    with pytest.raises(DiskError, match="nothing is dropped through it"):
        prune(store, before=1e12, max_bytes=0)
    assert (elsewhere / "precious").exists()
    assert left(store) == [A, B]
