"""Time as an argument: durations come from a monotonic clock, waiting is asked of it."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What waits and measures. Tests hand in one that does not sleep."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""

    def now(self) -> float:
        """Seconds since 1970 UTC; only for showing and for HTTP dates."""

    def sleep(self, seconds: float) -> None: ...

    async def asleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
