"""A plan as people read it: a line for each instance that is not current, and what a run sends."""

from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, Protocol

import msgspec

from poeflow.digest import encode_json
from poeflow.facts import Fact
from poeflow.redact import visible

_ORDER: Final = ("new", "stale", "missing", "edited", "unknown", "fresh", "skipped")
_CHARACTERS: Final = 4
"""About how many characters a token has: an estimate, good to a factor of two."""


class Price(Protocol):
    """What a model costs."""

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal | None: ...


def lines(facts: Sequence[Fact], *, all_: bool) -> list[str]:
    """Return a line for each instance that a run would touch, or for all of them."""
    shown = [fact for fact in facts if all_ or not fact.is_current]
    width = max((len(fact.id) for fact in shown), default=0)
    return [
        visible(f"{fact.id:<{width}}  {fact.state:<7}  {'; '.join(fact.reasons)}".rstrip())
        for fact in shown
    ]


def summary(facts: Sequence[Fact], price: Callable[[str], Price | None]) -> str:
    """Say how many instances stand how, and what a run would send at least."""
    counts = Counter(fact.state for fact in facts)
    told = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    asked = [fact for fact in facts if fact.calls]
    if not asked:
        unknown = counts["unknown"]
        return f"{told or 'nothing'}: {'calls not known yet' if unknown else 'no calls'}"
    tokens = [_tokens(fact) for fact in asked]
    calls = sum(fact.calls for fact in asked)
    more = " or more" if counts["unknown"] else ""
    cost = _cost(asked, price)
    spent = "cost unknown" if cost is None else f"from {cost:.4f} USD (estimated)"
    noun = "call" if calls == 1 else "calls"
    return f"{told}: {calls} {noun}{more}, about {sum(tokens):,} prompt tokens, {spent}"


def as_json(facts: Sequence[Fact]) -> str:
    """Return all facts as one JSON document, requests included."""
    return encode_json([msgspec.to_builtins(fact) for fact in facts]).decode()


def _tokens(fact: Fact) -> int:
    request = fact.request or {}
    return len(encode_json(request.get("body", {}))) // _CHARACTERS


def _cost(asked: Sequence[Fact], price: Callable[[str], Price | None]) -> Decimal | None:
    """Return what the prompts cost, None where the price of a model is not known."""
    total = Decimal(0)
    for fact in asked:
        found = price(fact.model or "")
        cost = found.cost(_tokens(fact), 0) if found is not None else None
        if cost is None:
            return None
        total += cost
    return total
