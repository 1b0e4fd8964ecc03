"""How fast one origin may be asked: requests per minute, and the pauses it asks for.

Shared by every call of a client and safe between threads. Decides when, and leaves the waiting to
its caller.
"""

import threading
from collections import deque
from collections.abc import Mapping
from typing import Final

_MINUTE: Final = 60.0


class Pace:
    """Hands out moments to send. `per_minute` None means no limit of our own."""

    def __init__(self, *, per_minute: int | None = None) -> None:
        self._per_minute = per_minute
        self._sent: deque[float] = deque()
        self._not_before = 0.0
        self._lock = threading.Lock()

    def wait(self, now: float) -> float:
        """Return 0 and count a request as sent at `now`, or the seconds to wait first.

        `now` is monotonic.
        """
        with self._lock:
            wait = self._not_before - now
            if wait > 0:
                return wait
            if self._per_minute is None:
                return 0.0
            while self._sent and self._sent[0] + _MINUTE - now <= 0:
                self._sent.popleft()
            if len(self._sent) >= self._per_minute:
                return self._sent[0] + _MINUTE - now
            self._sent.append(now)
            return 0.0

    def pause(self, until: float) -> None:
        """Let nobody send before `until`: the origin said it is too much."""
        with self._lock:
            self._not_before = max(self._not_before, until)

    def learn(self, headers: Mapping[str, str], now: float, *, longest: float) -> None:
        """Take note of `x-ratelimit-*`, which some answers bring: none left means wait for reset.

        A reset that is no number, negative, or further than `longest` seconds is not believed.
        """
        if headers.get("x-ratelimit-remaining-requests") != "0":
            return
        try:
            reset = float(headers.get("x-ratelimit-reset-requests", ""))
        except ValueError:
            return
        if 0 < reset <= longest:
            self.pause(now + reset)
