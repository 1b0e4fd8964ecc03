"""Every request counts: whatever it is for, its usage is in the totals, as the server has it."""

import asyncio
import json
import urllib.request
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from poeflow.client.answers import Completion
from poeflow.engine.asking.request import ModelRequest
from poeflow.engine.asking.spending import Attempts, Bounds, Budget, Spent
from poeflow.engine.running import run
from poeflow.errors import (
    APIConnectionError,
    APIResponseError,
    APITimeoutError,
    BudgetError,
    InternalServerError,
    ModerationError,
    TruncatedStreamError,
    UsageError,
)
from poeflow.events import RequestSent, RunFinished, StepFinished
from poeflow.flowfile.model import Limits
from poeflow.operations.budgets import bounds

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\n"
JUDGED = """\
steps:
  say:
    for_each: [1, 2, 3, 4, 5, 6]
    prompt: "say {{ item }}"
    expect: [{judge: {rubric: Is it polite?, model: Claude-Opus-4.6, threshold: 0.0}}]
"""
SCHEMA = "{type: object, required: [n], properties: {n: {type: integer}}}"
PRICES = {
    "object": "list",
    "data": [
        {"id": "gpt-5.2", "pricing": {"prompt": "0.001", "completion": "0.001"}},
        {"id": "claude-opus-4.6", "pricing": {"prompt": "0.1", "completion": "0.1"}},
        {"id": "grok-4", "pricing": {"prompt": "1", "completion": "1"}},
    ],
}


def usage_at(server) -> list[int]:
    """Return the tokens of each request as the server counts them: asked again, in one piece."""
    return [_tokens(server, request.json) for request in server.requests]


