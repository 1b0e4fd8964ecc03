"""The system's clock is the machine's own, and really waits."""

import asyncio
import time

from poeflow.clock import SystemClock


def test_it_tells_the_machines_time():
    clock = SystemClock()
    before, steady = time.time(), time.monotonic()
    assert before <= clock.now() <= time.time()
    assert steady <= clock.monotonic() <= time.monotonic()


def test_it_waits_at_least_as_long_as_asked():
    clock = SystemClock()
    start = clock.monotonic()
    clock.sleep(0.001)
    assert clock.monotonic() - start >= 0.001


async def test_it_waits_without_holding_others_up():
    clock = SystemClock()
    done: list[str] = []

    async def wait() -> None:
        start = clock.monotonic()
        await clock.asleep(0.001)
        assert clock.monotonic() - start >= 0.001
        done.append("waited")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(wait())
        await asyncio.sleep(0)
        done.append("worked")
    assert done == ["worked", "waited"]
