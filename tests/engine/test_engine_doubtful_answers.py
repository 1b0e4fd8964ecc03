"""Answers that are not whole, not meant, or oddly spelled: what a run makes of them."""

import asyncio

import pytest
import uvloop
from wire_server import WireServer, called, said

from poeflow.events import Warned
from poeflow.operations.check import checkup
from poeflow.operations.run import run_checked
from poeflow.operations.run_options import RunOptions
from poeflow.project.project import Project

FLOW = """\
poeflow: 1
steps:
  a: {model: m, prompt: Go., output: {save: a.md%s}, retry: {attempts: 2}}
"""
TOOL = """\
poeflow: 1
steps:
  a:
    model: m
    prompt: Weather?
    output: {accept: [%s]}
    tools:
      - name: warm
        parameters: {type: object, required: [city], properties: {city: {type: string}}}
        run: warm_tool:warm
"""


@pytest.fixture
def wire(bench):
    """A server of scripted answers, which the bench's runs ask."""
    with WireServer() as server:
        bench.simulator = server
        yield server


def failure(bench, flow: str = FLOW % "", **options) -> str:
    """Run a flow whose step fails, and return why."""
    outcome = bench.run(flow, **options)
    assert outcome.exit_code == 1
    return str(outcome.failures["a"])


@pytest.mark.parametrize("finish", ["MAX_TOKENS", "max_tokens", "model_length", "length"])
def test_a_cut_answer_fails_by_any_name_and_is_not_taken_for_whole(bench, wire, finish):
    wire.answers["m"] = [said("The first half of", finish)]
    told = "the answer was cut at the token limit; raise max_tokens, or accept: [length]"
    assert [failure(bench), failure(bench)] == [told, told]
    assert len(wire.requests) == 2
    assert not (bench.folder / "a.md").exists()
    for accepted in ("length", finish):
        outcome = bench.run(FLOW % f", accept: [{accepted}]")
        assert outcome.results["a"].text == "The first half of"
    assert len(wire.requests) == 2


@pytest.mark.parametrize("finish", ["SAFETY", "RECITATION", "content_filter"])
def test_a_stopped_answer_fails_by_any_name(bench, wire, finish):
    wire.answers["m"] = [said("Half", finish)]
    assert failure(bench) == "the answer was stopped by a content filter; change the prompt"


def test_an_end_nobody_knows_fails_with_its_name_and_can_be_accepted(bench, wire):
    wire.answers["m"] = [said("Half", "PAUSE_turn")]
    assert failure(bench) == (
        'the answer ended with "PAUSE_turn", which is not known to be a good end; '
        "ask again, or accept: [PAUSE_turn]"
    )
    outcome = bench.run(FLOW % ", accept: [pause_turn]")
    assert (outcome.exit_code, outcome.results["a"].source) == (0, "cached")
    assert (bench.folder / "a.md").read_text() == "Half\n"


def test_an_end_cannot_steer_the_terminal(bench, wire):
    wire.answers["m"] = [said("Half", "\x1b[31m" + "x" * 5000)]
    assert failure(bench).startswith('the answer ended with "\\x1b[31mxxx')
    assert len(failure(bench)) < 800


@pytest.mark.parametrize("finish", ["length", None])
def test_what_is_accepted_is_that_flag_and_not_another(bench, wire, finish):
    wire.answers["m"] = [said(" ", finish)]
    flow = FLOW % ", accept: [length, no_finish]"
    assert failure(bench, flow) == "the answer is empty; ask again, or accept: [empty]"


def test_a_refusal_is_told_in_its_words(bench, wire):
    wire.answers["m"] = [said("", "stop", refusal="I cannot help\nwith that.")]
    told = "the model refused: I cannot help with that.; change the prompt"
    assert failure(bench) == told
    assert failure(bench, FLOW % ", accept: [empty]") == told
    outcome = bench.run(FLOW % ", accept: [empty, refusal]")
    assert (outcome.exit_code, outcome.results["a"].text) == (0, "")


