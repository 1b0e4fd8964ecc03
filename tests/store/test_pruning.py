"""What is dropped is below the store and mentioned by no lock, as far as all locks can be read."""

import os

import pytest

from poeflow.digest import sha256_of
from poeflow.errors import DiskError
from poeflow.store.cache import prune_cache

A, B = sha256_of(b"a"), sha256_of(b"b")


@pytest.fixture
def store(tmp_path):
    for name in (A, B):
        (tmp_path / "cache" / name[:2]).mkdir(parents=True)
        (tmp_path / "cache" / name[:2] / f"{name}.json").write_text("{}")
    (tmp_path / "a.lock.json").write_text(f'{{"request": "{A}"}}')
    return tmp_path


def left(store):
    return sorted(path.stem for path in (store / "cache").rglob("*.json"))


def test_what_no_lock_mentions_is_dropped(store):
    locks = [store / "a.lock.json"]
    assert prune_cache(store / "cache", older=None, max_bytes=None, locks=locks) == (1, 2)
    assert left(store) == [A]


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
    with pytest.raises(DiskError, match="what it mentions would be dropped"):
        prune_cache(
            store / "cache", older=None, max_bytes=None, locks=[store / "a.lock.json", lock]
        )
    assert left(store) == sorted([A, B])


def test_nothing_is_dropped_through_a_link(store):
    (store / "elsewhere").symlink_to("cache")
    with pytest.raises(DiskError, match="nothing is dropped through it"):
        prune_cache(store / "elsewhere", older=0.0, max_bytes=0, locks=None)
    assert left(store) == sorted([A, B])


def test_a_damaged_end_counts_as_none(store):
    (store / "cache/ends").mkdir()
    (store / "cache/ends" / A).write_bytes(b"\xff")
    (store / "cache/ends" / B).symlink_to("/dev/zero")
    locks = [store / "a.lock.json"]
    assert prune_cache(store / "cache", older=None, max_bytes=None, locks=locks)[0] == 1
    assert left(store) == [A]
