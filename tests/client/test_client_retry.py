"""Whether to try again, how long to wait, and how fast an origin is asked: all without I/O."""

import math

import pytest
from client_desk import FakeClock
from hypothesis import given
from hypothesis import strategies as st

from poeflow import errors
from poeflow.client.answers import Completion
from poeflow.client.failures import BY_STATUS
from poeflow.client.retry import Pace, RateLimiter, RateLimiters, RetryPolicy

NEVER = [400, 401, 402, 403, 404, 413, 418, 422]
ALWAYS = [408, 409, 429, 500, 502, 503, 504, 529, 599]
TOP = RetryPolicy(spread=lambda _, most: most)


def refused(status: int, **facts) -> errors.APIStatusError:
    return BY_STATUS.get(status, errors.APIStatusError)("no", status_code=status, **facts)


def wait(error, *, attempt=1, elapsed=0.0, is_media=False, policy=TOP) -> float | None:
    return policy.wait_after(error, attempt=attempt, elapsed=elapsed, is_media=is_media)


def test_a_status_is_retried_where_a_retry_can_fix_it():
    assert [wait(refused(status)) for status in NEVER] == [None] * len(NEVER)
    assert [wait(refused(status)) for status in ALWAYS] == [0.5] * len(ALWAYS)


def test_media_are_asked_for_again_only_after_a_refusal():
    again = [status for status in NEVER + ALWAYS if wait(refused(status), is_media=True)]
    assert again == [409, 429, 529]
    assert wait(refused(503, retry_after=7.0), is_media=True) == 7.0
    assert wait(refused(502, retry_after=7.0), is_media=True) is None


@pytest.mark.parametrize(
    ("error", "text", "media"),
    [
        (errors.APIConnectionError("no"), 0.5, 0.5),
        (errors.APIConnectionError("no", was_sent=True), 0.5, None),
        (errors.APITimeoutError("no"), 0.5, 0.5),
        (errors.APITimeoutError("no", was_sent=True), 0.5, None),
        (errors.APIResponseError("no"), 0.5, None),
        (errors.AnswerTooLargeError("no"), None, None),
        (errors.BlockedConnectionError("no"), None, None),
        (errors.InsufficientCreditsError("no", status_code=429), None, None),
        (errors.TruncatedStreamError(Completion({})), 0.5, None),
        (errors.APIError("no"), None, None),
        (refused(500, may_retry=False), None, None),
        (refused(429, may_retry=False), None, None),
    ],
)
def test_what_may_have_been_billed_is_sent_again_only_for_text(error, text, media):
    assert (wait(error), wait(error, is_media=True)) == (text, media)


def test_waits_double_up_to_a_ceiling_and_attempts_end():
    policy = RetryPolicy(attempts=8, spread=lambda _, most: most)
    waits = [wait(refused(500), attempt=number, policy=policy) for number in range(1, 9)]
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0, None]
    assert [wait(refused(500), attempt=number) for number in (3, 4)] == [2.0, None]


@given(st.integers(1, 3), st.randoms())
def test_jitter_is_full(attempt, dice):
    found = wait(refused(500), attempt=attempt, policy=RetryPolicy(spread=dice.uniform))
    assert 0 <= found <= 0.5 * 2 ** (attempt - 1)


def test_what_the_server_asks_for_replaces_our_own_wait():
    assert wait(refused(429, retry_after=7.0)) == 7.0
    assert wait(refused(503, retry_after=120.0)) == 120.0


@given(st.floats(min_value=120.0, exclude_min=True, allow_nan=False))
def test_no_wait_is_longer_than_the_longest(asked):
    assert wait(refused(429, retry_after=asked)) is None


def test_all_attempts_together_have_a_budget():
    policy = RetryPolicy(budget=10.0, spread=lambda _, most: most)
    assert wait(refused(500), elapsed=9.5, policy=policy) == 0.5
    assert wait(refused(500), elapsed=9.6, policy=policy) is None


def test_requests_per_minute_are_a_sliding_window():
    clock, rate_limiter, sent = FakeClock(), RateLimiter(per_minute=3), []
    for _ in range(8):
        while seconds := rate_limiter.wait(clock.time):
            clock.sleep(seconds)
        sent.append(clock.time - 1000.0)
        clock.time += 1
    assert sent == [0, 1, 2, 60, 61, 62, 120, 121]


@given(st.lists(st.floats(0, 30), max_size=40), st.integers(1, 5))
def test_no_minute_ever_holds_more_than_the_limit(gaps, per_minute):
    now, rate_limiter, sent = 0.0, RateLimiter(per_minute=per_minute), []
    for gap in gaps:
        now += gap
        while seconds := rate_limiter.wait(now):
            now = math.nextafter(now + seconds, math.inf)
        sent.append(now)
    for index in range(len(sent) - per_minute):
        assert sent[index + per_minute] - sent[index] > 59.999