def test_calls_of_a_step_without_tools_are_no_answer_and_the_file_stays(bench, wire):
    wire.answers["m"] = [said("Good."), called("warm", "{}", id="A")]
    assert bench.run(FLOW % "").exit_code == 0
    flow = (FLOW % "").replace("Go.", "Go on.")
    told = "the model called tools, and the step has none"
    assert failure(bench, flow).startswith(told)
    assert failure(bench, flow.replace("a.md", "a.md, accept: [empty]")).startswith(told)
    assert (bench.folder / "a.md").read_text() == "Good.\n"
    assert bench.locked() != []


def test_calls_beside_a_text_leave_the_text(bench, wire):
    wire.answers["m"] = [said("Good.", "tool_calls", tool_calls=[{"function": {"name": "f"}}])]
    assert bench.run(FLOW % "").results["a"].text == "Good."


@pytest.fixture
def warm(bench):
    bench.write("warm_tool.py", "def warm(city):\n    return city + ' is warm'\n")


@pytest.mark.parametrize("finish", ["length", "MAX_TOKENS"])
@pytest.mark.parametrize("accepted", ["", "length"])
def test_a_turn_cut_within_its_calls_is_not_answered(bench, wire, warm, finish, accepted):
    wire.answers["m"] = [called("warm", '{"city":"Os', finish, id="A")]
    told = failure(bench, TOOL % accepted, allow_tools=True)
    assert told.startswith("the answer is empty" if accepted else "the answer was cut")
    assert len(wire.requests) == 1


def test_parallel_calls_of_one_index_are_all_answered(bench, wire, warm):
    calls = [
        {"choices": called("warm", f'{{"city":"{city}"}}', id=name)[0]["choices"]}
        for name, city in (("A", "Oslo"), ("B", "Rome"))
    ]
    wire.answers["m"] = [[*calls, *said("", "tool_calls")], said("done")]
    assert bench.run(TOOL % "", allow_tools=True).results["a"].text == "done"
    assert wire.requests[1]["messages"][2:] == [
        {"role": "tool", "tool_call_id": name, "content": f"{city} is warm"}
        for name, city in (("A", "Oslo"), ("B", "Rome"))
    ]


def test_arguments_that_came_as_an_object_are_said_again_as_text(bench, wire, warm):
    call = {"index": 0, "id": "A", "function": {"name": "warm", "arguments": {"city": "Oslo"}}}
    wire.answers["m"] = [said("", "tool_calls", tool_calls=[call]), said("done")]
    assert bench.run(TOOL % "", allow_tools=True).results["a"].text == "done"
    repeated, result = wire.requests[1]["messages"][1:]
    assert repeated["tool_calls"][0]["function"] == {"name": "warm", "arguments": '{"city":"Oslo"}'}
    assert result["content"] == "Oslo is warm"


def test_broken_characters_are_told_when_they_come(bench, wire):
    wire.answers["m"] = [[b'{"choices":[{"delta":{"content":"a\xffb"}}]}', *said("")]]
    assert bench.run(FLOW % "").results["a"].text == "a\ufffdb"
    told = [one.message for one in bench.events if isinstance(one, Warned)]
    assert told == ["the answer holds characters that arrived broken (U+FFFD)"]
    assert bench.run(FLOW % "").exit_code == 0
    assert not [one for one in bench.events if isinstance(one, Warned)]


def test_an_emoji_cut_in_two_is_whole_in_files_and_in_the_cache(bench, wire):
    halves = [
        b'{"choices":[{"delta":{"content":"hi \\ud83d"}}]}',
        b'{"choices":[{"delta":{"content":"\\ude00 there"}}]}',
    ]
    wire.answers["m"] = [[*halves, *said("")]]
    flow = FLOW % "" + "  b: {render: '[{{ steps.a.text }}]', output: {save: b.md}}\n"
    assert bench.run(flow).exit_code == 0
    assert (bench.folder / "a.md").read_text() == "hi 😀 there\n"
    assert (bench.folder / "b.md").read_text() == "[hi 😀 there]\n"
    (bench.folder / "a.md").unlink()
    assert bench.run(flow).results["a"].text == "hi 😀 there"
    assert len(wire.requests) == 1


