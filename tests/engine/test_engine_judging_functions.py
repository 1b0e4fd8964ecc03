"""What functions of the project, and the time an answer took, say of it."""

import pytest
from stored_answers import change_answers
from wire_server import WireServer

from poeflow.errors import UsageError
from poeflow.events import Expected

CHECKS = """\
def short(text):
    with open("runs", "a") as runs:
        runs.write("x")
    return len(text) < 20

def rated(*, value, data, **rest):
    return {"score": 0.25, "reason": f"{value} {data} {sorted(rest)}"}
"""
FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  say:
    prompt: hi
    output: {save: out.txt}
    expect: [{call: "checks:short"}]
"""
ALLOWED = {"allow_tools": True}


@pytest.fixture
def checked(bench, scripted):
    """A bot that says hello, and a module that judges it; return how often that was called."""
    scripted("- {match: {text: hi}, answer: {text: hello}}\n- {answer: {text: other}}\n")
    bench.write("checks.py", CHECKS)
    runs = bench.folder / "runs"
    return lambda: len(runs.read_text()) if runs.exists() else 0


def verdicts(bench) -> list[tuple[str, str, str]]:
    return [(e.kind, e.level, e.message) for e in bench.events if isinstance(e, Expected)]


@pytest.fixture(autouse=True)
def beside_the_runs(bench, monkeypatch):
    monkeypatch.chdir(bench.folder)


def test_a_function_judges_an_answer_once(bench, checked):
    assert bench.run(FLOW, **ALLOWED).exit_code == 0
    assert checked() == 1
    assert bench.run(FLOW, **ALLOWED).exit_code == 0
    assert bench.run(FLOW).exit_code == 0, "what is current needs no permission"
    assert (checked(), bench.prompts()) == (1, ["hi"])


def test_an_answer_without_a_cache_is_asked_for_and_judged_in_each_run(bench, checked):
    flow = FLOW.replace("prompt: hi", "prompt: hi\n    cache: false")
    bench.run(flow, **ALLOWED)
    (status,) = bench.statuses(flow)
    assert (status.state, status.calls) == ("fresh", 1)
    assert bench.run(flow, **ALLOWED).exit_code == 0
    assert (checked(), bench.prompts()) == (2, ["hi", "hi"])
    assert bench.locked() == []


def test_a_plan_asks_for_no_answer_whose_functions_must_run_alone(bench, checked):
    """A survey runs no function, so it does not know what those that read their verdict ask."""
    flow = FLOW + "  read: {prompt: '{{ steps.say.score }} is it'}\n"
    bench.run(flow, **ALLOWED)
    asked, changed = len(bench.prompts()), flow.replace("is it", "it is")
    say, read = bench.statuses(changed)
    reason = "read needs what its functions say of it: they must run"
    assert (say.state, say.reasons, say.calls, say.most_calls) == ("needed", (reason,), 0, 0)
    assert read.state == "unknown"
    assert bench.run(changed, **ALLOWED).exit_code == 0
    assert bench.prompts()[asked:] == ["1.0 it is"]


def test_an_answer_that_it_refuses_fails_the_step(bench, checked):
    flow = FLOW.replace("checks:short", "checks:rated")
    outcome = bench.run(flow, **ALLOWED)
    message = "expected that checks:rated holds, found a score of 0.25: None None ['text']"
    assert str(outcome.failures["say"]).startswith(message)
    assert not (bench.folder / "out.txt").exists()
    assert bench.run(flow.replace('rated"', 'rated", level: warn'), **ALLOWED).exit_code == 0
    assert verdicts(bench) == [("call", "warn", message)]
    assert bench.prompts() == ["hi"]


def test_nothing_is_called_without_permission(bench, checked):
    with pytest.raises(UsageError, match=r"step say runs Python functions .*checks:short"):
        bench.run(FLOW)
    assert bench.states(FLOW)["say"][0] == "new"
    assert (checked(), bench.prompts()) == (0, [])


def test_a_survey_calls_nothing(bench, checked):
    bench.run(FLOW, **ALLOWED)
    assert bench.states(FLOW) == {"say": ("fresh", ())}
    assert bench.locked() == []
    bench.write("checks.py", CHECKS.replace("< 20", "< 3"))
    assert bench.states(FLOW) == {"say": ("stale", ("reads //checks.py changed",))}
    assert bench.locked() == ["say: stale: reads //checks.py changed"]
    assert {(s.calls, s.model) for s in bench.statuses(FLOW)} == {(0, None)}
    assert checked() == 1


def test_a_change_of_the_module_judges_the_stored_answer_again(bench, checked):
    bench.run(FLOW, **ALLOWED)
    bench.write("checks.py", CHECKS.replace("< 20", "< 3"))
    outcome = bench.run(FLOW, **ALLOWED)
    assert str(outcome.failures["say"]).startswith("expected that checks:short holds, found that")
    assert (checked(), bench.prompts()) == (2, ["hi"])


def test_a_missing_file_is_written_again_from_the_stored_answer(bench, checked):
    bench.run(FLOW, **ALLOWED)
    (bench.folder / "out.txt").unlink()
    assert bench.states(FLOW) == {"say": ("missing", ("out.txt is missing",))}
    bench.run(FLOW, **ALLOWED)
    assert (bench.folder / "out.txt").read_text() == "hello\n"
    assert bench.prompts() == ["hi"]


def test_a_clone_without_answers_calls_nothing(bench, checked):
    bench.run(FLOW, **ALLOWED)
    bench.forget_answers()
    assert bench.locked() == []
    assert bench.run(FLOW, **ALLOWED).exit_code == 0
    assert (checked(), bench.prompts()) == (1, ["hi"])


def test_it_judges_rendered_texts_outputs_and_items_that_come_from_a_step(bench, checked):
    flow = """\
