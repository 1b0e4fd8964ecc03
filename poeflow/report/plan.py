"""A plan as people read it: a line for each instance that is not current, and what a run sends."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from poeflow.digest import encode_json
from poeflow.estimates import Prices, Range, estimate
from poeflow.facts import Fact
from poeflow.redact import visible

_ORDER: Final = (
    *("new", "stale", "missing", "edited", "needed", "unknown", "fresh", "skipped", "orphaned"),
)


def lines(facts: Sequence[Fact], *, all_: bool) -> list[str]:
    """Return a line for each instance that a run would touch, or for all of them."""
    shown = [fact for fact in facts if all_ or not fact.is_current]
    width = max((len(fact.id) for fact in shown), default=0)
    return [
        visible(f"{fact.id:<{width}}  {fact.state:<7}  {'; '.join(fact.reasons)}".rstrip())
        for fact in shown
    ]


def summary(facts: Sequence[Fact], prices: Prices) -> str:
    """Say how many instances stand how, and what a run would send and cost."""
    counts = Counter(fact.state for fact in facts)
    told = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    found = estimate(facts, prices)
    if not found.calls.least:
        unknown = counts["unknown"]
        return f"{told or 'nothing'}: {'calls not known yet' if unknown else 'no calls'}"
    noun = "call" if found.calls.least == found.calls.most == 1 else "calls"
    calls = _range(found.calls, "{:,}", "{} or more")
    cost = "cost unknown"
    if found.cost_usd is not None:
        cost = f"{_range(found.cost_usd, '{:.4f}', 'from {}')} USD (estimated)"
    return f"{told}: {calls} {noun}, about {found.prompt_tokens:,} prompt tokens, {cost}"


def _range(found: Range, form: str, without_end: str) -> str:
    """Say `3`, `3 to 7`, or what is said where there is no telling the most."""
    least = form.format(found.least)
    if found.most is None:
        return without_end.format(least)
    most = form.format(found.most)
    return least if least == most else f"{least} to {most}"


def as_json(facts: Sequence[Fact]) -> str:
    """Return all facts as one JSON document, requests included."""
    return encode_json([msgspec.to_builtins(fact) for fact in facts]).decode()
