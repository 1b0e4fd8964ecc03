"""Stored answers come back exactly, or not at all."""

import asyncio
import contextlib
import os
import sqlite3
import stat
import threading
import tracemalloc
import zlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storing import answer_in, link, put

from poeflow.digest import canonical, sha256_of, short_hash
from poeflow.errors import DiskError
from poeflow.store.answer_lines import CacheEntry
from poeflow.store.cache import Cache
from poeflow.store.contents import MAX_BYTES
from poeflow.store.writer import StoreWriter

A, B, C = (sha256_of(one) for one in (b"a", b"b", b"c"))
ANSWER = {"id": "chatcmpl-1", "choices": [{"message": {"content": "héllo\u2028"}}], "n": 1.5}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def writer(tmp_path):
    made = StoreWriter(tmp_path / "state" / "poeflow.db")
    yield made
    made.close()


@pytest.fixture
def told():
    return []


@pytest.fixture
def cache(writer, told):
    return Cache(writer.path.parent / "cache", writer, on_corrupt=told.append)


def altered(writer, *statements: tuple[str, tuple]) -> None:
    """Change the database past all checks, as damage does."""
    writer.flush()
    with contextlib.closing(sqlite3.connect(writer.path)) as connection, connection:
        for sql, values in statements:
            connection.execute(sql, values)


def test_an_answer_comes_back(cache, writer, told):
    assert answer_in(cache, A) is None
    request = {"body": {"model": "A"}}
    put(cache, A, ANSWER, answered_by="B", request=request)
    put(cache, B, {})
    assert (answer_in(cache, A), answer_in(cache, B), told) == (ANSWER, {}, [])
    again = Cache(writer.path.parent / "cache", writer, on_corrupt=told.append)
    found = CacheEntry(fingerprint=A, answer=ANSWER, answered_by="B", request=request)
    assert again.entry(A) == found


@pytest.mark.parametrize("is_old", [False, True])
def test_an_answer_is_found_by_the_beginning_that_the_lock_has(cache, told, writer, is_old):
    other, short = f"{A[:32]}{B[32:]}", short_hash(A)
    assert cache.locked(short) is None
    if is_old:
        folder = writer.path.parent / "cache"
        for name, answer in ((A, ANSWER), (B, {})):
            line = {"format": 1, "fingerprint": name, "sha256": sha256_of(canonical(answer))}
            path = folder / name[:2] / f"{name}.json"
            path.parent.mkdir(parents=True)
            path.write_bytes(canonical(line | {"answer": answer}))
        (folder / "ends").mkdir()
        (folder / "ends" / A).write_text(B)
        cache = Cache(folder, writer, on_corrupt=told.append)
    else:
        put(cache, A, ANSWER)
        put(cache, B, {})
        link(cache, A, B)
    first, last = cache.locked(short)
    assert (first, last.fingerprint, last.answer) == (A, B, {})
    assert (answer_in(cache, A), cache.end(A).fingerprint) == (ANSWER, B)
    if not is_old:
        put(cache, other, {})
        assert cache.locked(short) is None, "two that begin alike are not told apart"
    assert told == []


def test_answers_are_read_ahead_of_their_use(cache, writer):
    """Those of one request each: what was read is used until others are."""
    many = [sha256_of(str(number).encode()) for number in range(250)]
    for name in many:
        put(cache, name, {"of": name})
    shorts = list(map(short_hash, many))
    cache.read_ahead(shorts)
    altered(writer, ("DELETE FROM answers", ()))
    found = [cache.locked(short) for short in shorts]
    cache.read_ahead([])
    assert [(first, entry.answer) for first, entry in found] == [
        (name, {"of": name}) for name in many
    ]
    assert cache.locked(shorts[0]) is None


def test_what_is_stored_later_takes_the_place_of_what_was_read_ahead(cache):
    for name in (A, B, C):
        put(cache, name, {"of": name})
    shorts = [short_hash(one) for one in (A, B, C)]
    cache.read_ahead(shorts)
    put(cache, A, {"of": "another run"})
    link(cache, B, A)
    found = [cache.locked(short) for short in shorts]
    assert [first for first, _ in found] == [A, B, C]
    assert [entry.answer["of"] for _, entry in found] == ["another run", "another run", C]


def test_what_is_not_plain_is_read_when_it_is_used(cache, writer):
    """A conversation, a large answer, two that begin alike, and one that is missing."""
    large, alike, missing = (sha256_of(one) for one in (b"large", b"alike", b"missing"))
    noise = os.urandom(100_000).hex()
    answers = {A: {}, B: ANSWER, large: {"noise": noise}, alike: {}, f"{alike[:32]}{B[32:]}": {}}
    for name, answer in answers.items():
        put(cache, name, answer)
    link(cache, A, B)
    shorts = [short_hash(one) for one in (A, large, alike, missing)]
    alone = [cache.locked(short) for short in shorts]
    cache.read_ahead(shorts)
    assert [cache.locked(short) for short in shorts] == alone
    assert [entry and entry[0] for entry in alone] == [A, large, None, None]
    assert alone[0][1].answer == ANSWER


