"""What a plan says that a run would send: which requests, and how long their answers may be."""

import json
import sys

import pytest

from poeflow.events import RunEstimated
from poeflow.records import Calls
from poeflow.report.plan import plan_summary

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\n"
LOOP = 'steps:\n  say: {{for_each: {items}, prompt: "{words} {{{{ item }}}}"}}\n'


def loop(items: str, words: str = "say") -> str:
    return HEAD + LOOP.format(items=items, words=words)


def first(bench, flow: str, name: str, **options) -> Calls:
    (status,) = [one for one in bench.statuses(flow, **options) if one.id == name]
    return status.kinds[0]


def test_an_answer_is_taken_to_be_as_long_as_last_time(bench):
    bench.run(loop("[a, b]"))
    lengths = {
        event.step: event.completion_tokens
        for event in bench.events
        if type(event).__name__ == "StepFinished"
    }
    for name in ("say[a]", "say[b]"):
        found = first(bench, loop("[a, b]", "tell me of"), name)
        assert (found.answer_tokens, found.answer_from) == (lengths[name], "instance")
    found = first(bench, loop("[a, b, c]"), "say[c]")
    assert (found.answer_tokens, found.answer_from) == (
        round(sum(lengths.values()) / 2),
        "step",
    )


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("", (None, None)),
        (", params: {max_tokens: 70}", (70, "limit")),
        (", params: {max_tokens: 70, max_completion_tokens: 30}", (30, "limit")),
    ],
)
def test_else_it_is_taken_to_have_its_limit(bench, params, expected):
    flow = HEAD + f"steps:\n  a: {{prompt: x{params}}}\n"
    found = first(bench, flow, "a")
    assert (found.answer_tokens, found.answer_from) == expected


def test_the_model_has_a_limit_of_its_own(bench):
    window = {"context_length": 9000, "max_output_tokens": 64}
    models = {"object": "list", "data": [{"id": "gpt-5.2", "context_window": window}]}
    bench.write(".poeflow/models.json", json.dumps(models))
    found = first(bench, HEAD + "steps:\n  a: {prompt: x}\n", "a")
    assert (found.answer_tokens, found.answer_from) == (64, "limit")


def test_repairs_rounds_of_tools_and_judges_are_ranges(bench):
    flow = """\
steps:
  much:
    prompt: two
    output: {one_of: [a, b], repair: 2}
    expect: [{judge: {rubric: good, model: Grok-4}}]
  plain:
    prompt: two
    expect: [{judge: {rubric: good}}, {min_length: 3, level: warn}]
  tools: {prompt: two, tools: [{name: now, run: "a:b"}]}
"""
    statuses = {status.id: status for status in bench.statuses(HEAD + flow)}
    told = {
        name: [(kind.purpose, kind.model, kind.least, kind.most) for kind in status.kinds]
        for name, status in statuses.items()
    }
    assert told == {
        "much": [
            ("answer", "GPT-5.2", 1, 1),
            ("repair", "GPT-5.2", 0, 2),
            ("judge", "Grok-4", 0, 6),
        ],
        "plain": [("answer", "GPT-5.2", 1, 1), ("judge", "GPT-5.2", 1, 2)],
        "tools": [("answer", "GPT-5.2", 1, 1), ("tools", "GPT-5.2", 0, 10)],
    }
    counts = {name: (status.calls, status.most_calls) for name, status in statuses.items()}
    assert counts == {"much": (1, 9), "plain": (2, 3), "tools": (1, 11)}


JUDGED = """\
steps:
  a:
    prompt: two
    samples: 4
    expect: [{judge: {rubric: %s, model: Grok-4, threshold: 0.1}, level: score}]
"""
SCORED = """\
- {match: {model: Grok-4}, answer: {json: {reason: good, score: 1}}}
- {match: {nth: 3}, fault: "400"}
- {answer: {template: "sample {{ nth }}"}}
"""


