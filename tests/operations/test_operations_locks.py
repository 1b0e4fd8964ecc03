"""The lock while a run goes on: what was made so far, beside what the last run made."""

import asyncio

import pytest

from poeflow.engine.lock_update import LockUpdate
from poeflow.operations.locks import PAUSE, kept_up
from poeflow.store.lockfile import Lock, LockEntry, LockFile

ONE, TWO, OLD = (LockEntry(status="skipped", recipe=digit * 64) for digit in "123")
INPUTS = "f" * 64


class TurnedClock:
    """A clock that sleeps through the first pause at once, and the second for ever."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.is_round = asyncio.Event()

    def monotonic(self) -> float:
        return 0.0

    def now(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        raise AssertionError

    async def asleep(self, seconds: float) -> None:
        self.asked.append(seconds)
        if len(self.asked) > 1:
            self.is_round.set()
            await asyncio.Event().wait()


async def run(
    lock: LockFile, lock_update: LockUpdate, *, made: dict[str, LockEntry], is_cut: bool
) -> None:
    """Make blocks, wait until what was made so far was looked at, and end or fail."""
    clock = TurnedClock()
    async with kept_up(lock, lock_update, INPUTS, clock):
        for name, block in made.items():
            lock_update.keep(name, block)
        await clock.is_round.wait()
        if is_cut:
            raise KeyError
    assert set(clock.asked) == {PAUSE}


@pytest.fixture
def lock(tmp_path):
    return LockFile(tmp_path / "a.lock.json", shown="a.lock.json")


async def test_what_was_made_so_far_is_kept_when_the_run_is_cut_short(lock):
    lock_update = LockUpdate(
        (Lock(poeflow_lock=1, inputs=INPUTS, instances={"one": OLD, "two": OLD}),)
    )
    with pytest.raises(KeyError):
        await run(lock, lock_update, made={"one": ONE}, is_cut=True)
    assert lock.read() == Lock(poeflow_lock=1, inputs=INPUTS, instances={"one": ONE, "two": OLD})


async def test_a_whole_run_leaves_only_what_it_made(lock):
    lock_update = LockUpdate(
        (Lock(poeflow_lock=1, inputs=INPUTS, instances={"one": OLD, "gone": OLD}),)
    )
    await run(lock, lock_update, made={"one": ONE, "two": TWO}, is_cut=False)
    assert lock.read() == Lock(poeflow_lock=1, inputs=INPUTS, instances={"one": ONE, "two": TWO})


async def test_nothing_made_is_nothing_written(lock):
    with pytest.raises(KeyError):
        await run(lock, LockUpdate(), made={}, is_cut=True)
    assert lock.read() is None
