"""What a run may send: counted before each send, the smallest limit of all, and never guessed."""

import asyncio
import json
from datetime import datetime
from decimal import Decimal

import pytest

from poeflow.bots import Pricing
from poeflow.clock import SystemClock
from poeflow.costs import PERIODS, PeriodSpending
from poeflow.engine.asking.spending import Bounds, Budget, Limit, TokenUsage, cost_in
from poeflow.errors import BudgetError, UsageError
from poeflow.flowfile.model import Limits
from poeflow.settings import UserConfig

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\n"
FIVE = 'steps:\n  say: {for_each: [1, 2, 3, 4, 5], prompt: "say {{ item }}"}\n'
CATALOGUE = {
    "object": "list",
    "data": [{"id": "gpt-5.2", "pricing": {"prompt": "0.01", "completion": "0.02"}}],
}
PICTURES = {"object": "list", "data": [{"id": "gpt-image-1", "pricing": {"request": "0.05"}}]}
KEYS = {"c": "max-cost-usd", "p": "max-points"}


def test_no_more_is_sent_than_the_flow_may_and_the_rest_is_named(bench):
    outcome = bench.run(HEAD + "limits: {max_requests: 2}\n" + FIVE, concurrency=1)
    assert len(bench.simulator.requests) == 2
    assert outcome.exit_code == 9
    assert str(outcome.failures["say[3]"]) == (
        "the run may use 2 requests (limits of the flow) and has used 2; "
        "raise limits.max_requests or --max-requests"
    )
    stopped = "the run stopped when say[3] failed"
    assert outcome.skipped == {"say[4]": stopped, "say[5]": stopped}
    assert sorted(outcome.results) == ["say[1]", "say[2]"]
    assert outcome.spent.requests == 2


def test_what_is_stored_costs_nothing(bench):
    bench.run(HEAD + FIVE)
    assert bench.run(HEAD + "limits: {max_requests: 0}\n" + FIVE).exit_code == 0


def test_retries_count(bench, scripted):
    scripted('- {match: {text: say}, fault: "529"}\n')
    outcome = bench.run(
        HEAD + "limits: {max_requests: 2}\nsteps:\n  say: {prompt: say, retry: {attempts: 9}}\n"
    )
    assert len(bench.simulator.requests) == 2
    assert isinstance(outcome.failures["say"], BudgetError)


@pytest.mark.parametrize(
    ("options", "owner"),
    [
        ({"limits": Limits(max_requests=1)}, "the command line"),
        ({"config": UserConfig(max_requests=1)}, "your configuration"),
    ],
)
def test_the_smallest_limit_counts_and_is_named(bench, options, owner):
    outcome = bench.run(HEAD + "limits: {max_requests: 3}\n" + FIVE, concurrency=1, **options)
    assert len(bench.simulator.requests) == 1
    assert owner in str(outcome.failures["say[2]"])


def test_in_ci_there_is_a_limit_where_nobody_set_one(bench):
    environ = {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": bench.simulator.base_url}
    many = "steps:\n  say: {for_each: '{{ range(205) | list }}', prompt: 'say {{ item }}'}\n"
    outcome = bench.run(HEAD + many, environ={**environ, "CI": "true"})
    assert len(bench.simulator.requests) == 200
    assert outcome.exit_code == 9


def test_tokens_are_those_reported(bench):
    outcome = bench.run(HEAD + "limits: {max_tokens: 1}\n" + FIVE, concurrency=1)
    assert len(bench.simulator.requests) == 1
    assert outcome.exit_code == 9
    assert outcome.spent.tokens > 1


def test_a_cost_needs_a_price_for_every_model(bench):
    limited = HEAD + "limits: {max_cost_usd: 0.5}\n" + FIVE
    with pytest.raises(UsageError) as caught:
        bench.run(limited)
    assert str(caught.value) == (
        "the cost is limited, and the price of GPT-5.2 is not known; "
        "run `poeflow models` to fetch prices, or add --allow-unpriced"
    )
    assert not bench.simulator.requests
    outcome = bench.run(limited, allow_unpriced=True)
    assert (outcome.exit_code, outcome.spent.cost_usd) == (0, None)
    assert outcome.spent.unpriced == ("GPT-5.2",)


@pytest.mark.parametrize("limit", ["max_cost_usd: 0.1", "max_points: 3000"])
def test_a_priced_run_stops_at_its_limit(bench, limit):
    bench.write(".poeflow/models.json", json.dumps(CATALOGUE))
    outcome = bench.run(HEAD + f"limits: {{{limit}}}\n" + FIVE, concurrency=1)
    assert len(bench.simulator.requests) == 1
    assert outcome.exit_code == 9
    assert outcome.spent.cost_usd is not None


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("max_cost_usd: 0.01", "0.01 USD (estimated) (limits of the flow) and has used 0"),
        ("max_points: 300", "300 points (estimated) (limits of the flow) and has used 0"),
    ],
)
def test_a_request_whose_prompt_alone_costs_more_than_is_left_is_not_sent(bench, limit, words):
    bench.write(".poeflow/models.json", json.dumps(CATALOGUE))
    outcome = bench.run(HEAD + f"limits: {{{limit}}}\n" + FIVE, concurrency=1)
    assert (len(bench.simulator.requests), outcome.exit_code) == (0, 9)
    message = str(outcome.failures["say[1]"])
    assert message.startswith(f"the run may use {words}, and the next request takes at least about")
    assert message.endswith(f"; raise limits.{limit.split(':')[0]} or --{KEYS[limit[4]]}")