def test_of_samples_that_are_stored_only_judges_are_asked(bench, scripted):
    scripted(SCORED.replace("nth: 3", "nth: 9"))
    assert bench.run(HEAD + JUDGED % "good").exit_code == 0
    (status,) = bench.statuses(HEAD + JUDGED % "great")
    counts = {kind.purpose: (kind.least, kind.most) for kind in status.kinds}
    assert counts == {"answer": (0, 0), "judge": (4, 8)}
    before = len(bench.simulator.requests)
    bench.run(HEAD + JUDGED % "great")
    assert len(bench.simulator.requests) == before + 4


def test_of_samples_some_of_which_are_stored_the_others_are_asked_for(bench, scripted):
    scripted(SCORED)
    assert bench.run(HEAD + JUDGED % "good").exit_code != 0
    (status,) = bench.statuses(HEAD + JUDGED % "great")
    counts = {kind.purpose: (kind.least, kind.most) for kind in status.kinds}
    assert counts == {"answer": (1, 1), "judge": (3, 8)}


def test_a_used_flow_sends_only_what_its_steps_send(bench):
    bench.write(
        "part.yaml", HEAD + "steps: {p: {prompt: two}}\noutputs: {r: '{{ steps.p.text }}'}\n"
    )
    flow = "poeflow: 1\nsteps:\n  u: {use: part.yaml}\n  c: {render: '%s{{ steps.u.outputs.r }}'}\n"
    bench.run(flow % "")
    bench.forget_answers()
    calls = {status.id: status.calls for status in bench.statuses(flow % "so: ")}
    assert calls == {"u/p": 1, "u": 0, "c": 0}


def test_what_waits_for_another_may_cost_what_it_did(bench):
    chain = 'steps:\n  a: {{prompt: {}}}\n  b: {{prompt: "{{{{ steps.a.text }}}}"}}\n'
    bench.run(HEAD + chain.format("one"))
    statuses = {status.id: status for status in bench.statuses(HEAD + chain.format("two"))}
    assert statuses["b"].state == "unknown"
    (kind,) = statuses["b"].kinds
    assert (kind.least, kind.most, kind.answer_from) == (0, 1, "instance")
    assert kind.prompt_tokens > 0


def test_a_part_of_a_loop_is_planned_as_it_is_run(bench):
    flow = loop("[a, b, c, bb]") + '  next: {for_each: steps.say, prompt: "{{ source.text }}"}\n'
    assert list(bench.states(flow, first=2)) == ["say[a]", "say[b]", "next[a]", "next[b]"]
    assert list(bench.states(flow, key="b*")) == ["say[b]", "say[bb]", "next[b]", "next[bb]"]
    bench.run(flow)
    assert {state for state, _ in bench.states(flow, first=1).values()} == {"fresh"}
    assert bench.locked(first=1) == []


def announced(bench) -> list[RunEstimated]:
    return [event for event in bench.events if isinstance(event, RunEstimated)]


def test_a_large_loop_is_announced_with_its_sum(bench):
    flow = loop("'{{ range(100) | list }}'")
    bench.run(flow)
    (told,) = announced(bench)
    sent = len(bench.simulator.requests)
    assert (told.requests, told.most_requests, told.answer_tokens) == (100, 100, None)
    assert (sent, told.cost_usd) == (100, None)
    assert type(bench.events[1]) is RunEstimated
    bench.run(flow)
    assert announced(bench) == [], "nothing will be sent"
    bench.run(loop("'{{ range(103) | list }}'"))
    (told,) = announced(bench)
    assert told.requests == 3
    assert told.answer_tokens is not None


def test_of_a_very_large_loop_a_sample_is_announced(bench):
    flow = loop("'{{ range(300) | list }}'")
    bench.run(flow, first=3)
    bench.run(flow.replace("poeflow: 1\n", "poeflow: 1\nlimits: {max_requests: 9}\n"))
    (told,) = announced(bench)
    assert told.is_sample
    assert 290 <= told.requests <= 310