def test_a_miss_makes_nothing(cache, tmp_path):
    answer_in(cache, A)
    assert list(tmp_path.iterdir()) == []


def test_the_newest_answer_counts(cache):
    put(cache, A, {"n": 1})
    put(cache, A, {"n": 2})
    assert answer_in(cache, A) == {"n": 2}


def test_simulated_answers_are_apart(cache, writer, told):
    simulated = Cache(
        writer.path.parent / "simulated", writer, on_corrupt=told.append, simulated=True
    )
    put(cache, A, {"n": 1})
    assert (answer_in(simulated, A), simulated.has_any, cache.has_any) == (None, False, True)
    put(simulated, A, {"n": 2})
    assert (answer_in(cache, A), answer_in(simulated, A)) == ({"n": 1}, {"n": 2})


def test_what_is_not_used_is_a_miss(cache, writer, told):
    put(cache, A, ANSWER)
    unused = Cache(writer.path.parent, writer, on_corrupt=told.append, is_used=False)
    assert (answer_in(unused, A), unused.has_any) == (None, False)


def test_the_file_is_nobody_elses(cache, writer):
    put(cache, A, {"b": 1, "a": 2})
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (writer.path, writer.path.parent)]
    assert modes == [0o600, 0o700]


def test_an_answer_is_stored_once_and_compressed(cache, writer):
    text = "they hold hands " * 10_000
    for name in (A, B):
        put(cache, name, {"choices": [{"message": {"content": text}}]})
    writer.close()
    assert writer.path.stat().st_size < 200_000
    with contextlib.closing(sqlite3.connect(writer.path)) as connection:
        (size,) = connection.execute("SELECT sum(length(body)) FROM contents").fetchone()
    assert size < len(text) / 50


async def test_many_that_wait_share_a_commit(cache, writer):
    await cache.store(A, {})
    before = writer.commits
    names = [sha256_of(bytes([number])) for number in range(100)]
    await asyncio.gather(*(cache.store(name, {"of": name}) for name in names))
    assert writer.commits - before <= 2
    assert [answer_in(cache, name) for name in names] == [{"of": name} for name in names]


async def test_a_wait_that_is_cancelled_stores_all_the_same(cache, writer):
    storing = asyncio.create_task(cache.store(A, ANSWER))
    await asyncio.sleep(0)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    writer.flush()
    assert answer_in(cache, A) == ANSWER


def test_one_that_cannot_be_stored_costs_no_other(cache, writer):
    deep = {}
    for _ in range(2000):
        deep = {"a": deep}

    async def store() -> list[object]:
        both = (cache.store(A, deep), cache.store(B, ANSWER))
        return await asyncio.gather(*both, return_exceptions=True)

    first, second = asyncio.run(store())
    assert (type(first), second) == (DiskError, None)
    assert (answer_in(cache, A), answer_in(cache, B)) == (None, ANSWER)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_every_json_that_is_stored_is_found(cache, told, answer):
    put(cache, A, answer)
    assert canonical(answer_in(cache, A)) == canonical(answer)
    assert told == []


