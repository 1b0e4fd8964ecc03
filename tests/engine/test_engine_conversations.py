"""Conversations: turns as they are written, examples, and steps that go on where one ended."""

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
