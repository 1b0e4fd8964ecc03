"""The clock that everything gets that needs time; a ticker; durations as text and as numbers."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Protocol

from poeflow.lazy_pattern import lazy_pattern


class Clock(Protocol):
    """Measures time and sleeps. Tests pass one that does not sleep."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back."""

    def now(self) -> float:
        """Seconds since 1970 UTC; only for showing and for HTTP dates."""

    def sleep(self, seconds: float) -> None: ...

    async def asleep(self, seconds: float) -> None: ...


class SystemClock:
    """The system's clock."""

    monotonic = staticmethod(time.monotonic)

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Ticker:
    """Calls `look` every `pause` seconds in a thread, from `start` to `stop` or an `OSError`."""

    def __init__(self, look: Callable[[], None], *, pause: float, name: str) -> None:
        self._look = look
        self._pause = pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Stop; a call that is under way ends before this returns."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        with suppress(OSError):
            while not self._over.wait(self._pause):
                self._look()


_SHAPE: Final = lazy_pattern(r"(\d+(?:\.\d+)?)(ms|s|m|h)?")
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
PATTERN: Final = r"^\d+(\.\d+)?(ms|s|m|h)?$"


def seconds(duration: float | str) -> float:
    """Return a duration in seconds: `90` and `"90s"` are the same. Raises `ValueError`."""
    if isinstance(duration, int | float):
        return float(duration)
    match = _SHAPE.fullmatch(duration.strip())
    if match is None:
        raise ValueError(f"{duration!r} is not a duration; write 90s, 10m or 1h")
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def spoken(duration: float) -> str:
    """Return a duration as text: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 05 min`, `3 d 4 h`."""
    if duration < 10:
        return f"{duration:.1f} s"
    if duration < 60:
        return f"{duration:.0f} s"
    minutes, rest = divmod(round(duration), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    minutes += rest >= 30
    hours, rest = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {rest:02d} min" if rest else f"{hours} h"
    days, rest = divmod(hours + (rest >= 30), 24)
    return f"{days} d {rest} h" if rest else f"{days} d"