def paced(limiters, clock, tokens):
    """Wait until a request may be sent; return its pace."""
    pace = Pace(limiters, tokens, clock.monotonic)
    while seconds := pace.wait():
        clock.sleep(seconds)
    return pace


def test_tokens_per_minute_are_a_sliding_window():
    clock, limiter, sent = FakeClock(), RateLimiter(tokens_per_minute=100), []
    for tokens in (60, 40, 10, 60, 100):
        paced([limiter], clock, tokens)
        sent.append(clock.time - 1000.0)
        clock.time += 1
    assert sent == [0, 1, 60, 61, 121]


@given(st.lists(st.tuples(st.floats(0, 30), st.integers(1, 120)), max_size=40))
def test_no_minute_ever_holds_more_tokens_than_the_limit(requests):
    clock, limiter, sent = FakeClock(), RateLimiter(tokens_per_minute=100), []
    for gap, tokens in requests:
        clock.time += gap
        pace = Pace([limiter], tokens, clock.monotonic)
        while seconds := pace.wait():
            clock.time = math.nextafter(clock.time + seconds, math.inf)
        sent.append((clock.time, tokens))
    for now, tokens in sent:
        minute = sum(other for at, other in sent if now - 59.999 < at <= now)
        assert minute <= 100 or minute == tokens, "one that is too large is sent alone"


def test_a_request_of_too_many_tokens_is_sent_alone():
    clock, limiter = FakeClock(), RateLimiter(tokens_per_minute=100)
    paced([limiter], clock, 30)
    paced([limiter], clock, 500)
    assert clock.waits == [60.0]
    paced([limiter], clock, 1)
    assert clock.waits == [60.0, 60.0]


def test_what_an_answer_used_replaces_the_estimate():
    clock, limiter = FakeClock(), RateLimiter(tokens_per_minute=100)
    paced([limiter], clock, 100).used(20)
    first = paced([limiter], clock, 70)
    assert clock.waits == []
    first.used(90)
    clock.time += 10
    paced([limiter], clock, 1)
    assert clock.waits == [50.0]
    first.used(0)  # more than a minute ago
    paced([limiter], clock, 99)
    assert clock.waits == [50.0]


def test_every_limiter_of_a_request_counts_or_none_does():
    clock = FakeClock()
    own, shared = RateLimiter(per_minute=1), RateLimiter(tokens_per_minute=100)
    paced([own, shared], clock, 50)
    waiting = Pace([own, shared], 50, clock.monotonic)
    assert [waiting.wait() for _ in range(3)] == [60.0, 60.0, 60.0]
    paced([shared], clock, 50)
    assert clock.waits == [], "those that wait take nothing"


def test_without_a_limit_nobody_waits():
    rate_limiter = RateLimiter()
    assert [rate_limiter.wait(5.0) for _ in range(1000)] == [0.0] * 1000


def test_a_pause_holds_everyone_back_and_is_never_shortened():
    rate_limiter = RateLimiter()
    rate_limiter.pause(20.0)
    rate_limiter.pause(15.0)
    assert [rate_limiter.wait(now) for now in (10.0, 19.0, 20.0)] == [10.0, 1.0, 0.0]


@pytest.mark.parametrize(
    ("remaining", "reset", "seconds"),
    [
        ("0", "12", 12.0),
        ("0", "0.5", 0.5),
        ("1", "12", 0.0),
        (None, "12", 0.0),
        *(("0", reset, 0.0) for reset in ("", "soon", "0", "-5", "nan", "inf", "121", "1e999")),
    ],
)
def test_rate_limit_headers_are_believed_where_they_make_sense(remaining, reset, seconds):
    headers = {"x-ratelimit-reset-requests": reset}
    if remaining is not None:
        headers["x-ratelimit-remaining-requests"] = remaining
    rate_limiter = RateLimiter()
    rate_limiter.learn(headers, 100.0, longest=120.0)
    assert rate_limiter.wait(100.0) == seconds


def test_runs_with_other_limits_count_what_the_server_was_sent_in_the_last_minute():
    limiters = RateLimiters()
    first = limiters.of("poe", "https://a", per_minute=2, tokens_per_minute=None)
    assert [first.wait(0.0), first.wait(1.0), first.wait(2.0)] == [0.0, 0.0, 58.0]
    second = limiters.of("poe", "https://a", per_minute=3, tokens_per_minute=None)
    assert [second.wait(3.0), second.wait(4.0)] == [0.0, 56.0]
    other = limiters.of("poe", "https://b", per_minute=1, tokens_per_minute=None)
    assert other.wait(5.0) == 0.0
    assert first.wait(5.0) == 56.0, "a run keeps its limits when another begins with higher ones"
