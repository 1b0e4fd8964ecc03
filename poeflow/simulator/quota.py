"""The cap on requests a minute, as the API counts them: over the last 60 seconds."""

import math
from collections import deque
from typing import Final

from poeflow.clock import Clock
from poeflow.simulator.http_messages import Headers
from poeflow.simulator.refusals import Fault

WINDOW_SECONDS: Final = 60.0


class Quota:
    """Counts requests against `limit` a minute; None counts nothing and says nothing."""

    def __init__(self, limit: int | None, clock: Clock) -> None:
        self._limit = limit
        self._clock = clock
        self._taken: deque[float] = deque()

    def take(self) -> Fault | None:
        """Count one request, or return the fault it is answered with. A refused one is free."""
        if self._limit is None:
            return None
        self._forget()
        if len(self._taken) < self._limit:
            self._taken.append(self._clock.monotonic())
            return None
        return Fault(status=429, retry_after=self._reset())

    def headers(self) -> Headers:
        """Return the headers that tell a client where it stands."""
        if self._limit is None:
            return ()
        self._forget()
        return (
            ("x-ratelimit-limit-requests", str(self._limit)),
            ("x-ratelimit-remaining-requests", str(self._limit - len(self._taken))),
            ("x-ratelimit-reset-requests", str(self._reset())),
        )

    def _reset(self) -> int:
        """Return in how many whole seconds the oldest request stops counting."""
        if not self._taken:
            return 0
        return max(1, math.ceil(self._taken[0] + WINDOW_SECONDS - self._clock.monotonic()))

    def _forget(self) -> None:
        now = self._clock.monotonic()
        while self._taken and self._taken[0] + WINDOW_SECONDS <= now:
            self._taken.popleft()
