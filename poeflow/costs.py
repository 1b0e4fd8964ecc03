"""Estimates what a run would send and cost, as ranges.

A token of a prompt is estimated as four characters, within a factor of two. What is not known
before a step has run stays unknown and does not count as zero.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from poeflow.clock import Clock
from poeflow.digest import Json, encode_json
from poeflow.events import RunEstimated
from poeflow.records import Calls, InstanceStatus, Measure

CHARACTERS: Final = 4
_LIMITS: Final = ("max_completion_tokens", "max_tokens")


class Price(Protocol):
    """The price of a model."""

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        """Return the cost of an answer in USD, None if it is not known."""


Prices = Callable[[str], Price | None]


def cost_of(prices: Prices, model: str, prompt_tokens: int, answer_tokens: int) -> Decimal | None:
    """Return the cost of an answer of `model` in USD, None if it is not known."""
    price = prices(model)
    return None if price is None else price.cost(prompt_tokens, answer_tokens)


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of the calendar whose costs may be limited, in the time zone of the machine.

    `key` is the limit's name in the configuration, `name` what messages call the period.
    """

    key: str
    name: str
    is_month: bool = False

    def span(self, now: float) -> tuple[float, float]:
        """Return when the period with this time begins and ends, in Unix seconds."""
        today = datetime.fromtimestamp(now).date()  # noqa: DTZ006 - the day of the machine's zone
        begin = today.replace(day=1) if self.is_month else today
        end = begin + timedelta(days=32 if self.is_month else 1)
        end = end.replace(day=1) if self.is_month else end
        return _midnight(begin), _midnight(end)


PERIODS: Final = (
    Period(key="max_cost_usd_per_day", name="today"),
    Period(key="max_cost_usd_per_month", name="this month", is_month=True),
)


class PeriodSpending:
    """What all runs have cost in a period; at its end the next one begins with nothing.

    `cost_usd` is what was spent before, by the history.
    """

    def __init__(self, period: Period, cost_usd: Decimal, clock: Clock) -> None:
        self.period = period
        self.cost_usd = cost_usd
        self._clock = clock
        self._end = period.span(clock.now())[1]

    def has_ended(self) -> bool:
        """Whether another period has begun since the last call; nothing is spent in it yet."""
        now = self._clock.now()
        if now < self._end:
            return False
        self._end = self.period.span(now)[1]
        return True


def _midnight(day: date) -> float:
    """Return when a local day begins: where clocks go back it may have 25 hours."""
    return datetime.combine(day, time.min).timestamp()


class Range(msgspec.Struct, frozen=True):
    """From `least` to `most`; `most` is None if it is not known."""

    least: Decimal | int
    most: Decimal | int | None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a run would send. `cost_usd` is None if the price of a model is not known.

    Tokens are those of the requests that are certainly sent: `answer_tokens` counts instances by
    the source of the estimate, `unmeasured` those without any.
    """

    calls: Range
    prompt_tokens: int
    answer_tokens: int
    measures: Mapping[Measure, int]
    unmeasured: int
    cost_usd: Range | None


def estimate(statuses: Sequence[InstanceStatus], prices: Prices) -> Estimate:
    """Return what a run would send for instances of this status."""
    kinds = Counter([kind for status in statuses for kind in status.kinds])  # many are equal
    open_ = [one for one in statuses if one.most_calls is None or one.state == "unknown"]
    is_open = any(one.most_calls is None or not one.kinds for one in open_)
    sure = [(kind, count) for kind, count in kinds.items() if kind.least]
    measures: Counter[Measure] = Counter()
    answers = [(kind, count) for kind, count in sure if kind.purpose == "answer"]
    for kind, count in answers:
        if kind.answer_from is not None:
            measures[kind.answer_from] += count
    least = [_times(_least(kind, prices), count) for kind, count in sure]
    most = [_times(_most(kind, prices), count) for kind, count in kinds.items()]
    return Estimate(
        calls=Range(
            sum(count * kind.least for kind, count in sure),
            None if is_open else sum(count * kind.most for kind, count in kinds.items()),
        ),
        prompt_tokens=sum(count * kind.least * kind.prompt_tokens for kind, count in sure),
        answer_tokens=sum(count * kind.least * (kind.answer_tokens or 0) for kind, count in sure),
        measures=dict(measures),
        unmeasured=sum(count for _, count in answers) - measures.total(),
        cost_usd=None
        if None in least
        else Range(_sum(least) or Decimal(0), None if is_open else _sum(most)),
    )


def size_of(request: Mapping[str, Json]) -> tuple[int, int | None]:
    """Return about how many tokens a request has, and the limit on those of its answer.

    Attachments are left out. The limit is None if there is none.
    """
    body, limit = request.get("body"), None
    if not isinstance(body, dict):
        body = {}
    for key in _LIMITS:
        if key in body and isinstance(found := body[key], int):
            limit = found if limit is None else min(limit, found)
    return len(encode_json(body.get("messages"))) // CHARACTERS, limit


def _least(kind: Calls, prices: Prices) -> Decimal | None:
    """Return the least cost; an answer may be shorter than its limit."""
    answer = 0 if kind.answer_from == "limit" else kind.answer_tokens
    one = _cost(kind, answer or 0, prices)
    return None if one is None else one * kind.least


def _most(kind: Calls, prices: Prices) -> Decimal | None:
    """Return the cost if every request of the kind is needed, None if it is unlimited."""
    if kind.answer_tokens is None:
        return None
    one = _cost(kind, kind.answer_tokens, prices)
    return None if one is None else one * kind.most


def _times(cost: Decimal | None, count: int) -> Decimal | None:
    return None if cost is None else cost * count


def _cost(kind: Calls, answer_tokens: int, prices: Prices) -> Decimal | None:
    return cost_of(prices, kind.model or "", kind.prompt_tokens, answer_tokens)


def _sum(values: Sequence[Decimal | None]) -> Decimal | None:
    """Return the sum, None if a part of it is not known."""
    known = [value for value in values if value is not None]
    return Decimal(sum(known)) if len(known) == len(values) else None


def estimated_event(found: Estimate, *, is_free: bool, is_sample: bool) -> RunEstimated:
    """Return the event of what a run will send."""
    cost, most = found.cost_usd, found.calls.most
    return RunEstimated(
        at=0.0,
        requests=int(found.calls.least),
        most_requests=None if most is None else int(most),
        is_sample=is_sample,
        prompt_tokens=found.prompt_tokens,
        answer_tokens=found.answer_tokens if found.measures else None,
        cost_usd=None if cost is None or is_free else float(cost.least),
    )