def test_a_small_run_is_not_announced(bench):
    bench.run(loop("'{{ range(99) | list }}'"))
    assert announced(bench) == []
    bench.run(loop("'{{ range(100) | list }}'", "other"), first=9)
    assert announced(bench) == []


def sent_for(bench, flow: str, **options) -> tuple[int, int, int]:
    """Return the bounds that a plan gives, and how many requests the run then sends."""
    statuses = bench.statuses(HEAD + flow, **options)
    kinds = [kind for status in statuses for kind in status.kinds]
    before = len(bench.simulator.requests)
    assert bench.run(HEAD + flow, **options).exit_code == 0
    sent = len(bench.simulator.requests) - before
    return sum(kind.least for kind in kinds), sent, sum(kind.most for kind in kinds)


GOOD = "expect: [{judge: {rubric: good, model: Grok-4}, level: score}]"
BUGS = """\
- {match: {model: Grok-4}, answer: {json: {reason: good, score: 1}}}
- {answer: {text: bug}}
"""


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("a: {prompt: x, samples: 3, %s}", (4, 4, 9)),
        ("a: {for_each: [1, 2, 3], prompt: x, %s}", (2, 2, 7)),
        ("a: {for_each: [1, 2, 3], prompt: 'x {{ item }}', %s}", (6, 6, 9)),
        ("a: {for_each: [1, 2, 3], system: 's {{ item }}', prompt: x, %s}", (4, 4, 9)),
        ("a: {for_each: [1, 2], render: same, %s}", (1, 1, 4)),
        ("a: {for_each: [1, 2], render: 'x {{ item }}', %s}", (2, 2, 4)),
        ("a: {prompt: x}\n  b: {prompt: x}\n  c: {use: part.yaml}", (1, 1, 1)),
        ("a: {prompt: x, %s}\n  b: {prompt: x, system: s, %s}", (3, 3, 6)),
        ("a: {prompt: x, system: s, %s}\n  c: {use: judged.yaml}", (3, 3, 6)),
    ],
)
def test_what_is_certain_counts_equal_requests_once(bench, scripted, steps, expected):
    scripted(BUGS)
    bench.write("part.yaml", HEAD + "steps: {p: {prompt: x}}\n")
    bench.write("judged.yaml", HEAD + f"steps: {{p: {{prompt: x, {GOOD}}}}}\n")
    assert sent_for(bench, f"steps:\n  {steps.replace('%s', GOOD)}\n") == expected


def test_a_new_answer_that_may_equal_the_last_one_may_not_be_judged_again(bench, scripted):
    scripted(BUGS)
    flow = "steps:\n  a: {prompt: x, params: {temperature: %s}, " + GOOD + "}\n"
    assert sent_for(bench, flow % "0.1") == (2, 2, 3)
    assert sent_for(bench, flow % "0.2") == (1, 1, 3)
    samples = flow.replace("prompt: x", "prompt: x, samples: 3")
    assert sent_for(bench, samples % "0.2") == (2, 2, 6)


def test_of_a_text_only_one_judge_is_certain_if_another_may_have_judged_it(bench, scripted):
    scripted(BUGS)
    one = "{judge: {rubric: %s, model: Grok-4}, level: score}"
    flow = f"steps:\n  a: {{render: x, expect: [{one % 'good'}, {one % 'RUBRIC'}]}}\n"
    assert sent_for(bench, flow.replace("RUBRIC", "short")) == (2, 2, 4)
    assert sent_for(bench, flow.replace("RUBRIC", "dry")) == (1, 1, 4)


def test_a_plan_says_that_a_command_whose_output_is_not_known_may_be_judged(bench, scripted):
    scripted(BUGS)
    command = json.dumps([sys.executable, "-c", "print('%s')"])
    flow = f"steps:\n  a: {{command: {command}, reads: [], {GOOD}}}\n"
    assert sent_for(bench, flow % "x", allow_tools=True) == (1, 1, 2)
    found = bench.statuses(HEAD + flow % "x ")
    assert "stale: 0 to 2 calls" in plan_summary(found, lambda _: None)
