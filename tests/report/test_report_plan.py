"""A plan as people read it."""

import json
from decimal import Decimal

import msgspec

from poeflow.bots import Pricing
from poeflow.records import Calls, InstanceStatus, Measure
from poeflow.report.plan import as_json, plan_summary, step_status

PRICE = Pricing(prompt=Decimal("0.00001"), completion=Decimal("0.0001"))


def new(measure: Measure | None = None, *, most: int = 1) -> InstanceStatus:
    """Return an instance whose answer has 10 tokens, by the `measure` there is."""
    tokens = None if measure is None else 10
    first = Calls(
        purpose="answer", model="A", least=1, most=1, prompt_tokens=100, answer_tokens=tokens,
        answer_from=measure,
    )  # fmt: skip
    again = msgspec.structs.replace(first, purpose="repair", least=0, most=most - 1)
    kinds = (first, again) if most > 1 else (first,)
    return InstanceStatus(id="a", state="new", calls=1, most_calls=most, model="A", kinds=kinds)


def test_calls_tokens_and_cost_are_told_as_ranges():
    assert plan_summary([new("limit")], lambda _: PRICE) == (
        "1 new: 1 call, about 100 prompt tokens, about 10 answer tokens (at their limit), "
        "0.0010 to 0.0020 USD (estimated)"
    )
    assert plan_summary([new("instance"), new("instance", most=4)], lambda _: PRICE) == (
        "2 new: 2 to 5 calls, about 200 prompt tokens, about 20 answer tokens (as last time), "
        "0.0040 to 0.0100 USD (estimated)"
    )
    assert plan_summary([new("step"), new("step"), new("instance"), new()], lambda _: PRICE) == (
        "4 new: 4 calls, about 400 prompt tokens, about 30 answer tokens "
        "(2 as others of their step, 1 as last time, 1 of unknown length), "
        "from 0.0070 USD (estimated)"
    )
    assert plan_summary([new(), InstanceStatus(id="b", state="unknown")], lambda _: None) == (
        "1 new, 1 unknown: 1 or more calls, about 100 prompt tokens, answers of unknown length, "
        "cost unknown"
    )


def test_json_has_what_each_instance_is_estimated_to_cost():
    statuses = [new("limit"), InstanceStatus(id="b", state="fresh")]
    found = [one["estimate"] for one in json.loads(as_json(statuses, lambda _: PRICE))]
    assert found == [
        {
            "prompt_tokens": 100,
            "answer_tokens": 10,
            "answer_from": "limit",
            "cost_usd": {"least": 0.001, "most": 0.002},
        },
        None,
    ]
    (one,) = json.loads(as_json([new()], lambda _: None))
    assert one["estimate"]["cost_usd"] is None


def test_where_nothing_is_asked():
    assert plan_summary([InstanceStatus(id="b", state="unknown")], lambda _: None) == (
        "1 unknown: calls not known yet"
    )
    assert (
        plan_summary([InstanceStatus(id="b", state="fresh")], lambda _: None) == "1 fresh: no calls"
    )
    assert plan_summary([], lambda _: None) == "nothing: no calls"


def test_the_status_of_a_step_counts_what_rows_miss_in_one_line():
    reasons = [f"expected a score of at least 0.6, found 0.{n}: dull {n}" for n in range(5)]
    stale = [
        InstanceStatus(id=f"a[{n}]", state="stale", reasons=(reason,))
        for n, reason in enumerate([*reasons, "prompt changed"])
    ]
    assert step_status(stale) == (
        "6 stale: expected a score of at least 0.6 (5); prompt changed (1)"
    )
    assert step_status(stale[:1]) == f"stale: {reasons[0]}"
