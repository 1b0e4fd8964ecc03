"""Steps and rows whose requests are equal: each is sent once, and its answer is that of all."""

import pytest

from poeflow.events import StepFailed

READER = '  c: {model: GPT-5.2, prompt: "CAP {{ steps.a.text }} {{ steps.b.text }}"}\n'
TWINS = """\
poeflow: 1
steps:
  a: {model: GPT-5.2, prompt: hello}
  b: {model: GPT-5.2, prompt: hello, needs: [a]}
"""
ROWS = """\
poeflow: 1
limits: {concurrency: 1}
steps:
  a: {model: GPT-5.2, for_each: [1, 2], prompt: hello, output: {save: "{{ key }}.txt"}}
"""
ANSWERS = """\
- {match: {text: CAP}, answer: {text: done}}
- {match: {text: hello, nth: 1}, answer: {text: one}}
- {match: {text: hello, nth: 2}, answer: {text: two}}
- {match: {text: hello}, answer: {text: three}}
"""


def asked(bench) -> int:
    return sum(prompt == "hello" for prompt in bench.prompts())


def test_a_refresh_asks_once_for_all_that_ask_the_same(bench, scripted):
    scripted(ANSWERS)
    bench.run(TWINS + READER)
    outcome = bench.run(TWINS + READER, refresh=True)
    assert outcome.results["a"].text == outcome.results["b"].text == "two"
    changed = TWINS + READER.replace("CAP", "CAP now")
    for _ in range(3):
        assert bench.run(changed).exit_code == 0
    assert asked(bench) == 2
    assert bench.locked() == []


def test_rows_that_ask_the_same_stay_current_when_files_go(bench, scripted):
    scripted(ANSWERS)
    bench.run(ROWS)
    bench.run(ROWS, refresh=True)
    for number in (1, 2, 1):
        (bench.folder / f"{number}.txt").unlink()
        bench.run(ROWS)
        assert (bench.folder / f"{number}.txt").read_text().strip() == "two"
    assert asked(bench) == 2


def test_answers_that_older_runs_have_locked_come_together(bench, scripted):
    """The lock has another answer for each step, and the store has one of them."""
    scripted(ANSWERS)
    bench.run(TWINS.replace("hello, needs", "hello, cache: false, needs"))
    for number in range(3):
        flow = TWINS + READER.replace("CAP", f"CAP {number}")
        assert bench.run(flow).exit_code == 0
    assert asked(bench) == 2
    assert bench.prompts()[-1] == "CAP 2 two two"
    assert set(bench.states(flow).values()) == {("fresh", ())}


@pytest.mark.parametrize("first", ["a", "b"])
def test_a_failure_leaves_each_its_own_fallback(bench, scripted, first):
    """Both ask at the same time; the one that has a fallback model goes on with it."""
    scripted(
        "- {match: {model: GPT-5.2}, fault: '404', delay: 300ms}\n"
        "- {match: {model: Grok-4}, answer: {text: well}}\n"
    )
    steps = {
        "a": "  a: {model: GPT-5.2, prompt: hello}\n",
        "b": "  b: {model: GPT-5.2, prompt: hello, fallback: [Grok-4]}\n",
    }
    other = "b" if first == "a" else "a"
    outcome = bench.run("poeflow: 1\nsteps:\n" + steps[first] + steps[other], keep_going=True)
    assert outcome.results["b"].text == "well"
    failed = {event.step for event in bench.events if isinstance(event, StepFailed)}
    assert failed == {"a"}


@pytest.mark.parametrize("needs", ["", ", needs: [a]"])
def test_a_step_without_fallback_takes_no_answer_of_another_model(bench, scripted, needs):
    scripted(
        "- {match: {model: GPT-5.2}, fault: '404', delay: 300ms}\n"
        "- {match: {model: Grok-4}, answer: {text: well}}\n"
    )
    flow = (
        "poeflow: 1\nsteps:\n"
        "  a: {model: GPT-5.2, prompt: hello, fallback: [Grok-4]}\n"
        "  b: {model: GPT-5.2, prompt: hello%s}\n"
    )
    outcome = bench.run(flow % needs, keep_going=True)
    assert {name: result.text for name, result in outcome.results.items()} == {"a": "well"}
    assert bench.states(flow % needs)["b"][0] == "new"
    count = len(bench.prompts())
    assert bench.run(flow.replace("%s", ", fallback: [Grok-4]")).results["b"].text == "well"
    assert len(bench.prompts()) == count


@pytest.mark.parametrize("rules", ["", ", expect: [{contains: well}]", ", samples: 2"])
def test_an_answer_that_is_locked_stays_when_the_fallback_goes(bench, scripted, rules):
    scripted(
        "- {match: {text: CAP}, answer: {text: done}}\n"
        "- {match: {model: GPT-5.2}, fault: '404'}\n"
        "- {match: {model: Grok-4}, answer: {text: well}}\n"
    )
    flow = (
        "poeflow: 1\nsteps:\n"
        f"  a: {{model: GPT-5.2, prompt: hello, fallback: [Grok-4]{rules}}}\n"
        '  c: {model: GPT-5.2, prompt: "CAP {{ steps.a.text }}"}\n'
    )
    bench.run(flow)
    count = len(bench.prompts())
    changed = flow.replace(", fallback: [Grok-4]", "").replace("CAP", "CAP now")
    changed = changed.replace("contains: well", "contains: ell")
    assert bench.run(changed).exit_code == 0
    assert len(bench.prompts()) == count + 1


EQUAL = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  rows: {for_each: [1, 2, 3], prompt: hello, expect: [{judge: {rubric: Is it polite?}}]}
  twice: {prompt: hello, samples: 2}
  one: {prompt: hello}
  other: {prompt: hello, fallback: [Claude-Haiku-4.5]}
"""


def test_a_plan_counts_equal_requests_once(bench):
    planned = {one.id: (one.calls, one.most_calls) for one in bench.statuses(EQUAL)}
    assert planned == {
        "rows[1]": (2, 3),
        "rows[2]": (0, 2),
        "rows[3]": (0, 2),
        "twice": (1, 1),
        "one": (0, 0),
        "other": (0, 1),
    }
    bench.run(EQUAL)
    asked = len(bench.simulator.requests)
    assert sum(least for least, _ in planned.values()) <= asked
    assert asked <= sum(most for _, most in planned.values())


def test_a_plan_counts_equal_requests_without_a_cache_once(bench):
    flow = EQUAL.replace("prompt", "cache: false, prompt")
    bench.run(flow)
    asked = len(bench.prompts())
    planned = [one.calls for one in bench.statuses(flow)]
    bench.run(flow)
    assert sum(planned) <= len(bench.prompts()) - asked


@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_plan_is_right_of_turns_without_a_cache_one_after_the_other(bench, concurrency):
    flow = ROWS.replace(
        "prompt", "cache: false, repeat: {max: 2, until: repeat.number == 2}, prompt"
    )
    flow = flow.replace("concurrency: 1", f"concurrency: {concurrency}")
    for _ in range(2):
        asked, statuses = len(bench.prompts()), bench.statuses(flow)
        bench.run(flow)
        sent = len(bench.prompts()) - asked
        assert sum(s.calls for s in statuses) <= sent <= sum(s.most_calls for s in statuses)


def test_a_plan_counts_equal_requests_of_used_flows_once(bench):
    bench.write("child.yaml", TWINS)
    flow = "poeflow: 1\nsteps:\n  u: {for_each: [1, 2], use: child.yaml}\n"
    planned = [one.calls for one in bench.statuses(flow)]
    bench.run(flow)
    assert len(bench.prompts()) == sum(planned) == 1
