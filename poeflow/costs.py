"""What a run would send and cost: estimated from its requests, as ranges.

Tokens of prompts are taken as four characters each, good to a factor of two. What cannot be known
before a step has run is left open, never taken for nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.records import Calls, InstanceStatus, Measure

CHARACTERS: Final = 4
_LIMITS: Final = ("max_completion_tokens", "max_tokens")


class Price(Protocol):
    """What a model costs."""

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal | None:
        """Return the cost of an answer in USD, None where it is not known."""


Prices = Callable[[str], Price | None]


def cost_of(prices: Prices, model: str, prompt_tokens: int, answer_tokens: int) -> Decimal | None:
    """Return the cost of an answer of `model` in USD, None where it is not known."""
    price = prices(model)
    return None if price is None else price.cost(prompt_tokens, answer_tokens)


class Range(msgspec.Struct, frozen=True):
    """From the least to the most; `most` is None where there is no telling."""

    least: Decimal | int
    most: Decimal | int | None


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a run would send. `cost_usd` is None where the price of a model is not known.

    Tokens are those of the requests that are sure to be sent: `answer_tokens` as far as there is
    any telling, by what tells so many of the instances; `unmeasured` are those of which nothing
    does.
    """

    calls: Range
    prompt_tokens: int
    answer_tokens: int
    measures: Mapping[Measure, int]
    unmeasured: int
    cost_usd: Range | None


def estimate(facts: Sequence[InstanceStatus], prices: Prices) -> Estimate:
    """Return what a run would send for instances that stand like this."""
    kinds = [kind for fact in facts for kind in fact.kinds]
    is_open = any(fact.state == "unknown" and not fact.kinds for fact in facts)
    sure = [kind for kind in kinds if kind.least]
    answers = [kind for kind in sure if kind.purpose == "answer"]
    measures = Counter(kind.answer_from for kind in answers if kind.answer_from is not None)
    least = [_least(kind, prices) for kind in sure]
    most = None if is_open else _sum([_most(kind, prices) for kind in kinds])
    return Estimate(
        calls=Range(
            sum(kind.least for kind in kinds),
            None if is_open else sum(kind.most for kind in kinds),
        ),
        prompt_tokens=sum(kind.least * kind.prompt_tokens for kind in sure),
        answer_tokens=sum(kind.least * (kind.answer_tokens or 0) for kind in sure),
        measures=dict(measures),
        unmeasured=len(answers) - measures.total(),
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


def _least(kind: Calls, prices: Prices) -> Decimal | None:
    """Return what is sure to be paid; an answer may be shorter than its limit."""
    answer = 0 if kind.answer_from == "limit" else kind.answer_tokens
    one = _cost(kind, answer or 0, prices)
    return None if one is None else one * kind.least


def _most(kind: Calls, prices: Prices) -> Decimal | None:
    """Return what is paid where every request of the kind is needed, None without an end."""
    if kind.answer_tokens is None:
        return None
    one = _cost(kind, kind.answer_tokens, prices)
    return None if one is None else one * kind.most


def _cost(kind: Calls, answer_tokens: int, prices: Prices) -> Decimal | None:
    return cost_of(prices, kind.model or "", kind.prompt_tokens, answer_tokens)


def _body(request: Mapping[str, Json]) -> Mapping[str, Json]:
    body = request.get("body")
    return body if isinstance(body, dict) else {}


def _sum(values: Sequence[Decimal | None]) -> Decimal | None:
    """Return the sum, None where a part of it is not known."""
    known = [value for value in values if value is not None]
    return Decimal(sum(known)) if len(known) == len(values) else None
