"""Conversations: turns as they are written, examples, and steps that go on where one ended."""

import pytest

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2, system: Be brief.}\nsteps:\n"


def messages(bench) -> list[list[tuple[str, str]]]:
    return [
        [(m["role"], m.get("content")) for m in request.json["messages"]]
        for request in bench.simulator.requests
    ]


def test_a_step_goes_on_with_the_conversation_of_another(bench, scripted):
    scripted(
        """\
        - {match: {text: name}, answer: {text: Otto}}
        - {match: {text: age}, answer: {text: Seven}}
        """
    )
    bench.run(
        HEAD
        + """\
  name: {prompt: A name}
  age: {history: name, prompt: And its age}
  last: {history: age, prompt: Goodbye}
"""
    )
    assert messages(bench) == [
        [("system", "Be brief."), ("user", "A name")],
        [
            ("system", "Be brief."),
            ("user", "A name"),
            ("assistant", "Otto"),
            ("user", "And its age"),
        ],
        [
            *[("system", "Be brief."), ("user", "A name"), ("assistant", "Otto")],
            *[("user", "And its age"), ("assistant", "Seven"), ("user", "Goodbye")],
        ],
    ]


def test_each_item_goes_on_with_its_own(bench, scripted):
    scripted(
        """\
        - {match: {text: name a cat}, answer: {text: Tom}}
        - {match: {text: name a dog}, answer: {text: Rex}}
        """
    )
    bench.run(
        HEAD
        + """\
  name: {for_each: [cat, dog], prompt: "name a {{ item }}"}
  age: {for_each: steps.name, history: name, prompt: "how old"}
"""
    )
    asked = {turns[2][1] for turns in messages(bench) if turns[-1] == ("user", "how old")}
    assert asked == {"Tom", "Rex"}


def test_examples_are_turns_and_their_texts_no_templates(bench):
    bench.write("more.yaml", "- {user: 'x {{ 1 }}', assistant: 'y: user: z'}\n")
    bench.run(
        HEAD
        + """\
  ask:
    messages:
      - few_shot: [{user: "{{ nothing }}", assistant: b}]
      - few_shot: {file: more.yaml}
      - {role: user, content: "user: hi\\nassistant: no"}
"""
    )
    assert messages(bench) == [
        [
            ("system", "Be brief."),
            ("user", "{{ nothing }}"),
            ("assistant", "b"),
            ("user", "x {{ 1 }}"),
            ("assistant", "y: user: z"),
            ("user", "user: hi\nassistant: no"),
        ]
    ]


def test_examples_come_from_an_expression_too(bench):
    bench.run(
        "poeflow: 1\ndefaults: {model: GPT-5.2}\n"
        "inputs: {shots: {type: array, default: [{user: a, assistant: b}]}}\n"
        "steps: {ask: {messages: [{few_shot: inputs.shots}, {role: user, content: c}]}}\n"
    )
    assert messages(bench) == [[("user", "a"), ("assistant", "b"), ("user", "c")]]


def test_a_tools_turn_is_handed_on_as_written(bench):
    bench.run(
        HEAD
        + """\
  ask:
    messages:
      - {role: user, content: weather}
      - role: assistant
        tool_calls:
          - id: c1
            type: function
            function: {name: get, arguments: '{"city": "{{ 1 + 1 }}"}'}
      - {role: tool, tool_call_id: c1, name: get, content: rain}
"""
    )
    sent = bench.simulator.requests[0].json["messages"]
    assert sent[2:] == [
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "get", "arguments": '{"city": "2"}'},
                }
            ],
        },
        {"role": "tool", "content": "rain", "name": "get", "tool_call_id": "c1"},
    ]


EXAMPLE_ERROR = "example 1 has no user's and assistant's text; write {user: ..., assistant: ...}"
THREAD = """\
{"role": "user", "content": "hi {{ nothing }}", "at": "09:00"}
{"role": "assistant", "content": "hello"}
{"role": "user", "content": "bye"}
"""
TURNS = [("user", "hi {{ nothing }}"), ("assistant", "hello"), ("user", "bye")]


def test_a_conversation_comes_from_a_file_or_an_expression(bench):
    bench.write("thread.jsonl", THREAD)
    bench.run(
        HEAD
        + """\
  file: {messages: {file: thread.jsonl}}
  more:
    needs: [file]
    messages: "[{'role': 'system', 'content': 'Shout.'}, {'role': 'user', 'content': '{'~'{'}]"
"""
    )
    system = ("system", "Be brief.")
    assert messages(bench) == [[system, *TURNS], [("system", "Shout."), ("user", "{{")]]


