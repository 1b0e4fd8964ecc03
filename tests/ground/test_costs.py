"""What a run would send and cost, as ranges."""

import time
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from poeflow.bots import Pricing
from poeflow.costs import PERIODS, Estimate, Range, estimate, size_of
from poeflow.records import Calls, InstanceStatus

PRICE = Pricing(prompt=Decimal("0.000001"), completion=Decimal("0.00001"))
FIRST = Calls(purpose="answer", model="A", least=1, most=1, prompt_tokens=100)
KNOWN = msgspec.structs.replace(FIRST, answer_tokens=50, answer_from="instance")
REPAIR = Calls(
    purpose="repair", model="A", least=0, most=2, prompt_tokens=250, answer_tokens=50,
    answer_from="instance",
)  # fmt: skip
JUDGE = Calls(
    purpose="judge", model="B", least=1, most=2, prompt_tokens=400, answer_tokens=60,
    answer_from="usual",
)  # fmt: skip


def asked(*kinds: Calls, state: str = "new") -> InstanceStatus:
    return InstanceStatus(id="a", state=state, kinds=kinds)


def test_an_answer_is_taken_to_be_as_long_as_the_last_one():
    assert estimate([asked(KNOWN)], lambda _: PRICE) == Estimate(
        calls=Range(1, 1),
        prompt_tokens=100,
        answer_tokens=50,
        measures={"instance": 1},
        unmeasured=0,
        cost_usd=Range(Decimal("0.0006"), Decimal("0.0006")),
    )


def test_an_answer_of_which_only_the_limit_is_known_may_be_shorter():
    limited = msgspec.structs.replace(KNOWN, answer_from="limit")
    found = estimate([asked(limited)], lambda _: PRICE)
    assert found.cost_usd == Range(Decimal("0.0001"), Decimal("0.0006"))
    assert found.measures == {"limit": 1}


def test_repairs_may_come_and_judges_are_paid_by_their_own_price():
    dear = Pricing(prompt=Decimal(1), completion=Decimal(1))
    prices = {"A": PRICE, "B": dear}
    found = estimate([asked(KNOWN, REPAIR, JUDGE)], prices.get)
    assert found.calls == Range(2, 5)
    assert (found.prompt_tokens, found.answer_tokens) == (500, 110)
    assert found.cost_usd == Range(
        Decimal("0.0006") + 460, Decimal("0.0006") + 2 * Decimal("0.00075") + 2 * 460
    )


def test_an_answer_without_any_measure_has_no_most():
    found = estimate([asked(KNOWN), asked(FIRST)], lambda _: PRICE)
    assert found.cost_usd == Range(Decimal("0.0007"), None)
    assert (found.measures, found.unmeasured) == ({"instance": 1}, 1)


def test_what_is_unknown_leaves_both_open():
    found = estimate([asked(KNOWN), InstanceStatus(id="b", state="unknown")], lambda _: PRICE)
    assert (found.calls, found.cost_usd) == (Range(1, None), Range(Decimal("0.0006"), None))


def test_what_is_unknown_and_was_answered_before_may_cost_as_much_again():
    later = msgspec.structs.replace(KNOWN, least=0)
    found = estimate([asked(KNOWN), asked(later, state="unknown")], lambda _: PRICE)
    assert found.calls == Range(1, 2)
    assert found.cost_usd == Range(Decimal("0.0006"), Decimal("0.0012"))


def test_a_model_without_a_price_has_no_cost():
    assert estimate([asked(KNOWN)], lambda _: None).cost_usd is None
    assert estimate([asked(KNOWN)], lambda _: Pricing()).cost_usd is None


def test_nothing_to_ask_costs_nothing():
    assert estimate([InstanceStatus(id="a", state="fresh")], lambda _: None) == Estimate(
        calls=Range(0, 0),
        prompt_tokens=0,
        answer_tokens=0,
        measures={},
        unmeasured=0,
        cost_usd=Range(Decimal(0), Decimal(0)),
    )


def test_the_tokens_of_a_request_and_the_limit_of_its_answer():
    message = {"role": "user", "content": "x" * 371}  # with what JSON adds 400 characters
    request = {"body": {"messages": [message], "max_tokens": 9, "max_completion_tokens": 7}}
    assert size_of(request) == (100, 7)
    assert size_of({"body": {"messages": []}})[1] is None


@pytest.mark.parametrize(
    ("zone", "now", "day", "month"),
    [
        ("UTC", "2026-02-28T23:59:59+00:00", ("02-28T00", "03-01T00"), ("02-01T00", "03-01T00")),
        ("UTC", "2026-12-31T00:00:00+00:00", ("12-31T00", "01-01T00"), ("12-01T00", "01-01T00")),
        (
            "Europe/Berlin",  # its clocks went forward that night
            "2026-03-29T12:00:00+02:00",
            ("03-28T23", "03-29T22"),
            ("02-28T23", "03-31T22"),
        ),
        (
            "America/New_York",
            "2026-05-31T23:30:00-04:00",
            ("05-31T04", "06-01T04"),
            ("05-01T04", "06-01T04"),
        ),
    ],
)
def test_days_and_months_are_those_of_the_machine(monkeypatch, zone, now, day, month):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        spans = [one.span(datetime.fromisoformat(now).timestamp()) for one in PERIODS]
    finally:
        monkeypatch.undo()
        time.tzset()
    shown = [
        tuple(datetime.fromtimestamp(at, UTC).strftime("%m-%dT%H") for at in span) for span in spans
    ]
    assert shown == [day, month]
