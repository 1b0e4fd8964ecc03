"""Steps whose model may call functions: with the user's word, in bounded rounds, or not at all."""

import asyncio
import json

import pytest

from poeflow.engine.asking.tools import RefusedToolbox
from poeflow.errors import UsageError
from poeflow.events import ToolCalled

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  ask:
    prompt: weather in Oslo
    tools:
      - name: get_weather
        description: The weather.
        parameters: {type: object, required: [city], properties: {city: {type: string}}}
        run: weather_tool:get
"""
TOOL = """\
import pathlib
pathlib.Path(__file__).with_name("imported").touch()
def get(city):
    return {"city": city, "sky": "rain"}
"""
RULES = """\
- {match: {text: weather, last: tool}, answer: {text: It rains.}}
- match: {text: weather}
  answer: {tool_calls: [{name: get_weather, arguments: {city: Oslo}}]}
"""


@pytest.fixture
def tool(bench, tmp_path):
    bench.write("weather_tool.py", TOOL)
    return tmp_path / "imported"


def test_a_function_runs_only_with_the_users_word(bench, scripted, tool):
    scripted(RULES)
    with pytest.raises(UsageError) as caught:
        bench.run(FLOW)
    assert str(caught.value) == (
        "//a.yaml: step ask runs Python functions of this project: weather_tool:get; "
        "look at them and add --allow-tools, or write tools_mode: return"
    )
    assert not tool.exists()
    assert not bench.simulator.requests


def test_its_result_goes_back_and_the_answer_counts(bench, scripted, tool):
    scripted(RULES)
    outcome = bench.run(FLOW, allow_tools=True)
    assert tool.exists()
    assert outcome.results["ask"].text == "It rains."
    first, second = (request.json for request in bench.simulator.requests)
    assert first["tools"][0]["function"]["name"] == "get_weather"
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "tool"]
    assert json.loads(second["messages"][2]["content"]) == {"city": "Oslo", "sky": "rain"}
    assert [(e.tool, e.is_error) for e in bench.events if isinstance(e, ToolCalled)] == [
        ("get_weather", False)
    ]
    bench.run(FLOW, allow_tools=True)
    assert len(bench.simulator.requests) == 2, "every round is in the cache"


def test_a_plan_knows_that_a_missing_file_is_made_from_the_stored_answer(bench, scripted, tool):
    scripted(RULES)
    flow = FLOW + "    output: {save: out/a.md}\n"
    bench.run(flow, allow_tools=True)
    (bench.folder / "out/a.md").unlink()
    [found] = bench.statuses(flow)
    assert (found.state, found.reasons) == ("missing", ("out/a.md is missing",))
    assert (found.calls, found.most_calls) == (0, 0)
    assert len(bench.simulator.requests) == 2


def test_a_plan_runs_no_tool_if_only_the_first_answer_is_stored(bench, scripted, tool):
    rules = RULES.replace("{text: It rains.}", "{error: {status: 400, message: no}}")
    scripted(rules)
    bench.run(FLOW, allow_tools=True)
    [found] = bench.statuses(FLOW)
    assert (found.state, found.calls) == ("new", 1)


def test_returned_calls_are_the_result_and_nothing_is_imported(bench, scripted, tool):
    scripted(RULES)
    outcome = bench.run(
        FLOW
        + "    tools_mode: return\n"
        + "  tell: {render: '{{ steps.ask.tool_calls[0].function.name }}'}\n"
    )
    assert outcome.outputs == {"tell": "get_weather"}
    assert not tool.exists()


def test_a_demanded_call_is_demanded_once(bench, scripted, tool):
    scripted(RULES)
    bench.run(FLOW + "    tool_choice: get_weather\n", allow_tools=True)
    choices = [request.json["tool_choice"] for request in bench.simulator.requests]
    assert choices == [{"type": "function", "function": {"name": "get_weather"}}, "auto"]


def test_rounds_are_bounded(bench, scripted, tool):
    scripted(
        """\
        - match: {last: tool}
          answer: {tool_calls: [{name: get_weather, arguments: {city: Oslo}}]}
        - match: {text: weather}
          answer: {tool_calls: [{name: get_weather, arguments: {city: Oslo}}]}
        """
    )
    outcome = bench.run(FLOW, allow_tools=True)
    assert str(outcome.failures["ask"]).startswith("the model called tools 10 times")
    assert len(bench.simulator.requests) == 11


def test_only_steps_that_run_need_the_users_word(bench, scripted, tool):
    scripted(RULES)
    flow = FLOW + "  other: {prompt: hello}\n"
    assert list(bench.run(flow, until=True, steps=("other",)).results) == ["other"]
    bench.run(flow, allow_tools=True)
    assert bench.run(flow).exit_code == 0
    with pytest.raises(UsageError, match="step ask runs Python functions"):
        bench.run(flow, refresh=True, steps=("ask",))
    assert bench.run(flow, refresh=True, steps=("other",)).exit_code == 0
    with pytest.raises(UsageError, match="step ask runs Python functions"):
        bench.run(flow.replace("weather in Oslo", "the weather in Oslo"))


def test_a_step_that_is_always_asked_runs_no_tool_without_the_users_word(bench, scripted, tool):
    scripted(RULES)
    flow = FLOW.replace("prompt: weather", "cache: false\n    prompt: weather")
    bench.run(flow, allow_tools=True)
    tool.unlink()
    with pytest.raises(UsageError, match="step ask runs Python functions"):
        bench.run(flow)
    assert not tool.exists()


def test_tools_that_are_refused_answer_no_call():
    error = UsageError("not allowed")
    with pytest.raises(UsageError, match="not allowed"):
        asyncio.run(RefusedToolbox(error).answer(()))
