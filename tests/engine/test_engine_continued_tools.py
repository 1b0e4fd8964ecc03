"""Conversations with results of tools that another step continues."""

import json
import re

import pytest

from poeflow.store.lockfile import LockFile

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  a:
    prompt: look
    tools:
      - {name: look, parameters: {type: object, properties: {}}, run: data_tool:look}
  b: {history: a, prompt: and now, output: {save: out/b.txt}}
"""
TOOL = """\
import pathlib
def look():
    return pathlib.Path(__file__).with_name("data.txt").read_text()
"""
RULES = """\
- {match: {text: and now}, answer: {text: now}}
- {match: {text: look, last: tool}, answer: {text: done}}
- {match: {text: look}, answer: {tool_calls: [{name: look, arguments: {}}]}}
"""


@pytest.fixture
def looking(bench, scripted):
    """A project whose step a looks at data.txt and always ends with the same word."""
    bench.write("data_tool.py", TOOL)
    bench.write("data.txt", "v1")
    scripted(RULES)
    return bench


def sent(bench) -> list[tuple[str, ...]]:
    """Return the texts of the messages of every request."""
    requests = [request.json["messages"] for request in bench.simulator.requests]
    return [tuple(one.get("content") or "" for one in messages) for messages in requests]


def said(bench) -> list[tuple[str, ...]]:
    return [tuple(json.loads(t) if t.startswith('"') else t for t in one) for one in sent(bench)]


def test_another_result_of_a_tool_reaches_the_step_that_goes_on(looking):
    looking.run(FLOW, allow_tools=True)
    looking.write("data.txt", "v2")
    looking.run(FLOW, allow_tools=True, refresh=True, only=True, steps=("a",))
    assert looking.states(FLOW)["b"] == ("stale", ("steps.a.conversation changed",))
    assert looking.locked() != []
    looking.run(FLOW, allow_tools=True)
    assert said(looking)[-1] == ("look", "", "v2", "done", "and now")
    assert looking.locked() == []
    looking.forget_answers()
    assert looking.locked() == []


def test_its_tools_run_once_and_nothing_is_paid_for_again(looking):
    looking.run(FLOW, allow_tools=True)
    asked = len(sent(looking))
    looking.write("data.txt", "v3")
    for _ in range(2):
        assert set(looking.states(FLOW).values()) == {("fresh", ())}
        assert looking.run(FLOW, allow_tools=True).exit_code == 0
        assert looking.locked() == []
    assert len(sent(looking)) == asked
    changed = FLOW.replace("and now", "and now please")
    looking.run(changed, allow_tools=True)
    assert said(looking)[asked:] == [("look", "", "v1", "done", "and now please")]


def test_what_an_item_takes_from_the_last_one_has_the_results_of_tools(looking):
    begin = FLOW.partition("  b:")[0]
    flow = begin.replace(
        "prompt: look", 'for_each: [x, y]\n    history: self\n    prompt: "look {{ item }}"'
    )
    looking.run(flow, allow_tools=True)
    looking.write("data.txt", "v2")
    looking.run(flow, allow_tools=True, refresh=True, only=True, steps=("a[x]",))
    assert looking.states(flow)["a[y]"][0] == "stale"
    looking.run(flow, allow_tools=True)
    assert said(looking)[-1][:4] == ("look x", "", "v2", "done")
    assert set(looking.states(flow).values()) == {("fresh", ())}
    asked = len(sent(looking))
    looking.write("data.txt", "v3")
    looking.run(flow, allow_tools=True)
    assert len(sent(looking)) == asked


def test_a_plain_conversation_is_its_request_and_its_answer_in_the_lock(bench):
    begin = FLOW.partition("    tools:")[0]
    bench.run(begin + "  b: {history: a, prompt: more}\n")
    assert conversations(bench) == {None}


def test_an_older_lock_of_the_same_answers_stays_as_it_is(looking):
    looking.run(FLOW, allow_tools=True)
    assert len(conversations(looking)) == 2
    path, asked = looking.folder / "a.lock.json", len(sent(looking))
    path.write_text(re.sub(',"conversation":"[^"]+"', "", path.read_text()))
    looking.run(FLOW, allow_tools=True)
    assert conversations(looking) == {None}
    assert len(sent(looking)) == asked
    looking.forget_answers()
    assert looking.locked() == []


def conversations(bench) -> set[str | None]:
    lock = LockFile(bench.folder / "a.lock.json", shown="a.lock.json").read()
    return {one.conversation for one in lock.instances.values()}


def test_a_loop_that_goes_on_with_conversations_of_a_loop_has_a_lock_that_can_be_read(looking):
    flow = FLOW.replace("    prompt: look", "    for_each: [x, y]\n    prompt: look")
    flow = flow.replace("b: {history: a, ", "b: {for_each: steps.a, history: a, ")
    flow = flow.replace("out/b.txt", '"out/{{ key }}.txt"')
    looking.run(flow, allow_tools=True)
    assert {state for state, _ in looking.states(flow).values()} == {"fresh"}
    assert looking.locked() == []
    looking.forget_answers()
    assert looking.locked() == []
    looking.write("data.txt", "v2")
    looking.run(flow, allow_tools=True, refresh=True, only=True, steps=("a",))
    assert looking.states(flow)["b[x]"] == ("stale", ("steps.a.conversation changed",))