def _tokens(server, body: dict) -> int:
    whole = {k: v for k, v in body.items() if k not in ("stream", "stream_options")}
    request = urllib.request.Request(
        f"{server.base_url}/chat/completions",
        data=json.dumps(whole).encode(),
        headers={"content-type": "application/json", "authorization": "Bearer some-key-12345"},
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["usage"]["total_tokens"]


def purposes(bench) -> list[tuple[str, str, str]]:
    return [
        (event.step, event.model, event.purpose)
        for event in bench.events
        if isinstance(event, RequestSent)
    ]


def finished(bench) -> RunFinished:
    (found,) = [event for event in bench.events if isinstance(event, RunFinished)]
    return found


def test_there_is_one_way_to_ask_a_model():
    engine = Path(run.__file__).parents[1]
    asking = [path.name for path in sorted(engine.rglob("*.py")) if ".ask(" in path.read_text()]
    assert asking == ["sender.py"]
    assert "purpose" in {
        field.name for field in msgspec.structs.fields(ModelRequest) if field.required
    }


def test_judges_are_in_every_sum(bench):
    outcome = bench.run(HEAD + JUDGED)
    assert (outcome.exit_code, outcome.spent.requests) == (0, 12)
    assert outcome.spent.tokens == sum(usage_at(bench.simulator))
    told = finished(bench)
    assert (told.requests, told.tokens) == (12, outcome.spent.tokens)
    steps = [event for event in bench.events if isinstance(event, StepFinished)]
    each = [(one.prompt_tokens or 0) + (one.completion_tokens or 0) for one in steps]
    assert sum(each) == outcome.spent.tokens


def test_a_limit_on_tokens_stops_what_judges_use(bench):
    outcome = bench.run(HEAD + "limits: {max_tokens: 400}\n" + JUDGED, concurrency=1)
    used = usage_at(bench.simulator)
    assert outcome.exit_code == 9
    assert sum(used[:-1]) < 400 <= sum(used), "the last one that went out reached the limit"


def test_side_by_side_a_limit_is_passed_by_what_is_under_way_alone(bench):
    outcome = bench.run(HEAD + "limits: {max_tokens: 400}\n" + JUDGED, concurrency=8)
    used = usage_at(bench.simulator)
    assert (outcome.exit_code, outcome.spent.tokens) == (9, sum(used))
    assert len(used) < 12, "all that there is"
    smallest = sorted(used)[: len(used) - 8]
    assert sum(smallest) < 400 <= sum(used), "eight may have been under way when it was reached"


EVERY_KIND = {
    "repairs": (
        "- {match: {text: count, nth: 1}, answer: {text: none}}\n- {answer: {json: {n: 2}}}\n",
        f"  a: {{prompt: count, output: {{schema: {SCHEMA}, repair: 1}}}}\n",
        [("a", "GPT-5.2", "answer"), ("a", "GPT-5.2", "repair")],
    ),
    "a judge that must be asked twice": (
        "- {match: {model: Grok-4}, answer: {text: well}}\n- {answer: {text: fine}}\n",
        "  a: {prompt: x, expect: [{judge: {rubric: good, model: Grok-4}}]}\n",
        [("a", "GPT-5.2", "answer"), ("a", "Grok-4", "judge"), ("a", "Grok-4", "judge")],
    ),
    "samples": (
        "- {answer: {text: fine}}\n",
        "  a: {prompt: x, samples: 2}\n",
        [("a#1", "GPT-5.2", "answer"), ("a#2", "GPT-5.2", "answer")],
    ),
    "a model that stands in": (
        "- {match: {model: GPT-5.2}, fault: '404'}\n- {answer: {text: fine}}\n",
        "  a: {prompt: x, fallback: [Grok-4]}\n",
        [("a", "GPT-5.2", "answer"), ("a", "Grok-4", "fallback")],
    ),
}


@pytest.mark.parametrize("kind", EVERY_KIND)
def test_every_kind_of_request_says_what_it_is_for_and_counts(bench, scripted, kind):
    rules, steps, expected = EVERY_KIND[kind]
    scripted(rules)
    outcome = bench.run(HEAD + "steps:\n" + steps)
    assert purposes(bench) == expected
    sent = bench.simulator.requests
    assert outcome.spent.requests == len(sent) == len(expected)
    assert all(request.json["stream_options"] == {"include_usage": True} for request in sent)
    assert outcome.spent.tokens > 0
    assert outcome.spent.unknown == 0


def test_judges_of_a_used_flow_count_for_the_flow_that_uses_it(bench):
    bench.write("part.yaml", HEAD + JUDGED)
    outcome = bench.run(HEAD + "steps:\n  part: {use: part.yaml}\n")
    assert outcome.spent.requests == 12
    assert outcome.spent.tokens == sum(usage_at(bench.simulator))


def test_each_answer_costs_what_the_model_costs_that_gave_it(bench, scripted):
    scripted("- {match: {model: GPT-5.2}, fault: '404'}\n- {answer: {text: fine}}\n")
    bench.write(".poeflow/models.json", json.dumps(PRICES))
    outcome = bench.run(HEAD + "steps:\n  a: {prompt: x, fallback: [Grok-4]}\n")
    assert outcome.spent.cost_usd == Decimal(outcome.spent.tokens)


@pytest.mark.parametrize(
    "steps",
    [
        "  a: {prompt: x, expect: [{judge: {rubric: good, model: Nova-9}}]}\n",
        "  a: {prompt: x, fallback: [Nova-9]}\n",
    ],
)
def test_a_limited_cost_needs_the_price_of_judges_and_stand_ins(bench, steps):
    bench.write(".poeflow/models.json", json.dumps(PRICES))
    with pytest.raises(UsageError, match="the price of Nova-9 is not known"):
        bench.run(HEAD + "steps:\n" + steps, limits=Limits(max_cost_usd=9))
    assert not bench.simulator.requests


def test_a_model_named_late_is_not_asked_without_a_price_either(bench):
    bench.write(".poeflow/models.json", json.dumps(PRICES))
    flow = """\
steps:
  a:
    prompt: x
    expect: [{judge: {rubric: good, model: "{{ 'Nova' }}-9"}}]
"""
    outcome = bench.run(HEAD + flow, limits=Limits(max_cost_usd=10**6))
    assert [request.json["model"] for request in bench.simulator.requests] == ["GPT-5.2"]
    assert isinstance(outcome.failures["a"], UsageError)
    assert outcome.exit_code == 2


USAGE = {"prompt_tokens": 7, "completion_tokens": 5}
REFUSED = {"message": "no", "usage": USAGE}


@pytest.mark.parametrize(
    ("error", "used", "sends", "unknown"),
    [
        (InternalServerError("no", status_code=500), 0, 1, 0),
        (ModerationError("no", status_code=403, body={"error": {}, "usage": USAGE}), 12, 1, 0),
        (InternalServerError("no", status_code=500, body={"error": REFUSED}), 12, 1, 0),
        (TruncatedStreamError(Completion({"usage": USAGE})), 12, 1, 0),
        (TruncatedStreamError(Completion({})), 0, 1, 1),
        (APIResponseError("no choices"), 0, 1, 1),
        (APITimeoutError("late", was_sent=True), 0, 1, 1),
        (APIConnectionError("nobody there"), 0, 0, 0),
    ],
)
def test_what_became_of_an_attempt_that_failed_is_counted(error, used, sends, unknown):
    async def fail(budget: Budget) -> None:
        guess = await budget.room("A", prompt_tokens=1, most=None)
        with budget.sending("A", guess) as sending:
            sending.permit()
            Attempts(sending).end(error)

    shared = Budget(Bounds(), lambda _: None)
    budget = Budget(Bounds(), lambda _: None, shared=shared)
    asyncio.run(fail(budget))
    spent = budget.summary()
    assert (spent.tokens, spent.requests, spent.unknown) == (used, sends, unknown)
    assert shared.summary() == spent


def test_a_send_that_nobody_tells_of_is_unknown():
    async def leave(budget: Budget) -> None:
        guess = await budget.room("A", prompt_tokens=1, most=None)
        with budget.sending("A", guess) as sending:
            sending.permit()
            raise ZeroDivisionError

    budget = Budget(Bounds(), lambda _: None)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(leave(budget))
    assert budget.summary() == Spent(requests=1, unknown=1)


def test_an_answer_that_does_not_tell_what_it_used_counts_for_the_limit_all_the_same():
    async def ask(budget: Budget) -> None:
        guess = await budget.room("A", prompt_tokens=6, most=None)
        with budget.sending("A", guess) as sending:
            sending.permit()
            sending.answered(None, completion_tokens=4)

    budget = Budget(bounds({"me": Limits(max_tokens=10)}, is_ci=False), lambda _: None)
    asyncio.run(ask(budget))
    assert budget.summary() == Spent(requests=1, unpriced=("A",))
    with pytest.raises(BudgetError, match="may use 10 tokens"):
        asyncio.run(ask(budget))


def test_the_answer_to_a_failed_expectation_was_asked(bench):
    flow = HEAD + "steps:\n  a: {prompt: x, expect: [{contains: zebra}]}\n"
    assert bench.run(flow).exit_code == 1
    told = finished(bench)
    assert (told.asked, told.cached, told.failed, told.requests) == (1, 0, 1, 1)
    bench.run(flow)
    told = finished(bench)
    assert (told.asked, told.cached, told.failed, told.requests) == (0, 0, 1, 0)


def test_a_network_that_is_dead_uses_nothing_of_the_limit(bench):
    environ = {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": "http://127.0.0.1:9/v1"}
    flow = HEAD + "steps:\n  a: {for_each: [1, 2, 3], prompt: 'x {{ item }}'}\n"
    outcome = bench.run(
        flow.replace("GPT-5.2}", "GPT-5.2, retry: {attempts: 2}}"),
        environ=environ,
        limits=Limits(max_requests=1),
    )
    assert outcome.exit_code == 6
    assert outcome.spent.requests == 0
    assert not any(isinstance(error, BudgetError) for error in outcome.failures.values())