def test_what_one_picture_costs_is_known_before_it_is_asked_for(bench):
    bench.write(".poeflow/models.json", json.dumps(PICTURES))
    picture = "steps: {draw: {model: GPT-Image-1, prompt: A, output: {media: p}}}\n"
    outcome = bench.run("poeflow: 1\nlimits: {max_cost_usd: 0.04}\n" + picture)
    assert (len(bench.simulator.requests), outcome.exit_code) == (0, 9)
    assert bench.run("poeflow: 1\nlimits: {max_cost_usd: 0.05}\n" + picture).exit_code == 0


class Later(SystemClock):
    """The time of the machine, some seconds later."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return datetime.fromisoformat("2026-03-30T12:00").timestamp() + self.seconds


ONE = HEAD + "steps: {say: {prompt: 'say %s'}}\n"
DAY = 86_400


@pytest.fixture
def priced(bench):
    bench.write(".poeflow/models.json", json.dumps(CATALOGUE))
    return bench


def cost_of_one(bench, word="a", after=0.0):
    """Run a flow that asks once, so many seconds later, and return what it cost."""
    outcome = bench.run(ONE % word, clock=Later(after))
    assert outcome.exit_code == 0
    return float(outcome.spent.cost_usd)


def test_a_day_may_cost_no_more_whatever_run_spends_it(priced):
    cost = cost_of_one(priced)
    asked = len(priced.simulator.requests)
    outcome = priced.run(ONE % "b", clock=Later(60), max_cost_usd_per_day=cost)
    assert (outcome.exit_code, len(priced.simulator.requests)) == (9, asked)
    assert str(outcome.failures["say"]) == (
        f"all runs of today may use {cost:,g} USD (estimated, the command line) and have used "
        f"{cost:,.6g}, and the next request may use 20.1; "
        "raise --max-cost-usd-per-day, or run later"
    )
    assert priced.run(ONE % "a", clock=Later(60), max_cost_usd_per_day=0).exit_code == 0, "stored"


def test_the_next_day_has_a_budget_of_its_own_and_the_month_has_not(priced):
    cost = cost_of_one(priced)
    month = UserConfig(max_cost_usd_per_month=cost + 1)
    day = UserConfig(max_cost_usd_per_day=cost + 25)
    asked = len(priced.simulator.requests)
    outcome = priced.run(ONE % "b", clock=Later(DAY), config=month)
    assert (outcome.exit_code, len(priced.simulator.requests)) == (9, asked)
    assert "all runs of this month may use" in str(outcome.failures["say"])
    assert "your configuration" in str(outcome.failures["say"])
    assert priced.run(ONE % "b", clock=Later(DAY), config=day).exit_code == 0
    assert priced.run(ONE % "c", clock=Later(2 * DAY), config=UserConfig()).exit_code == 0
    in_april = UserConfig(max_cost_usd_per_month=2 * cost + 25)
    assert priced.run(ONE % "d", clock=Later(3 * DAY), config=in_april).exit_code == 0


def day_of(spent, limit, clock):
    """Return a budget with a limit on the day, of which something is spent; a token costs 1."""
    budget = Budget(Bounds(), lambda _: Pricing(prompt=Decimal(1), completion=Decimal(1)))
    spending = PeriodSpending(PERIODS[0], Decimal(spent), clock)
    budget.limit_period(Limit(value=limit, owner="the command line"), spending)
    return budget


async def send(budget, *, used=1):
    guess = await budget.room("GPT-5.2", prompt_tokens=1, most=9)
    with budget.sending("GPT-5.2", guess) as sending:
        sending.permit()
        await asyncio.sleep(0)
        sending.answered(TokenUsage(prompt=0, completion=used))


async def test_a_request_that_may_exceed_what_is_left_waits_for_those_in_flight():
    budget = day_of(5, 20, Later(0))
    await asyncio.gather(send(budget, used=2), send(budget, used=3), send(budget, used=4))
    with pytest.raises(BudgetError) as caught:
        await asyncio.gather(*(send(budget, used=5) for _ in range(2)))
    assert "may use 20 USD (estimated, the command line) and have used 19, and" in str(caught.value)


def no_price(_model: str) -> Pricing | None:
    return None


def a_dollar(_model: str) -> Pricing:
    return Pricing(prompt=Decimal(1), completion=Decimal(1))


def limit(value: int) -> Limit:
    return Limit(value=value, owner="the flow")


async def test_an_answer_without_usage_counts_for_limits_but_its_cost_is_not_known():
    budget = Budget(Bounds(cost_usd=limit(9)), a_dollar)
    guess = await budget.room("GPT-5.2", prompt_tokens=1, most=9)
    with budget.sending("GPT-5.2", guess) as sending:
        sending.permit()
        sending.answered(None, completion_tokens=8)
    spent = budget.summary()
    assert (spent.cost_usd, spent.unpriced, spent.tokens) == (None, ("GPT-5.2",), 0)
    with pytest.raises(BudgetError):
        budget.check()


async def test_the_longest_answer_so_far_is_the_guess_for_the_next():
    budget = Budget(Bounds(), a_dollar)
    await send(budget, used=5)
    await send(budget, used=3)
    assert (await budget.room("GPT-5.2", prompt_tokens=1, most=9)).completion == 5


@pytest.mark.parametrize("bounds", [Bounds(points=limit(1)), Bounds(cost_usd=limit(1))])
async def test_limits_on_points_and_on_cost_need_prices(bounds):
    with pytest.raises(UsageError, match=r"the price of GPT-5\.2 is not known"):
        await Budget(bounds, no_price).room("GPT-5.2", prompt_tokens=1, most=9)
    await Budget(bounds, no_price, allow_unpriced=True).room("GPT-5.2", prompt_tokens=1, most=9)


async def test_what_was_reserved_and_not_sent_is_given_back_to_all():
    shared = Budget(Bounds(tokens=limit(10)), a_dollar)
    budget = Budget(Bounds(requests=limit(2)), a_dollar, shared=shared)
    async with asyncio.timeout(10):
        for _ in range(3):
            guess = await budget.room("GPT-5.2", prompt_tokens=1, most=9)
            with budget.sending("GPT-5.2", guess):
                pass
        await send(budget)
    assert (budget.summary().requests, shared.summary().requests) == (1, 1)


async def test_the_cost_of_answers_is_known_only_if_all_prices_are():
    prices = iter([Pricing(prompt=Decimal(1), completion=Decimal(1)), None])
    budget = Budget(Bounds(), lambda _: next(prices))
    guess = await budget.room("GPT-5.2", prompt_tokens=1, most=9)
    with budget.sending("GPT-5.2", guess) as sending:
        for cost in (3, None):
            sending.permit()
            sending.answered(TokenUsage(prompt=1, completion=2))
            assert sending.cost_usd == cost
            assert cost_in(sending.used) == cost


async def test_midnight_during_a_run_begins_with_nothing():
    clock = Later(0)
    budget = day_of(5, 10, clock)
    with pytest.raises(BudgetError):
        await send(budget)
    clock.seconds = DAY / 2
    await send(budget, used=9)
    with pytest.raises(BudgetError):
        await send(budget)


def test_simulated_runs_have_no_budget_of_a_day_and_add_nothing(priced):
    assert priced.run(ONE % "a", offline=True, max_cost_usd_per_day=0).exit_code == 0
    assert priced.run(ONE % "b", clock=Later(1), max_cost_usd_per_day=25).exit_code == 0


def test_the_budget_of_a_day_needs_prices(bench):
    with pytest.raises(UsageError, match=r"the cost is limited, and the price of GPT-5\.2"):
        bench.run(ONE % "a", max_cost_usd_per_day=1)


def test_an_unknown_provider_is_no_guess(bench):
    with pytest.raises(UsageError, match='provider "mine" is not in your configuration'):
        bench.run("poeflow: 1\nsteps: {a: {provider: mine, model: m, prompt: x}}\n")


def test_another_server_is_asked_with_its_own_key_only(bench, tmp_path):
    config = tmp_path / "home" / "config.toml"
    config.parent.mkdir()
    (tmp_path / "project").mkdir()
    config.write_text(
        f'[providers.mine]\nbase_url = "{bench.simulator.base_url}"\n'
        'key_variable = "MINE_KEY"\nresponse_format = true\n'
    )
    bench.folder = tmp_path / "project"
    environ = {"MINE_KEY": "my-own-key-123", "POEFLOW_CONFIG": str(config)}
    outcome = bench.run(
        "poeflow: 1\nsteps:\n  a: {provider: mine, model: GPT-5.2, prompt: x,"
        " output: {schema: {type: object}}}\n",
        environ=environ,
    )
    assert outcome.exit_code == 0
    (request,) = bench.simulator.requests
    assert request.headers["authorization"] == "Bearer [key]"
    assert request.json["response_format"]["type"] == "json_schema"


def test_the_projects_own_file_decides_nothing(bench, tmp_path):
    (tmp_path / "config.toml").write_text("allow_tools = true\n")
    with pytest.raises(UsageError, match="is in the project, where a stranger could change it"):
        bench.run(HEAD + FIVE, environ={"POEFLOW_CONFIG": str(tmp_path / "config.toml")})
