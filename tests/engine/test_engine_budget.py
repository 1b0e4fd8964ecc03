"""What a run may send: counted before each send, the smallest limit of all, and never guessed."""

import json

import pytest

from poeflow.errors import BudgetError, UsageError
from poeflow.flowfile.model import Limits
from poeflow.settings import UserConfig

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\n"
FIVE = 'steps:\n  say: {for_each: [1, 2, 3, 4, 5], prompt: "say {{ item }}"}\n'
CATALOGUE = {
    "object": "list",
    "data": [{"id": "gpt-5.2", "pricing": {"prompt": "0.01", "completion": "0.02"}}],
}


def test_no_more_is_sent_than_the_flow_may_and_the_rest_is_named(bench):
    outcome = bench.run(HEAD + "limits: {max_requests: 2}\n" + FIVE, concurrency=1)
    assert len(bench.simulator.requests) == 2
    assert outcome.exit_code == 9
    assert str(outcome.failures["say[3]"]) == (
        "the run may use 2 requests (limits of the flow) and has used 2; "
        "raise limits.max_requests or --max-requests"
    )
    assert outcome.skipped == {"say[4]": "say[3] failed", "say[5]": "say[3] failed"}
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


@pytest.mark.parametrize("limit", ["max_cost_usd: 0.001", "max_points: 3"])
def test_a_priced_run_stops_at_its_limit(bench, limit):
    bench.write(".poeflow/models.json", json.dumps(CATALOGUE))
    outcome = bench.run(HEAD + f"limits: {{{limit}}}\n" + FIVE, concurrency=1)
    assert len(bench.simulator.requests) == 1
    assert outcome.exit_code == 9
    assert outcome.spent.cost_usd is not None


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
