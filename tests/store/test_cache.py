"""Stored answers come back exactly, or not at all."""

import json
import os
import stat
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poeflow.digest import canonical, sha256_of
from poeflow.errors import DiskError
from poeflow.store.cache import Cache

A, B = sha256_of(b"a"), sha256_of(b"b")
ANSWER = {"id": "chatcmpl-1", "choices": [{"message": {"content": "héllo\u2028"}}], "n": 1.5}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def told_cache(folder):
    told = []
    return Cache(folder, on_corrupt=told.append), told


def entry_of(folder, fingerprint=A):
    return folder / fingerprint[:2] / f"{fingerprint}.json"


def test_an_answer_comes_back(tmp_path):
    cache, told = told_cache(tmp_path / "state" / "cache")
    assert cache.get(A) is None
    cache.put(A, ANSWER)
    cache.put(B, {})
    assert (cache.get(A), cache.get(B), told) == (ANSWER, {}, [])
    assert told_cache(tmp_path / "state" / "cache")[0].get(A) == ANSWER


def test_a_miss_makes_nothing(tmp_path):
    told_cache(tmp_path / "cache")[0].get(A)
    assert list(tmp_path.iterdir()) == []


def test_the_newest_answer_counts(tmp_path):
    cache, _ = told_cache(tmp_path)
    cache.put(A, {"n": 1})
    cache.put(A, {"n": 2})
    assert cache.get(A) == {"n": 2}


def test_what_lies_on_disk(tmp_path):
    cache, _ = told_cache(tmp_path / "cache")
    cache.put(A, {"b": 1, "a": 2})
    path = entry_of(tmp_path / "cache")
    assert json.loads(path.read_bytes()) == {
        "format": 1,
        "fingerprint": A,
        "sha256": sha256_of(b'{"a":2,"b":1}'),
        "answer": {"b": 1, "a": 2},
        "answered_by": None,
        "request": None,
    }
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent, tmp_path / "cache")]
    assert modes == [0o600, 0o700, 0o700]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(), JSON, max_size=4))
def test_every_json_that_is_stored_is_found(tmp_path, answer):
    cache, told = told_cache(tmp_path)
    cache.put(A, answer)
    assert canonical(cache.get(A)) == canonical(answer)
    assert told == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b"chatcmpl-1", b"chatcmpl-2"),
        lambda data: data.replace(A.encode(), B.encode()),
        lambda data: data.replace(b'"format"', b'"other"'),
        lambda data: data.replace("é".encode(), b"\xe9"),
        lambda data: b"[" * 100_000,
        lambda data: b'{"format":1,"answer":' + b'{"a":' * 100_000,
        lambda data: b"null",
        lambda data: b"<<<<<<< HEAD\n" + data,
    ],
)
def test_a_damaged_entry_is_a_miss_and_is_kept_aside(tmp_path, damage):
    cache, told = told_cache(tmp_path)
    cache.put(A, ANSWER)
    path = entry_of(tmp_path)
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    aside = path.with_suffix(".corrupt")
    assert cache.get(A) is None
    assert told == [f"{path} was damaged; it is kept as {aside.name} and asked again"]
    assert (path.exists(), aside.read_bytes()) == (False, damaged)
    cache.put(A, ANSWER)
    assert cache.get(A) == ANSWER


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_single_changed_byte_goes_unnoticed(tmp_path, data):
    cache, _ = told_cache(tmp_path)
    cache.put(A, ANSWER)
    path = entry_of(tmp_path)
    changed = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(changed) - 1))
    changed[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    assert cache.get(A) in (None, ANSWER)


def test_an_entry_of_another_format_stays(tmp_path):
    cache, told = told_cache(tmp_path)
    cache.put(A, ANSWER)
    path = entry_of(tmp_path)
    newer = path.read_bytes().replace(b'"format":1', b'"format":2,"more":true')
    path.write_bytes(newer)
    assert cache.get(A) is None
    assert told == [f"{path} was stored by another version of poeflow; it is not used"]
    assert path.read_bytes() == newer


def test_a_cache_that_is_a_link_is_not_written(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "cache").symlink_to(elsewhere)
    with pytest.raises(DiskError) as caught:
        told_cache(tmp_path / "cache")[0].put(A, ANSWER)
    assert str(caught.value) == (
        f"{tmp_path}/cache is a link; nothing is written through it; replace the link by a folder"
    )
    assert list(elsewhere.iterdir()) == []


def test_an_unreadable_entry_is_an_error_not_a_second_bill(tmp_path):
    entry_of(tmp_path).mkdir(parents=True)
    with pytest.raises(DiskError) as caught:
        told_cache(tmp_path)[0].get(A)
    assert str(caught.value) == (f"{entry_of(tmp_path)} cannot be read: is a folder; move it away")


@pytest.mark.parametrize("name", ["../../etc/passwd", "", A.upper(), A + "0", "g" * 64])
def test_only_a_fingerprint_names_an_entry(tmp_path, name):
    with pytest.raises(AssertionError, match="64 hexadecimal digits"):
        told_cache(tmp_path)[0].get(name)


def test_threads_store_at_the_same_time(tmp_path):
    cache, told = told_cache(tmp_path / "cache")
    names = [sha256_of(bytes([number])) for number in range(40)]

    def store(part):
        for name in names[part::4]:
            cache.put(name, {"of": name})
            cache.put(A, ANSWER)

    threads = [threading.Thread(target=store, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [cache.get(name) for name in (*names, A)] == [*({"of": n} for n in names), ANSWER]
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


def test_what_is_no_file_of_the_store_is_not_read(tmp_path):
    cache, _ = told_cache(tmp_path / "cache")
    (tmp_path / "outside").write_bytes(b"secret")
    cache.put_media("https://a/b.png", b"png")
    pointer = next((tmp_path / "cache/media/urls").iterdir())
    media = next((tmp_path / "cache/media/files").iterdir())
    places = [
        (entry_of(tmp_path / "cache"), lambda: cache.get(A)),
        (tmp_path / "cache/ends" / A, lambda: cache.end(A)),
        (media, lambda: cache.media("https://a/b.png")),
        (pointer, lambda: cache.media("https://a/b.png")),
    ]
    for path, read in places:
        for _ in traps(path, tmp_path / "outside"):
            with pytest.raises(DiskError, match=f"{path.name}.* cannot be read: .*; move it away"):
                read()


def test_a_pointer_leads_to_nothing_but_a_hash(tmp_path):
    cache, told = told_cache(tmp_path / "cache")
    (tmp_path / "secret").write_bytes(b"secret")
    cache.put_media("https://a/b.png", b"png")
    pointer = next((tmp_path / "cache/media/urls").iterdir())
    for written in (b"../../../../secret", str(tmp_path / "secret").encode(), b"\xff", b""):
        pointer.write_bytes(written)
        assert cache.media("https://a/b.png") is None
    assert told == [f"{pointer} was damaged; the file is fetched again"] * 4
