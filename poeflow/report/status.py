"""How flows stand, a line a step: the states of its instances, and why."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from poeflow.facts import Fact, Standing, step_of
from poeflow.redact import visible

MAX_REASONS: Final = 3


def lines(flows: Mapping[str, Sequence[Fact]]) -> Iterator[str]:
    """Yield the name of each flow and a line for each of its steps, in order."""
    for flow, facts in flows.items():
        yield visible(flow)
        steps = steps_of(facts)
        width = max(map(len, steps), default=0)
        for step, of in steps.items():
            yield visible(f"  {step:<{width}}  {told(of)}")


def steps_of(facts: Sequence[Fact]) -> dict[str, list[Fact]]:
    """Return instances by their steps, in order."""
    steps: dict[str, list[Fact]] = {}
    for fact in facts:
        steps.setdefault(step_of(fact.id), []).append(fact)
    return steps


def told(facts: Sequence[Fact]) -> str:
    """Say how the instances of a step stand: `2 stale, 1 fresh: prompt changed`.

    A reason of some of them has their number: `2 stale: prompt changed (1); file changed (1)`.
    """
    counts: Counter[Standing] = Counter(fact.state for fact in facts)
    is_alone = len(facts) == 1
    states = ", ".join(
        state if is_alone else f"{count} {state}" for state, count in counts.most_common()
    )
    reasons = _reasons(facts)
    more = f"; and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
    return f"{states}: {'; '.join(reasons[:MAX_REASONS])}{more}" if reasons else states


def _reasons(facts: Sequence[Fact]) -> list[str]:
    """Return all reasons, each with how many instances it is of where that is not all of them."""
    counts = Counter(reason for fact in facts for reason in fact.reasons)
    concerned = sum(bool(fact.reasons) for fact in facts)
    return [
        reason if count == concerned else f"{reason} ({count:,})"
        for reason, count in counts.items()
    ]
