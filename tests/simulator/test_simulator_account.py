import pytest
from simulator_desk import Desk, StoppedClock, body_of

from poeflow.simulator.chat import Account


def rows(desk: Desk, query: str = "") -> dict:
    return body_of(desk.send("GET", f"/usage/points_history{query}"))


def test_an_answer_costs_points_and_is_in_the_history():
    desk = Desk(clock=StoppedClock())
    desk.ask(model="GPT-Image-1.5")
    page = rows(desk)
    # 0.04 USD at 0.00003 USD a point
    assert body_of(desk.send("GET", "/usage/current_balance")) == {
        "current_point_balance": 1_000_000 - 1334
    }
    assert page == {
        "has_more": False,
        "length": 1,
        "data": [
            {
                "creation_time": 1_767_225_600_000_000,
                "bot_name": "GPT-Image-1.5",
                "query_id": page["data"][0]["query_id"],
                "usage_type": "API",
                "cost_points": 1334,
                "cost_usd": "0.040000",
            }
        ],
    }


def test_text_is_charged_by_its_tokens():
    desk = Desk()
    usage = body_of(desk.ask("x" * 40_000))["usage"]
    usd = usage["prompt_tokens"] * 0.0000026 + usage["completion_tokens"] * 0.000013
    assert rows(desk)["data"][0]["cost_usd"] == f"{usd:.6f}"


def test_refused_requests_cost_nothing():
    desk = Desk()
    desk.ask(temperature=9)
    assert rows(desk)["data"] == []


def test_history_is_paged_newest_first():
    desk = Desk()
    models = [f"{name}" for name in ("Grok-4", "GPT-5.2", "o3", "Imagen-4", "DALL-E-3")]
    for model in models:
        desk.ask(model=model)
    first = rows(desk, "?limit=2")
    second = rows(desk, f"?limit=2&starting_after={first['data'][-1]['query_id']}")
    third = rows(desk, f"?limit=2&starting_after={second['data'][-1]['query_id']}")
    pages = (first, second, third)
    assert [page["has_more"] for page in pages] == [True, True, False]
    assert [page["length"] for page in pages] == [2, 2, 1]
    assert [row["bot_name"] for page in pages for row in page["data"]] == models[::-1]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=²", "starting_after=no"]
)
def test_pages_that_cannot_be(query):
    assert Desk().send("GET", f"/usage/points_history?{query}").status == 400


def test_an_empty_account_is_402():
    desk = Desk(profile="legacy")
    desk.service._chat.account = Account(points=0)
    reply = desk.ask()
    assert (reply.status, body_of(reply)["error"]["type"]) == (402, "insufficient_credits")
