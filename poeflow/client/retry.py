"""Whether to try again and how long to wait first, and how fast an origin may be asked.

Decided without I/O: retries are bounded, only for what they can fix, and never surprised by what
a server asks for. One rate limiter is shared by all calls of a client, in any thread.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from poeflow import errors

DEFAULT_ATTEMPTS: Final = 4
MAX_WAIT: Final = 120.0
_FIRST_CEILING: Final = 0.5
_LAST_CEILING: Final = 8.0
_RETRIED_STATUS: Final = frozenset({408, 409, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`attempts` counts all sends of one request; `budget` bounds the seconds they may take."""

    attempts: int = DEFAULT_ATTEMPTS
    budget: float = 1800.0
    max_wait: float = MAX_WAIT
    spread: Callable[[float, float], float] = random.uniform

    def wait_after(
        self, error: errors.APIError, *, attempt: int, elapsed: float, is_media: bool
    ) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        `attempt` counts from 1. Media requests bill per send, so they are sent again only where
        the server said no or the request never went out whole.
        """
        if attempt >= self.attempts or not _is_worth_it(error, is_media=is_media):
            return None
        asked = error.retry_after if isinstance(error, errors.APIStatusError) else None
        ceiling = min(_LAST_CEILING, _FIRST_CEILING * 2 ** min(attempt - 1, 10))
        wait = self.spread(0.0, ceiling) if asked is None else asked
        if wait > self.max_wait or elapsed + wait > self.budget:
            return None
        return wait


def _is_worth_it(error: errors.APIError, *, is_media: bool) -> bool:
    match error:
        case (
            errors.InsufficientCreditsError()
            | errors.BlockedConnectionError()
            | errors.AnswerTooLargeError()
        ):
            return False
        case errors.APIStatusError():
            status = error.status_code
            return error.may_retry and (status in _RETRIED_STATUS or status >= 500)
        case errors.APIConnectionError():
            return not (is_media and error.was_sent)
        case errors.APIResponseError():
            return not is_media
        case _:
            return False


_MINUTE: Final = 60.0


class RateLimiter:
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