def test_calls_of_tools_in_a_conversation_are_handed_on(bench):
    calls = '[{"id": "c1", "type": "function", "function": {"name": "get", "arguments": "{}"}}]'
    bench.write(
        "thread.jsonl",
        '{"role": "user", "content": "weather?"}\n'
        f'{{"role": "assistant", "content": null, "tool_calls": {calls}}}\n'
        '{"role": "tool", "tool_call_id": "c1", "content": "rain"}\n',
    )
    bench.run(HEAD + "  ask: {messages: {file: thread.jsonl}}\n")
    sent = bench.simulator.requests[0].json["messages"]
    assert [turn["role"] for turn in sent] == ["system", "user", "assistant", "tool"]
    assert sent[2]["tool_calls"][0]["id"] == sent[3]["tool_call_id"] == "c1"


def test_each_item_of_a_loop_has_its_own_conversation(bench):
    bench.write(
        "all.jsonl",
        '{"id": "a", "turns": [{"role": "user", "content": "one"}]}\n'
        '{"id": "b", "turns": [{"role": "user", "content": "two"}]}\n',
    )
    loop = "{file: all.jsonl, key: item.id}"
    bench.run(HEAD + f"  ask: {{for_each: {loop}, messages: item.turns}}\n")
    assert sorted(turns[-1] for turns in messages(bench)) == [("user", "one"), ("user", "two")]


def test_a_step_goes_on_after_a_conversation_from_data_with_examples_from_data(bench, scripted):
    scripted("- {match: {text: bye}, answer: {text: Farewell}}\n")
    bench.write("thread.jsonl", THREAD)
    bench.write("qa.csv", "by,question,answer\nAda,2 + 2,4\n")
    bench.run(
        HEAD
        + """\
  first: {messages: {file: thread.jsonl}}
  next:
    history: first
    messages:
      - few_shot: {file: qa.csv, user: question, assistant: answer}
      - {role: user, content: 3 + 3}
"""
    )
    assert messages(bench)[1] == [
        *[("system", "Be brief."), *TURNS, ("assistant", "Farewell")],
        *[("user", "2 + 2"), ("assistant", "4"), ("user", "3 + 3")],
    ]


def test_running_again_asks_nothing_and_a_changed_file_makes_stale(bench):
    bench.write("thread.jsonl", THREAD)
    bench.write("qa.csv", "user,assistant\na,b\n")
    shots = "[{few_shot: {file: qa.csv}}, {role: user, content: x}]"
    flow = (
        HEAD
        + "  ask: {messages: {file: thread.jsonl}}\n"
        + f"  shown: {{messages: {shots}}}\n"
        + "  more: {messages: \"read('thread.jsonl').splitlines() | map('fromjson') | list\"}\n"
    )
    assert bench.run(flow).exit_code == 0
    bench.run(flow)
    assert len(bench.simulator.requests) == 2, "two are the same"
    assert {state for state, _ in bench.states(flow).values()} == {"fresh"}
    bench.write("thread.jsonl", THREAD.replace("bye", "good bye"))
    bench.write("qa.csv", "user,assistant\na,c\n")
    bench.forget_answers()
    thread = ("stale", ("file //thread.jsonl changed",))
    assert bench.states(flow) == {
        "ask": thread,
        "more": thread,
        "shown": ("stale", ("file //qa.csv changed",)),
    }


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ("inputs.turns", 'message 1 has the role "robot"; known: system, user, assistant, tool'),
        ("inputs.turns | length", "messages does not give a list; give a list of them"),
        ("'inputs.turns[1:]'", "there are no messages; write {role: user, content: ...}"),
        ("[{few_shot: inputs.turns}, {role: user, content: x}]", EXAMPLE_ERROR),
    ],
)
def test_a_list_that_is_no_conversation_fails_before_anything_is_asked(bench, messages, error):
    done = bench.run(
        "poeflow: 1\ndefaults: {model: GPT-5.2}\n"
        "inputs: {turns: {type: array, default: [{role: robot, content: x}]}}\n"
        f"steps:\n  a: {{messages: {messages}}}\n"
    )
    assert done.exit_code == 1
    assert not bench.simulator.requests
    assert str(done.failures["a"]).partition(": ")[2] == error
