"""Decides whether and when to retry, and limits the rate of requests, without I/O.

Retries are bounded and only for errors they can fix; implausible delays of servers are ignored.
One rate limiter is shared by all calls of a client, in any thread.
"""

import random
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from poeflow import errors

DEFAULT_ATTEMPTS: Final = 4
MAX_WAIT: Final = 120.0
_FIRST_CEILING: Final = 0.5
_LAST_CEILING: Final = 8.0
_RETRIED_STATUS: Final = frozenset({408, 409, 429})
_REFUSALS: Final = frozenset({409, 429, 529})
"""What a server sends before it begins; after other statuses an image may have been made."""
_UNAVAILABLE: Final = 503


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """`attempts` counts all sends of one request; `budget` limits their seconds in total."""

    attempts: int = DEFAULT_ATTEMPTS
    budget: float = 1800.0
    max_wait: float = MAX_WAIT
    spread: Callable[[float, float], float] = random.uniform

    def wait_after(
        self, error: errors.APIError, *, attempt: int, elapsed: float, is_media: bool
    ) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        `attempt` counts from 1. Media requests are billed per send, so they are sent again only if
        the server refused (409, 429, 529, or 503 with a time to come back) or the request was not
        sent completely.
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
            if is_media and not _is_refusal(error):
                return False
            return error.may_retry and (status in _RETRIED_STATUS or status >= 500)
        case errors.APIConnectionError():
            return not (is_media and error.was_sent)
        case errors.APIResponseError():
            return not is_media
        case _:
            return False


def _is_refusal(error: errors.APIStatusError) -> bool:
    """Return whether the server surely began nothing. Gateways send a bare 503 for any failure."""
    if error.status_code == _UNAVAILABLE:
        return error.retry_after is not None
    return error.status_code in _REFUSALS


_MINUTE: Final = 60.0


class CountedSend:
    """A request that was sent at `at`, and the tokens that it counts for."""

    __slots__ = ("at", "tokens")

    def __init__(self, at: float, tokens: int) -> None:
        self.at = at
        self.tokens = tokens


class LastMinute:
    """What was sent in the last minute, for all limiters that count it together."""

    def __init__(self) -> None:
        self.sent: deque[CountedSend] = deque()
        self.tokens = 0
        self.lock = threading.RLock()


class RateLimiter:
    """Decides when a request may be sent.

    Tokens are counted by an estimate until `correct` knows better. A request of more tokens than
    a minute may have is sent alone in its minute. Other limiters may count the `last_minute`, too,
    each with limits of its own.
    """

    def __init__(
        self,
        *,
        per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        last_minute: LastMinute | None = None,
    ) -> None:
        self._last = last_minute or LastMinute()
        self._lock = self._last.lock
        self._not_before = 0.0
        self._per_minute = per_minute
        self._tokens_per_minute = tokens_per_minute
        self.is_limited = per_minute is not None or tokens_per_minute is not None
        """Whether it counts what is sent; without limits of our own only an origin limits."""

    def wait(self, now: float) -> float:
        """Return 0 and count a request as sent at `now`, or the seconds to wait first.

        `now` is monotonic.
        """
        with self._lock:
            wait = self.delay(now, 0)
            if not wait and self.is_limited:
                self.count(now, 0)
            return wait

    def delay(self, now: float, tokens: int) -> float:
        """Return the seconds until a request of about so many tokens may be sent."""
        if not self.is_limited:  # nothing is counted, so nothing is changed
            return max(self._not_before - now, 0.0)
        with self._lock:
            wait = self._not_before - now
            if wait > 0:
                return wait
            while self._last.sent and self._last.sent[0].at + _MINUTE - now <= 0:
                self._last.tokens -= self._last.sent.popleft().tokens
            return max(self._until_fewer(now), self._until_less(now, tokens))

    def count(self, now: float, tokens: int) -> CountedSend:
        """Count a request as sent at `now`."""
        sent = CountedSend(now, tokens)
        with self._lock:
            self._last.sent.append(sent)
            self._last.tokens += tokens
        return sent

    def correct(self, sent: CountedSend, tokens: int) -> None:
        """Count the tokens that a request of the last minute really had."""
        with self._lock:
            if sent in self._last.sent:
                self._last.tokens += tokens - sent.tokens
                sent.tokens = tokens

    def _until_fewer(self, now: float) -> float:
        if self._per_minute is None or len(self._last.sent) < self._per_minute:
            return 0.0
        return self._last.sent[len(self._last.sent) - self._per_minute].at + _MINUTE - now

    def _until_less(self, now: float, tokens: int) -> float:
        if self._tokens_per_minute is None:
            return 0.0
        left, room, wait = self._last.tokens, max(self._tokens_per_minute - tokens, 0), 0.0
        for sent in self._last.sent:
            if left <= room:
                break
            left -= sent.tokens
            wait = sent.at + _MINUTE - now
        return wait

    def pause(self, until: float) -> None:
        """Send nothing before `until`, as the origin reported too many requests."""
        with self._lock:
            self._not_before = max(self._not_before, until)

    def learn(self, headers: Mapping[str, str], now: float, *, longest: float) -> None:
        """Read `x-ratelimit-*` headers: if no requests remain, wait for the reset.

        A reset that is not a number, negative, or over `longest` seconds is ignored.
        """
        if headers.get("x-ratelimit-remaining-requests") != "0":
            return
        try:
            reset = float(headers.get("x-ratelimit-reset-requests", ""))
        except ValueError:
            return
        if 0 < reset <= longest:
            self.pause(now + reset)


class RateLimiters:
    """The rate limiters of runs that share them: each run has its own limits of what all send."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | int | None, ...], LastMinute] = {}
        self._unlimited: dict[tuple[str, str], RateLimiter] = {}

    def of(
        self,
        *named: str | int | None,
        per_minute: int | None = None,
        tokens_per_minute: int | None = None,
    ) -> RateLimiter:
        """Return a limiter that counts what others that are `named` so count, too."""
        return RateLimiter(
            per_minute=per_minute,
            tokens_per_minute=tokens_per_minute,
            last_minute=self._known.setdefault(named, LastMinute()),
        )

    def of_provider(self, name: str, origin: str) -> RateLimiter:
        """Return the one limiter of a provider: it has no limits but those that the server tells.

        Another provider at the same server has a key, and so limits, of its own.
        """
        return self._unlimited.setdefault((name, origin), RateLimiter())


class Pace:
    """When one request may be sent, by several limiters; `tokens` is an estimate of its own.

    `now` returns the monotonic time.
    """

    def __init__(
        self, limiters: Sequence[RateLimiter], tokens: int, now: Callable[[], float]
    ) -> None:
        self._limiters = limiters
        self._limited = [one for one in limiters if one.is_limited]
        self._tokens = tokens
        self._now = now
        self._sent: list[tuple[RateLimiter, CountedSend]] = []

    def wait(self) -> float:
        """Return 0 and count a send of the request, or the seconds to wait first."""
        now = self._now()
        wait = max([one.delay(now, self._tokens) for one in self._limiters], default=0.0)
        if not wait:
            self._sent = [(one, one.count(now, self._tokens)) for one in self._limited]
        return wait

    def used(self, tokens: int) -> None:
        """Count the tokens that the last send really had."""
        for limiter, sent in self._sent:
            limiter.correct(sent, tokens)
