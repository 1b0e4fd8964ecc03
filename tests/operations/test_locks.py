"""The lock while a run goes on: what was made so far, beside what the last run made."""

import asyncio

import pytest

from poeflow.engine.lock_update import LockUpdate
from poeflow.operations.locks import PAUSE, writing_lock
from poeflow.store.lock.entries import LockEntry
from poeflow.store.lockfile import Lock, LockFile

ONE, TWO, OLD = (LockEntry(status="skipped", recipe=digit * 22) for digit in "123")
INPUTS = "f" * 22


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
    async with writing_lock(lock, lock_update, INPUTS, clock):
        for name, block in made.items():
            lock_update.put(name, block)
        await clock.is_round.wait()
        if is_cut:
            raise KeyError
    assert set(clock.asked) == {PAUSE}


@pytest.fixture
def lock(tmp_path):
    return LockFile(tmp_path / "a.lock.json", shown="a.lock.json")


async def test_what_was_made_so_far_is_kept_when_the_run_is_cut_short(lock):
    lock_update = LockUpdate((Lock(inputs=INPUTS, instances={"one": OLD, "two": OLD}),))
    with pytest.raises(KeyError):
        await run(lock, lock_update, made={"one": ONE}, is_cut=True)
    assert lock.read() == Lock(inputs=INPUTS, instances={"one": ONE, "two": OLD})


async def test_a_whole_run_leaves_only_what_it_made(lock):
    lock_update = LockUpdate((Lock(inputs=INPUTS, instances={"one": OLD, "gone": OLD}),))
    await run(lock, lock_update, made={"one": ONE, "two": TWO}, is_cut=False)
    assert lock.read() == Lock(inputs=INPUTS, instances={"one": ONE, "two": TWO})


class SlowDisk(LockFile):
    """A lock file that takes three seconds to write, by `clock`."""

    def __init__(self, path, clock) -> None:
        super().__init__(path, shown="a.lock.json")
        self._clock = clock

    def write(self, lock: Lock) -> None:
        super().write(lock)
        self._clock.time += 3.0


class Watch(TurnedClock):
    """That clock, with a time that others move."""

    time = 0.0

    def monotonic(self) -> float:
        return self.time


async def test_a_lock_that_takes_long_is_written_less_often(tmp_path):
    clock, lock_update = Watch(), LockUpdate()
    async with writing_lock(SlowDisk(tmp_path / "a.lock.json", clock), lock_update, INPUTS, clock):
        lock_update.put("one", ONE)
        await clock.is_round.wait()
    assert clock.asked == [PAUSE, 60.0]


async def test_nothing_made_is_nothing_written(lock):
    with pytest.raises(KeyError):
        await run(lock, LockUpdate(), made={}, is_cut=True)
    assert lock.read() is None


async def made_and_cut_short(lock: LockFile, lock_update: LockUpdate) -> None:
    async with writing_lock(lock, lock_update, INPUTS, TurnedClock()):
        lock_update.put("one", ONE)
        raise KeyError


async def test_what_was_made_since_the_last_pause_is_kept_when_the_run_is_cut_short(lock):
    with pytest.raises(KeyError):
        await made_and_cut_short(lock, LockUpdate())
    assert lock.read() == Lock(inputs=INPUTS, instances={"one": ONE})
