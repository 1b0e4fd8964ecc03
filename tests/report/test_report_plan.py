"""A plan as people read it."""

from decimal import Decimal

from poeflow.bots import Pricing
from poeflow.facts import Fact
from poeflow.report.plan import summary

PRICE = Pricing(prompt=Decimal("0.00001"), completion=Decimal("0.0001"))


def new(*, most_calls: int = 1, **params) -> Fact:
    body = {"messages": [{"role": "user", "content": "x" * 371}], **params}
    return Fact(
        id="a", state="new", calls=1, most_calls=most_calls, model="A", request={"body": body}
    )


def test_calls_tokens_and_cost_are_told_as_ranges():
    assert summary([new(max_tokens=10)], lambda _: PRICE) == (
        "1 new: 1 call, about 100 prompt tokens, 0.0010 to 0.0020 USD (estimated)"
    )
    assert summary([new(), new(most_calls=4)], lambda _: PRICE) == (
        "2 new: 2 to 5 calls, about 200 prompt tokens, from 0.0020 USD (estimated)"
    )
    assert summary([new(), Fact(id="b", state="unknown")], lambda _: None) == (
        "1 new, 1 unknown: 1 or more calls, about 100 prompt tokens, cost unknown"
    )


def test_where_nothing_is_asked():
    assert summary([Fact(id="b", state="unknown")], lambda _: None) == (
        "1 unknown: calls not known yet"
    )
    assert summary([Fact(id="b", state="fresh")], lambda _: None) == "1 fresh: no calls"
    assert summary([], lambda _: None) == "nothing: no calls"
