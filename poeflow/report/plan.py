"""A plan as people read it: a line for each instance that is not current, and what a run sends."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from poeflow.costs import Estimate, Prices, Range, estimate
from poeflow.digest import Json, encode_json
from poeflow.facts import Fact, Measure
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


_MEASURES: Final[dict[Measure, str]] = {
    "instance": "as last time",
    "step": "as others of their step",
    "limit": "at their limit",
    "usual": "as usual",
}
"""How it is said where a guess of the length of answers comes from."""


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
    return f"{told}: {calls} {noun}, {spending(found)}"


def spending(found: Estimate) -> str:
    """Say what requests are estimated to use and cost, and where that comes from."""
    cost = "cost unknown"
    if found.cost_usd is not None:
        cost = f"{_range(found.cost_usd, '{:.4f}', 'from {}')} USD (estimated)"
    return f"about {found.prompt_tokens:,} prompt tokens, {_answers(found)}, {cost}"


def _answers(found: Estimate) -> str:
    """Say how long the answers may be, and how that is known."""
    if not found.measures:
        return "answers of unknown length"
    total = found.unmeasured + sum(found.measures.values())
    parts = [(_MEASURES[measure], count) for measure, count in found.measures.items()]
    parts += [("of unknown length", found.unmeasured)] if found.unmeasured else []
    how = ", ".join(said if count == total else f"{count:,} {said}" for said, count in parts)
    return f"about {found.answer_tokens:,} answer tokens ({how})"


def _range(found: Range, form: str, without_end: str) -> str:
    """Say `3`, `3 to 7`, or what is said where there is no telling the most."""
    least = form.format(found.least)
    if found.most is None:
        return without_end.format(least)
    most = form.format(found.most)
    return least if least == most else f"{least} to {most}"


def as_json(facts: Sequence[Fact], prices: Prices) -> str:
    """Return all facts as one JSON document, requests and estimates included."""
    return encode_json(
        [msgspec.to_builtins(fact) | {"estimate": _estimated(fact, prices)} for fact in facts]
    ).decode()


def _estimated(fact: Fact, prices: Prices) -> dict[str, Json] | None:
    """Return what one instance is estimated to use and cost, None where nothing is asked."""
    if not fact.kinds:
        return None
    found = estimate([fact], prices)
    cost = found.cost_usd
    return {
        "prompt_tokens": found.prompt_tokens,
        "answer_tokens": found.answer_tokens,
        "answer_from": next(iter(found.measures), None),
        "cost_usd": None
        if cost is None
        else {
            "least": float(cost.least),
            "most": None if cost.most is None else float(cost.most),
        },
    }
