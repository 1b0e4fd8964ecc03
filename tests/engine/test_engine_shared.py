"""A run heeds what its project's flows share: models, defaults, limits and prices."""

from decimal import Decimal

import pytest

from poeflow.errors import BudgetError, InvalidFlowError

FLOW = "poeflow: 1\nsteps:\n  a: {prompt: hi}\n"
SHARED = """\
[models.writer]
model = "GPT-5.2"
params = {temperature = 0.3}
[defaults]
model = "writer"
system = {file = "house.md"}
"""


def test_the_request_is_made_of_them(bench):
    bench.write("poeflow.toml", SHARED)
    bench.write("house.md", "You are {{ flow.name }}.")
    assert bench.run(FLOW).exit_code == 0
    (request,) = bench.simulator.requests
    assert (request.json["model"], request.json["temperature"]) == ("GPT-5.2", 0.3)
    assert request.json["messages"] == [
        {"role": "system", "content": "You are a."},
        {"role": "user", "content": "hi"},
    ]


def test_they_count_by_what_they_set_alone(bench):
    bench.write("poeflow.toml", SHARED)
    bench.write("house.md", "Be brief.")
    bench.run(FLOW)
    assert bench.locked() == []
    bench.write("poeflow.toml", SHARED + "[limits]\nmax_requests = 9\n# a comment\n")
    assert bench.locked() == []
    assert bench.states(FLOW) == {"a": ("fresh", ())}
    bench.write("poeflow.toml", SHARED.replace("0.3", "0.4"))
    assert bench.states(FLOW) == {"a": ("stale", ("params.temperature changed",))}
    bench.write("house.md", "Be long.")
    bench.write("poeflow.toml", SHARED)
    assert bench.states(FLOW) == {"a": ("stale", ("file //house.md changed",))}


def test_limits_are_one_more_layer(bench):
    bench.write("poeflow.toml", "[limits]\nmax_requests = 1\n")
    flow = "poeflow: 1\nlimits: {max_requests: 5, concurrency: 1}\nsteps:\n"
    flow += "  a: {model: GPT-5.2, for_each: [x, y], prompt: 'hi {{ item }}'}\n"
    outcome = bench.run(flow)
    assert (outcome.exit_code, len(bench.simulator.requests)) == (9, 1)
    (error,) = outcome.failures.values()
    assert isinstance(error, BudgetError)
    assert "the run may use 1 requests" in error.message
    assert "poeflow.toml) and has used 1" in error.message


def test_prices_count(bench):
    bench.write("poeflow.toml", "[prices.gpt-5_2]\nprompt = 1\n[prices.'GPT-5.2']\nrequest = 0.5\n")
    outcome = bench.run("poeflow: 1\nsteps:\n  a: {model: gpt-5.2, prompt: hi}\n")
    assert outcome.spent.cost_usd == Decimal("0.5")
    limited = "poeflow: 1\nlimits: {max_cost_usd: 1}\nsteps:\n  a: {model: GPT-5.2, prompt: ho}\n"
    assert bench.run(limited).exit_code == 0


def test_nonsense_in_them_stops_a_run_before_anything_is_sent(bench):
    bench.write("poeflow.toml", "[limits]\nmax_request = 1\n")
    with pytest.raises(InvalidFlowError, match='unknown key "max_request"; did you mean'):
        bench.run("poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: hi}\n")
    assert bench.simulator.requests == ()


def test_used_flows_stand_on_them_too(bench):
    bench.write("poeflow.toml", '[defaults]\nmodel = "GPT-5.2"\n')
    bench.write("b.yaml", "poeflow: 1\nsteps:\n  b: {prompt: hi}\n")
    assert bench.run("poeflow: 1\nsteps:\n  a: {use: b.yaml}\n").exit_code == 0
    bench.write("poeflow.toml", "nonsense\n")
    with pytest.raises(InvalidFlowError) as caught:
        bench.run("poeflow: 1\nsteps:\n  a: {use: b.yaml}\n")
    told = [str(problem) for problem in caught.value.problems]
    assert len([one for one in told if "is not TOML" in one]) == 1