poeflow: 1
steps:
  words: {render: '["a", "b"]', output: {format: json}, expect: [{call: "checks:short"}]}
  each:
    for_each: steps.words.data
    render: "{{ item }}"
    expect: [{call: "checks:short"}]
  out: {call: "checks:short", with: {text: "x"}, reads: [], expect: [{call: "checks:short"}]}
  sum: {render: "{{ steps.each.all | pass_rate }}"}
"""
    assert bench.run(flow, **ALLOWED).outputs == {"out": "true", "sum": "1.0"}
    assert checked() == 5
    assert set(bench.states(flow).values()) == {("fresh", ())}
    assert bench.locked() == []
    bench.run(flow, **ALLOWED)
    assert checked() == 5


def test_a_repair_is_asked_for_and_no_model_judges_what_a_function_refuses(bench, scripted):
    scripted("- {match: {text: again}, answer: {text: ok}}\n- {answer: {text: far too long}}\n")
    bench.write("checks.py", "def short(text): return len(text) < 5\n")
    flow = FLOW.replace("{save: out.txt}", "{repair: 1}").replace(
        '"checks:short"}', '"checks:short"}, {judge: {rubric: x}, level: warn}'
    )
    outcome = bench.run(flow.replace("repair: 1", "repair: 0"), **ALLOWED)
    assert (outcome.exit_code, len(bench.prompts())) == (1, 1)
    bench.run(flow, **ALLOWED)
    assert "expected that checks:short holds" in bench.prompts()[1]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("return 'good'", "checks:short gave no verdict: it returned good"),
        ("return 2", "checks:short gave no verdict: Expected"),
        ("return {'reason': 'x'}", "checks:short gave no verdict: neither passed nor score"),
        ("return {'good': True}", "checks:short gave no verdict: Object contains unknown field"),
        ("raise ValueError('no')", "checks:short failed: ValueError: no"),
    ],
)
def test_what_is_no_verdict_fails_the_step(bench, checked, code, message):
    bench.write("checks.py", f"def short(text): {code}\n")
    assert str(bench.run(FLOW, **ALLOWED).failures["say"]).startswith(message)


def test_other_steps_see_what_it_says(bench, checked):
    flow = FLOW.replace('"checks:short"}', '"checks:rated", level: score}') + (
        "  next: {render: '{{ steps.say.score }} {{ steps.say.verdicts[0].reason }}'}\n"
    )
    said = "0.25 None None ['text']"
    assert bench.run(flow, **ALLOWED).outputs == {"next": said}
    assert set(bench.states(flow).values()) == {("fresh", ())}
    assert bench.run(flow.replace("next:", "last:"), **ALLOWED).outputs == {"last": said}


SLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps: {say: {prompt: hi, expect: [{max_seconds: 60}]}}
"""


def test_an_answer_may_take_so_long(bench, scripted):
    scripted("- {answer: {text: hello}}\n", latency=0.05)
    assert bench.run(SLOW).exit_code == 0
    outcome = bench.run(SLOW.replace("60", "0.04"))
    assert str(outcome.failures["say"]).startswith("expected an answer within 0.04 s, found 0.")
    assert bench.run(SLOW).exit_code == 0
    assert bench.prompts() == ["hi"], "a stored answer is judged by the time that it took"


def test_an_answer_stored_without_its_time_is_not_judged(bench):
    bench.run(SLOW)
    assert change_answers(bench.folder, lambda answer: answer.pop("poeflow_seconds")) == 1
    assert bench.run(SLOW.replace("60", "0.001")).exit_code == 0
    message = "no time stored with it, so that this is not judged; --refresh asks again"
    assert verdicts(bench) == [
        ("max_seconds", "warn", f"expected an answer within 0.001 s, found {message}")
    ]
    assert len(bench.prompts()) == 1


def test_a_server_does_not_say_how_long_it_took(bench):
    body = {"choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}]}
    with WireServer() as server:
        server.answers["GPT-5.2"] = [(200, {**body, "poeflow_seconds": 999})]
        environ = {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": server.base_url}
        outcome = bench.run(SLOW.replace("hi", "hi, stream: false"), environ=environ)
    assert (outcome.exit_code, outcome.outputs) == (0, {"say": "hello"})