@pytest.mark.parametrize("count", [1100.0, "1100"])
def test_tokens_count_however_they_are_written(bench, wire, count):
    usage = {"prompt_tokens": 0, "completion_tokens": count}
    wire.answers["m"] = [[*said("ok"), {"choices": [], "usage": usage}]]
    flow = "poeflow: 1\nlimits: {max_tokens: 1000, concurrency: 1}\nsteps:\n"
    flow += "  a: {for_each: [x, y], model: m, prompt: '{{ item }}'}\n"
    outcome = bench.run(flow)
    assert outcome.exit_code == 9
    assert len(wire.requests) == 1
    assert [one.completion_tokens for one in outcome.results.values()] == [1100]


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Invalid model name passed in model=m", "type": "None", "code": "400"},
        {"message": "litellm.ContextWindowExceededError: too long", "code": "400"},
        {"message": "no", "code": "context_length_exceeded"},
    ],
)
def test_a_bad_request_for_the_model_alone_goes_to_another(bench, wire, error):
    wire.answers |= {"m": [(400, {"error": error})], "n": [said("from n")]}
    flow = (FLOW % "").replace("retry:", "fallback: [n], retry:")
    assert bench.run(flow).results["a"].answered_by == "n"
    assert [request["model"] for request in wire.requests] == ["m", "n"]


def test_any_other_bad_request_does_not_go_to_another(bench, wire):
    wire.answers |= {"m": [(400, {"detail": "bad temperature"})], "n": [said("from n")]}
    flow = (FLOW % "").replace("retry:", "fallback: [n], retry:")
    assert failure(bench, flow) == "bad temperature (400)"
    assert len(wire.requests) == 1


def test_what_the_second_model_refuses_is_not_tried_at_a_third(bench, wire):
    moderated = (403, {"error": {"message": "no", "type": "moderation_error"}})
    wire.answers |= {"m": [(404, {})], "n": [moderated], "o": [said("from o")]}
    flow = (FLOW % "").replace("retry:", "fallback: [n, o], retry:")
    assert failure(bench, flow).startswith("no (403)")
    assert [request["model"] for request in wire.requests] == ["m", "n"]


def test_an_account_without_credit_is_asked_once(bench, wire):
    wire.answers["m"] = [(429, {"error": {"message": "no", "code": "insufficient_quota"}})]
    assert bench.run(FLOW % "").exit_code == 5
    assert len(wire.requests) == 1


def test_a_refused_key_is_named_with_its_provider(bench, wire, tmp_path_factory):
    wire.answers["m"] = [(401, {"detail": "who are you?"})]
    config = tmp_path_factory.mktemp("user") / "config.toml"
    config.write_text(
        f'[providers.llmock]\nbase_url = "{wire.base_url}"\nkey_variable = "LITE_KEY"\n'
    )
    outcome = bench.run(
        (FLOW % "").replace("model: m,", "model: m, provider: llmock,"),
        environ={"LITE_KEY": "lite-key-12345", "POEFLOW_CONFIG": str(config)},
    )
    assert str(outcome.failures["a"]) == (
        "who are you? (401); check LITE_KEY, the key of provider llmock"
    )
    assert outcome.exit_code == 5


def test_a_run_works_on_uvloop(bench, wire):
    wire.answers["m"] = [said("Hi")]
    bench.write("a.yaml", FLOW % "")
    environ = {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": wire.base_url}
    options = RunOptions(environ=environ, folder=bench.folder, listen=bench.events.append)
    found = checkup(Project(bench.folder), "//a.yaml", "a.yaml")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run_checked(found, options)).results["a"].text == "Hi"