BODY = "SELECT answer FROM answers"
DAMAGE = {
    "nothing": b"",
    "no text": b"\xff\xfe",
    "cut": zlib.compress(b'{"id":"chatcmpl-1","choices":[]}')[:-3],
    "more": zlib.compress(b"{}") + b"more",
    "another answer": '{"id":"chatcmpl-2"}',
    "not JSON": "<<<<<<< HEAD",
    "too deep": "[" * 100_000,
    "a number": 5,
    "a bomb": zlib.compress(bytes(MAX_BYTES + 1)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_entry_is_a_miss_and_mended_by_the_next_answer(cache, writer, told, damage):
    put(cache, A, ANSWER)
    altered(writer, (f"UPDATE contents SET body = ? WHERE id IN ({BODY})", (damage,)))
    assert [answer_in(cache, A), answer_in(cache, A)] == [None, None]
    assert told == [f"the stored answer {A[:12]} was damaged; it is asked again"]
    put(cache, A, ANSWER)
    assert answer_in(cache, A) == ANSWER


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_no_single_changed_byte_goes_unnoticed(cache, writer, data):
    answer = {"text": "they hold hands " * 60}
    put(cache, A, answer)
    with contextlib.closing(sqlite3.connect(writer.path)) as connection:
        (body,) = connection.execute(f"SELECT body FROM contents WHERE id IN ({BODY})").fetchone()
    changed = bytearray(body)
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    altered(writer, (f"UPDATE contents SET body = ? WHERE id IN ({BODY})", (bytes(changed),)))
    assert answer_in(cache, A) in (None, answer)


def test_a_store_in_a_folder_that_is_a_link_is_not_written(tmp_path, told):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "state").symlink_to(elsewhere)
    writer = StoreWriter(tmp_path / "state" / "poeflow.db")
    cache = Cache(tmp_path / "state" / "cache", writer, on_corrupt=told.append)
    with pytest.raises(DiskError) as caught:
        put(cache, A, ANSWER)
    writer.close()
    assert str(caught.value) == (
        f"{tmp_path}/state is a link; nothing is written through it; replace the link by a folder"
    )
    assert list(elsewhere.iterdir()) == []


def test_a_store_that_is_damaged_has_no_answers_and_is_said_once(cache, writer, told):
    put(cache, A, ANSWER)
    writer.close()
    writer.path.write_bytes(b"\xa5" * 8192)
    assert (answer_in(cache, A), cache.end(A), cache.has_any) == (None, None, False)
    assert told == [
        "the store cannot be read: file is not a database; the answers in it are not used"
    ]
    put(cache, A, ANSWER)
    assert answer_in(cache, A) == ANSWER


def test_a_store_that_cannot_be_opened_has_no_place_for_an_answer(cache, writer):
    writer.path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(writer.path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(DiskError, match="written by a newer version"):
        cache.check_can_store(A)
    with pytest.raises(DiskError, match="written by a newer version"):
        put(cache, A, ANSWER)
    with pytest.raises(DiskError, match="written by a newer version"):
        answer_in(cache, A)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", A.upper(), A + "0", "g" * 64])
def test_only_a_fingerprint_names_an_entry(cache, name):
    for look in (cache.entry, cache.end, lambda name: put(cache, name, {})):
        with pytest.raises(AssertionError, match="64 hexadecimal digits"):
            look(name)


def test_threads_store_at_the_same_time(cache, told):
    names = [sha256_of(bytes([number])) for number in range(40)]

    def store(part):
        for name in names[part::4]:
            put(cache, name, {"of": name})
            put(cache, A, ANSWER)

    threads = [threading.Thread(target=store, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [answer_in(cache, name) for name in (*names, A)] == [*({"of": n} for n in names), ANSWER]
    assert told == []


def traps(path, outside):
    """Put in turn what is no file of ours in the place of one; each ends the same."""
    for kind in ("zero", "outside", "pipe", "folder", "huge"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        match kind:
            case "zero":
                path.symlink_to("/dev/zero")
            case "outside":
                path.symlink_to(outside)
            case "pipe":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case _:
                with path.open("wb") as file:
                    file.truncate(3 * 1024**3)
        yield kind


def test_what_is_no_file_of_the_store_is_not_read(writer, tmp_path):
    folder = tmp_path / "state/cache"
    (folder / A[:2]).mkdir(parents=True)
    cache = Cache(folder, writer, on_corrupt=pytest.fail)
    (tmp_path / "outside").write_bytes(b"secret")
    cache.put_media("https://a/b.png", b"png")
    pointer = next((folder / "media/urls").iterdir())
    media = next((folder / "media/files").iterdir())
    places = [
        (folder / A[:2] / f"{A}.json", lambda: answer_in(cache, A)),
        (folder / "ends" / A, lambda: cache.end(A)),
        (media, lambda: cache.media("https://a/b.png")),
        (pointer, lambda: cache.media("https://a/b.png")),
    ]
    for path, read in places:
        for _ in traps(path, tmp_path / "outside"):
            with pytest.raises(DiskError, match=f"{path.name}.* cannot be read: .*; move it away"):
                read()


def test_a_pointer_leads_to_nothing_but_a_hash(cache, told, tmp_path):
    (tmp_path / "secret").write_bytes(b"secret")
    cache.put_media("https://a/b.png", b"png")
    pointer = next((tmp_path / "state/cache/media/urls").iterdir())
    for written in (b"../../../../secret", str(tmp_path / "secret").encode(), b"\xff", b""):
        pointer.write_bytes(written)
        assert cache.media("https://a/b.png") is None
    assert told == [f"{pointer} was damaged; the file is fetched again"] * 4


def test_no_copy_of_a_long_answer_is_made_to_store_it(cache, writer, told):
    text = os.urandom(4 * 2**20).hex()
    put(cache, B, {})
    tracemalloc.start()
    try:
        put(cache, A, {"choices": [{"message": {"content": text}}]})
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < len(text)
    assert answer_in(cache, A)["choices"][0]["message"]["content"] == text
    again = Cache(writer.path.parent / "cache", writer, on_corrupt=told.append)
    put(cache, A, {"choices": [{"message": {"content": text}}]})
    assert (answer_in(again, A), told) == (answer_in(cache, A), [])
