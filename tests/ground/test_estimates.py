"""What a run would send and cost, as ranges."""

from decimal import Decimal

from poeflow.bots import Pricing
from poeflow.estimates import Estimate, Range, estimate
from poeflow.facts import Fact

PRICE = Pricing(prompt=Decimal("0.000001"), completion=Decimal("0.00001"))
TEXT = "x" * 371  # with what JSON adds 400 characters: 100 tokens


def asked(*, most_calls: int = 1, **params) -> Fact:
    body = {"model": "A", "messages": [{"role": "user", "content": TEXT}], **params}
    return Fact(
        id="a", state="new", calls=1, most_calls=most_calls, model="A", request={"body": body}
    )


def test_one_call_whose_answer_is_bounded():
    assert estimate([asked(max_tokens=50)], lambda _: PRICE) == Estimate(
        calls=Range(1, Decimal(1)),
        prompt_tokens=100,
        cost_usd=Range(Decimal("0.0001"), Decimal("0.0006")),
    )


def test_repairs_send_what_was_said_once_more():
    found = estimate([asked(max_tokens=50, most_calls=3)], lambda _: PRICE)
    assert found.calls == Range(1, Decimal(3))
    assert found.cost_usd == Range(Decimal("0.0001"), Decimal("0.0021"))


def test_an_answer_without_a_limit_has_no_most():
    found = estimate([asked(max_tokens=50), asked()], lambda _: PRICE)
    assert found.cost_usd == Range(Decimal("0.0002"), None)


def test_what_is_unknown_leaves_both_open():
    found = estimate([asked(max_tokens=5), Fact(id="b", state="unknown")], lambda _: PRICE)
    assert (found.calls, found.cost_usd) == (Range(1, None), Range(Decimal("0.0001"), None))


def test_a_model_without_a_price_has_no_cost():
    assert estimate([asked(max_tokens=5)], lambda _: None).cost_usd is None
    assert estimate([asked(max_tokens=5)], lambda _: Pricing()).cost_usd is None


def test_nothing_to_ask_costs_nothing():
    assert estimate([Fact(id="a", state="fresh")], lambda _: None) == Estimate(
        calls=Range(0, Decimal(0)), prompt_tokens=0, cost_usd=Range(Decimal(0), Decimal(0))
    )
