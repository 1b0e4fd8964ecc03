"""What an alias or a flow may send in a minute, in tokens and requests."""

import pytest

from poeflow.client.retry import RateLimiters
from poeflow.clock import SystemClock
from poeflow.events import RunFinished, StepFinished
from poeflow.flowfile.model import Limits

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2, params: {max_tokens: 60}}\n"


def minutes(bench) -> int:
    """Return how many whole minutes of its clock a run took."""
    (seconds,) = [event.seconds for event in bench.events if isinstance(event, RunFinished)]
    return int(seconds // 60)


def late(bench) -> set[str]:
    """Return the instances that ended after the first minute."""
    return {e.step for e in bench.events if isinstance(e, StepFinished) and e.at >= 60}


@pytest.mark.parametrize(
    ("limits", "least", "most"),
    [
        ("{tokens_per_minute: 100}", 2, 3),
        ("{tokens_per_minute: 100000}", 0, 0),
        ("{requests_per_minute: 1}", 2, 2),
    ],
)
def test_a_flow_sends_no_more_in_a_minute_than_it_may(bench, fast_clock, limits, least, most):
    steps = "steps:\n  a: {for_each: [x, y, z], prompt: 'Say {{ item }}'}\n"
    flow = f"{HEAD}limits: {limits}\n{steps}"
    assert bench.run(flow, clock=fast_clock).exit_code == 0
    assert least <= minutes(bench) <= most
    assert len(bench.simulator.requests) == 3


@pytest.mark.parametrize(
    ("limits", "slowest"),
    [
        (Limits(tokens_per_minute=100), 2),
        (Limits(requests_per_minute=1), 2),
        (Limits(requests_per_minute=3), 0),
    ],
)
def test_the_limits_of_the_caller_count_as_those_of_the_flow(bench, fast_clock, limits, slowest):
    steps = "steps:\n  a: {for_each: [x, y, z], prompt: 'Say {{ item }}'}\n"
    flow = f"{HEAD}limits: {{requests_per_minute: 3, tokens_per_minute: 100000}}\n{steps}"
    assert bench.run(flow, clock=fast_clock, limits=limits).exit_code == 0
    assert minutes(bench) >= slowest


ALIASES = """\
models:
  slow: {model: GPT-5.2, %s}
steps:
  a: {for_each: [x, y], model: slow, prompt: "Say {{ item }}"}
  b: {for_each: [x, y], prompt: "Ask {{ item }}"}
"""


@pytest.mark.parametrize("limit", ["requests_per_minute: 1", "tokens_per_minute: 100"])
def test_an_alias_has_limits_of_its_own(bench, fast_clock, limit):
    flow = HEAD + ALIASES % limit
    assert bench.run(flow, clock=fast_clock).exit_code == 0
    assert late(bench) in ({"a[x]"}, {"a[y]"})


def test_a_stored_answer_counts_for_no_limit(bench, fast_clock):
    flow = HEAD + ALIASES % "requests_per_minute: 1"
    assert bench.run(flow, clock=fast_clock).exit_code == 0
    (bench.folder / "a.lock.json").unlink()
    assert bench.run(flow, clock=fast_clock).exit_code == 0
    assert late(bench) == set()
    assert bench.states(flow.replace("minute: 1", "minute: 2"))["a[x]"] == ("fresh", ())


def test_each_send_counts(bench, scripted, fast_clock):
    scripted('- {match: {model: GPT-5.2}, fault: "500"}\n')
    flow = (
        "poeflow: 1\n"
        "models: {slow: {model: GPT-5.2, requests_per_minute: 1, retry: {attempts: 2}}}\n"
        "steps:\n  a: {model: slow, prompt: say}\n"
    )
    assert bench.run(flow, clock=fast_clock).exit_code == 6
    assert len(bench.simulator.requests) == 2
    assert minutes(bench) == 1


def test_a_judge_counts_for_the_alias_that_it_names(bench, fast_clock):
    flow = HEAD + (
        "models: {slow: {model: GPT-5.2, requests_per_minute: 1}}\n"
        "steps:\n"
        "  a: {prompt: say, expect: [{judge: {rubric: x, model: slow, threshold: 0}}]}\n"
        "  b: {prompt: ask, model: slow, needs: [a]}\n"
    )
    assert bench.run(flow, clock=fast_clock).exit_code == 0
    assert late(bench) == {"b"}


def test_others_do_not_wait_behind_an_alias_that_waits(bench, fast_clock):
    flow = (
        "poeflow: 1\n"
        "models: {slow: {model: GPT-5.2, requests_per_minute: 2}}\n"
        "defaults: {model: GPT-5.2}\n"
        "steps:\n"
        "  a: {for_each: [w, x, y, z], model: slow, prompt: 'Say {{ item }}'}\n"
        "  b: {prompt: first}\n"
        "  c: {prompt: 'then {{ steps.b.text }}'}\n"
        "  d: {prompt: 'last {{ steps.c.text }}'}\n"
    )
    assert bench.run(flow, clock=fast_clock, concurrency=2).exit_code == 0
    assert {name[0] for name in late(bench)} == {"a"}
    assert len(late(bench)) == 2


def test_the_wait_for_a_limit_is_no_time_of_the_answer(bench, fast_clock):
    flow = (
        f"{HEAD}limits: {{requests_per_minute: 1}}\n"
        "steps:\n"
        "  a: {for_each: range(4), prompt: 'Say {{ item }}', expect: [{max_seconds: 150}]}\n"
    )
    assert bench.run(flow, clock=fast_clock, concurrency=4).exit_code == 0
    assert minutes(bench) == 3


@pytest.mark.parametrize("limit", ["requests_per_minute: 1", "tokens_per_minute: 100"])
def test_the_wait_for_a_limit_is_no_time_of_the_step(bench, fast_clock, limit):
    flow = (
        f"{HEAD}limits: {{{limit}}}\n"
        "steps:\n  a: {for_each: range(4), prompt: 'Say {{ item }}', timeout: {step: 1.5s}}\n"
    )
    assert bench.run(flow, clock=fast_clock, concurrency=4).exit_code == 0
    assert minutes(bench) >= 3


def test_the_time_of_a_step_goes_on_when_its_request_is_sent(bench, scripted, fast_clock):
    scripted("- {match: {model: GPT-5.2}, delay: 5, answer: {text: late}}\n")
    flow = (
        f"{HEAD}limits: {{requests_per_minute: 1}}\n"
        "steps:\n  a: {for_each: range(2), prompt: 'Say {{ item }}', timeout: {step: 0.2s}}\n"
    )
    outcome = bench.run(flow, clock=fast_clock, concurrency=2, keep_going=True)
    messages = {error.message for error in outcome.failures.values()}
    assert messages == {"the step took longer than 0.2 s"}
    assert len(bench.simulator.requests) == 2


class QuickClock(SystemClock):
    """A clock of whose minutes each takes 4 seconds: longer than a run that need not wait."""

    def monotonic(self) -> float:
        return super().monotonic() * 15

    async def asleep(self, seconds: float) -> None:
        await super().asleep(seconds / 15)


PACED = f"{HEAD}limits: {{requests_per_minute: 2}}\n"
PACED_ALIAS = """\
poeflow: 1
models: {slow: {model: GPT-5.2, requests_per_minute: 2}}
defaults: {model: slow}
"""


@pytest.mark.parametrize("head", [PACED, PACED_ALIAS])
def test_runs_that_share_limiters_send_together_what_one_may(bench, head):
    flow = head + "steps:\n  a: {for_each: [x, y], prompt: 'NAME {{ item }}'}\n"
    clock, limiters = QuickClock(), RateLimiters()

    def seconds(name: str, limiters: RateLimiters) -> float:
        assert bench.run(flow.replace("NAME", name), clock=clock, limiters=limiters).exit_code == 0
        return bench.events[-1].seconds

    began = clock.monotonic()
    assert seconds("Say", limiters) < 60
    seconds("Ask", limiters)
    assert clock.monotonic() - began >= 60, "all four were not sent in one minute"
    assert seconds("Tell", RateLimiters()) < 60
    assert len(bench.simulator.requests) == 6


@pytest.mark.parametrize("is_shared", [True, False])
def test_runs_that_share_limiters_wait_together_after_a_refusal(bench, scripted, is_shared):
    refusal = "{status: 429, message: too many, retry_after: 45}"
    scripted(f"- {{match: {{text: first}}, answer: {{error: {refusal}}}}}\n")
    flow = "poeflow: 1\nsteps:\n  a: {model: GPT-5.2, retry: {attempts: 1}, prompt: NAME}\n"
    clock, limiters = QuickClock(), RateLimiters()
    assert bench.run(flow.replace("NAME", "first"), clock=clock, limiters=limiters).exit_code == 6
    after = limiters if is_shared else RateLimiters()
    assert bench.run(flow.replace("NAME", "then"), clock=clock, limiters=after).exit_code == 0
    assert (bench.events[-1].seconds >= 30) == is_shared


def test_a_provider_waits_for_no_other_that_has_its_own_key_at_the_same_server(
    bench, scripted, tmp_path
):
    refusal = "{status: 429, message: too many, retry_after: 45}"
    scripted(f"- {{match: {{text: first}}, answer: {{error: {refusal}}}}}\n")
    config, url = tmp_path.parent / f"{tmp_path.name}-home.toml", bench.simulator.base_url
    server = f"[providers.NAME]\nbase_url = '{url}'\nkey_variable = 'KEY_NAME'\n"
    config.write_text("".join(server.replace("NAME", name) for name in "xy"))
    environ = {"POEFLOW_CONFIG": str(config), "KEY_x": "a" * 20, "KEY_y": "b" * 20}
    clock, limiters = QuickClock(), RateLimiters()

    def code(provider: str, text: str) -> int:
        step = f"{{model: GPT-5.2, provider: {provider}, retry: {{attempts: 1}}, prompt: {text}}}"
        flow = f"poeflow: 1\nsteps:\n  a: {step}\n"
        return bench.run(flow, environ=environ, clock=clock, limiters=limiters).exit_code

    assert (code("x", "first"), code("y", "then")) == (6, 0)
    assert bench.events[-1].seconds < 30
