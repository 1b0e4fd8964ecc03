"""What a run would send and cost: estimated from its requests, told as ranges.

Tokens are taken as four characters each, good to a factor of two; prices are those of the kept
catalogue. What cannot be known before a step has run is left open, never taken for nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.facts import Fact

CHARACTERS: Final = 4
_LIMITS: Final = ("max_completion_tokens", "max_tokens")


class Price(Protocol):
    """What a model costs."""

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        """Return the cost of an answer in USD, None where it is not known."""


Prices = Callable[[str], Price | None]


class Range(msgspec.Struct, frozen=True):
    """From the least to the most; `most` is None where there is no telling."""

    least: Decimal | int
    most: Decimal | int | None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a run would send. `cost_usd` is None where the price of a model is not known.

    `prompt_tokens` are those of the first requests alone.
    """

    calls: Range
    prompt_tokens: int
    cost_usd: Range | None


def estimate(facts: Sequence[Fact], prices: Prices) -> Estimate:
    """Return what a run would send for instances that stand like this."""
    asked = [fact for fact in facts if fact.calls]
    is_open = any(fact.state == "unknown" for fact in facts)
    most_calls = None if is_open else _sum([fact.most_calls for fact in asked])
    least = [_least(fact, prices) for fact in asked]
    most = None if is_open else _sum([_most(fact, prices) for fact in asked])
    return Estimate(
        calls=Range(sum(fact.calls for fact in asked), most_calls),
        prompt_tokens=sum(fact.calls * tokens_of(fact.request or {}) for fact in asked),
        cost_usd=None if None in least else Range(_sum(least) or Decimal(0), most),
    )


def tokens_of(request: Mapping[str, Json]) -> int:
    """Return about how many tokens a request has, attachments left out."""
    return len(encode_json(_body(request).get("messages"))) // CHARACTERS


def limit_of(request: Mapping[str, Json]) -> int | None:
    """Return how many tokens the answer to a request may have, None where it does not say."""
    body = _body(request)
    limits = [limit for key in _LIMITS if isinstance(limit := body.get(key), int)]
    return min(limits, default=None)


def _least(fact: Fact, prices: Prices) -> Decimal | None:
    price = prices(fact.model or "")
    one = price.cost(tokens_of(fact.request or {}), 0) if price is not None else None
    return None if one is None else one * fact.calls


def _most(fact: Fact, prices: Prices) -> Decimal | None:
    """Return what an instance costs where every repair and tool round is needed.

    Each of them sends all that was said before once more.
    """
    answer = limit_of(fact.request or {})
    price = prices(fact.model or "")
    if price is None or fact.most_calls is None or answer is None:
        return None
    prompt = tokens_of(fact.request or {}) + (fact.most_calls - 1) * answer
    one = price.cost(prompt, answer)
    return None if one is None else one * fact.most_calls


def _body(request: Mapping[str, Json]) -> Mapping[str, Json]:
    body = request.get("body")
    return body if isinstance(body, dict) else {}


def _sum(values: Sequence[Decimal | int | None]) -> Decimal | None:
    """Return the sum, None where a part of it is not known."""
    known = [value for value in values if value is not None]
    return Decimal(sum(known)) if len(known) == len(values) else None
