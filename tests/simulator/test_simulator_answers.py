import base64

import msgspec
import pytest
from simulator_desk import Desk, body_of, text_of

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"days": {"type": "integer", "minimum": 2, "maximum": 2}},
            "required": ["days"],
            "additionalProperties": False,
        },
    },
}
OTHER = {"type": "function", "function": {"name": "ask_again"}}


def test_answer_quotes_the_question_owns_to_being_simulated_and_ends_with_a_hash(desk):
    text = text_of(desk.ask("Top 3 things to do in NYC?"))
    body = {
        "messages": [{"content": "Top 3 things to do in NYC?", "role": "user"}],
        "model": "Claude-Sonnet-4.5",
    }
    from poeflow.simulator.chat_request import seed_of

    assert '"Top 3 things to do in NYC?"' in text
    assert text.endswith(f"This answer is simulated. [{seed_of(body)[:8]}]")


def test_long_questions_are_quoted_by_their_first_words(desk):
    text = text_of(desk.ask("one two three four five six seven eight nine ten\neleven"))
    assert '"one two three four five six seven eight nine ..."' in text


def test_same_request_gets_the_same_answer_whatever_the_order_of_its_keys():
    one = Desk().send(
        "POST",
        "/v1/chat/completions",
        b'{"model":"grok-4","messages":[{"role":"user","content":"hi"}],"temperature":1}',
    )
    other = Desk().send(
        "POST",
        "/v1/chat/completions",
        b'{"temperature":1,"messages":[{"content":"hi","role":"user"}],"model":"grok-4"}',
    )
    assert body_of(one)["choices"] == body_of(other)["choices"]
    assert body_of(one)["id"] == body_of(other)["id"]


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.1},
        {"model": "GPT-5.2"},
        {"thinking_budget": 5},
        {"messages": [{"role": "user", "content": "Hello there!"}]},
    ],
    ids=str,
)
def test_another_request_gets_another_answer(desk, change):
    assert text_of(desk.ask()) != text_of(desk.ask(**change))


def test_streaming_does_not_change_what_is_said(desk):
    streamed = desk.ask(stream=True, stream_options={"include_usage": True})
    chunks = [msgspec.json.decode(part.data[6:]) for part in streamed.segments[:-1]]
    pieces = [c["choices"][0]["delta"].get("content", "") for c in chunks if c["choices"]]
    assert "".join(pieces) == text_of(desk.ask())
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-2]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == body_of(desk.ask())["usage"]
    assert streamed.segments[-1].data == b"data: [DONE]\n\n"


def test_usage_counts_four_bytes_a_token(desk):
    reply = body_of(desk.ask("x" * 400))
    text = reply["choices"][0]["message"]["content"]
    expected = -(-len(text) // 4)
    assert reply["usage"] == {
        "prompt_tokens": 103,
        "completion_tokens": expected,
        "total_tokens": 103 + expected,
    }


def test_max_tokens_cuts_the_answer_and_says_so(desk):
    reply = body_of(desk.ask(max_tokens=5, max_completion_tokens=9))
    choice = reply["choices"][0]
    assert choice["finish_reason"] == "length"
    assert len(choice["message"]["content"]) == 20
    assert reply["usage"]["completion_tokens"] == 5


def test_a_stop_sequence_ends_the_answer_and_white_space_ones_do_not(desk):
    reply = body_of(desk.ask(stop=[" ", "This answer is"]))
    choice = reply["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"].endswith(". ")
    assert "simulated" not in choice["message"]["content"]


def test_attachments_are_named_with_their_media_types(desk):
    data = base64.b64encode(b"%PDF-1.4 something").decode()
    content = [
        {"type": "text", "text": "Sum this up."},
        {"type": "image_url", "image_url": {"url": f"data:image/jpg;base64,{data}"}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png?token=x"}},
        {
            "type": "file",
            "file": {"filename": "doc.pdf", "file_data": f"data:application/pdf;base64,{data}"},
        },
    ]
    text = text_of(desk.ask(messages=[{"role": "user", "content": content}]))
    expected = "an image (image/jpg), https://example.com/a.png, doc.pdf (application/pdf)"
    assert f"Received with it: {expected}." in text
    assert '"Sum this up."' in text


def test_the_last_schema_in_a_fence_is_answered_with_json(desk):
    prompt = (
        'Data:\n```json\n{"type": "order", "id": 7}\n```\n'
        '```json\n{"type": "string"}\n```\n'
        'Answer like this:\n```json\n{"type": "object", "required": ["n"], '
        '"properties": {"n": {"const": 42}}}\n```\nThank you.'
    )
    assert text_of(desk.ask(prompt)) == '{"n":42}'


def test_json_data_in_a_fence_is_not_taken_for_a_schema(desk):
    text = text_of(desk.ask('Look:\n```json\n{"type": "order", "id": 7}\n```'))
    assert text.endswith("]")
    assert "This answer is simulated." in text


@pytest.mark.parametrize("strict", [False, True])
def test_response_format_asks_for_json(desk, strict):
    schema = {"type": "object", "properties": {"n": {"const": 1}}, "required": ["n"]}
    fmt = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert text_of(desk.ask(response_format=fmt, strict=strict)) == '{"n":1}'
    plain = text_of(desk.ask(response_format={"type": "json_object"}, strict=strict))
    assert msgspec.json.decode(plain)["question"] == "Hello there"


def test_a_schema_nothing_fits_is_refused(desk):
    fmt = {"type": "json_schema", "json_schema": {"schema": {"$ref": "https://x.org/s"}}}
    reply = desk.ask(response_format=fmt)
    assert reply.status == 400
    assert body_of(reply)["error"]["param"] == "response_format"


def test_a_required_tool_is_called_with_fitting_arguments(desk):
    reply = body_of(desk.ask(tools=[TOOL], tool_choice="required"))
    choice = reply["choices"][0]
    call = choice["message"]["tool_calls"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == ""
    assert call["function"] == {"name": "get_weather", "arguments": '{"days":2}'}
    assert call["type"] == "function"
    assert reply["usage"]["completion_tokens"] == 0


def test_passed_through_tool_calls_have_null_content_and_counted_tokens(desk):
    reply = body_of(desk.ask(tools=[TOOL], tool_choice="required", strict=True))
    assert reply["choices"][0]["message"]["content"] is None
    assert reply["usage"]["completion_tokens"] > 0


def called(message: dict) -> list[str]:
    return [call["function"]["name"] for call in message.get("tool_calls") or ()]


def with_results(messages: list[dict], message: dict, text: str = "rain") -> list[dict]:
    """Return the conversation with what a client says to the calls in `message`."""
    calls = message["tool_calls"]
    results = [{"role": "tool", "tool_call_id": call["id"], "content": text} for call in calls]
    return [*messages, message, *results]


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": None}], ids=str)
@pytest.mark.parametrize("strict", [False, True])
def test_an_offered_tool_is_called_once_and_then_its_result_is_told(desk, choice, strict):
    messages = [{"role": "user", "content": "The weather?"}]
    asked = {"tools": [OTHER, TOOL], "strict": strict, **choice}
    first = body_of(desk.ask(messages=messages, **asked))["choices"][0]
    assert (first["finish_reason"], called(first["message"])) == ("tool_calls", ["ask_again"])
    messages = with_results(messages, first["message"])
    second = body_of(desk.ask(messages=messages, **asked))["choices"][0]
    assert (second["finish_reason"], called(second["message"])) == ("stop", [])
    assert 'The tools told: "rain".' in second["message"]["content"]
    more = [*messages, second["message"] | {"tool_calls": None}, messages[0]]
    assert body_of(desk.ask(messages=more, **asked))["choices"][0]["finish_reason"] == "stop"


def test_a_tool_is_not_called_where_it_may_not_be(desk):
    choice = body_of(desk.ask(tools=[TOOL], tool_choice="none"))["choices"][0]
    assert (choice["finish_reason"], called(choice["message"])) == ("stop", [])


def test_where_tools_must_be_called_each_is_once_and_then_the_last(desk):
    messages: list[dict] = [{"role": "user", "content": "The weather?"}]
    names = []
    for _ in range(3):
        asked = {"tools": [TOOL, OTHER], "tool_choice": "required"}
        message = body_of(desk.ask(messages=messages, **asked))["choices"][0]["message"]
        names += called(message)
        messages = with_results(messages, message)
    assert names == ["get_weather", "ask_again", "ask_again"]


def test_a_named_tool_is_called_whenever_it_is_named(desk):
    choice = {"type": "function", "function": {"name": "ask_again"}}
    asked = {"tools": [TOOL, OTHER], "tool_choice": choice}
    messages = [{"role": "user", "content": "The weather?"}]
    message = body_of(desk.ask(messages=messages, **asked))["choices"][0]["message"]
    again = body_of(desk.ask(messages=with_results(messages, message), **asked))["choices"][0]
    assert called(message) == called(again["message"]) == ["ask_again"]


def test_gemini_signs_its_tool_calls(desk):
    reply = desk.ask(model="Gemini-2.5-Pro", tools=[TOOL], tool_choice="required")
    call = body_of(reply)["choices"][0]["message"]["tool_calls"][0]
    assert len(call["extra_content"]["google"]["thought_signature"]) == 32


@pytest.mark.parametrize(
    ("model", "fields", "reasons"),
    [
        ("Claude-Sonnet-4.5", {}, False),
        ("Claude-Sonnet-4.5", {"thinking_budget": 1024}, True),
        ("Claude-Sonnet-4.5", {"extra_body": {"thinking_budget": 1024}}, True),
        ("Claude-Sonnet-4.5", {"thinking_budget": 0, "extra_body": {"thinking_budget": 9}}, False),
        ("Claude-Opus-4.6", {"output_effort": "none"}, False),
        ("GPT-5.2", {"reasoning_effort": "high"}, True),
        ("GPT-5.2", {}, False),
        ("o3", {}, True),
        ("DeepSeek-V3.2", {"enable_thinking": False}, False),
        ("Gemini-2.5-Pro", {"reasoning_effort": "high"}, True),
        ("Grok-4", {"reasoning_effort": "high"}, False),
    ],
)
def test_reasoning_shows_where_it_is_on(desk, model, fields, reasons):
    message = body_of(desk.ask(model=model, **fields))["choices"][0]["message"]
    assert ("reasoning_content" in message) is reasons
    assert message.get("reasoning") == message.get("reasoning_content")


def test_the_two_shapes_of_an_answer(desk):
    legacy = body_of(desk.ask())
    strict = body_of(desk.ask(strict=True))
    assert set(legacy) == {"id", "object", "created", "model", "choices", "usage"}
    assert set(legacy["choices"][0]["message"]) == {"role", "content"}
    assert legacy["model"] == "Claude-Sonnet-4.5"
    assert strict["model"] != "Claude-Sonnet-4.5"
    assert strict["system_fingerprint"] is None
    assert strict["choices"][0]["message"]["tool_calls"] is None
    assert strict["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0


def test_streamed_tool_calls_give_the_id_once_and_end_as_the_translator_does(desk):
    def deltas(*, strict: bool) -> list[dict]:
        reply = desk.ask(tools=[TOOL], tool_choice="required", stream=True, strict=strict)
        parts = [msgspec.json.decode(part.data[6:]) for part in reply.segments[:-1]]
        return [part["choices"][0] for part in parts]

    legacy, strict = deltas(strict=False), deltas(strict=True)
    first = legacy[1]["delta"]["tool_calls"][0]
    assert first["function"] == {"name": "get_weather", "arguments": ""}
    assert [("id" in c["delta"].get("tool_calls", [{}])[0]) for c in legacy].count(True) == 1
    assert legacy[-1]["finish_reason"] == "tool_calls"
    assert legacy[-1]["delta"]["tool_calls"][0]["function"] == {"arguments": '{"days":2}'}
    assert strict[-1] == {"index": 0, "delta": {}, "finish_reason": "tool_calls"}


def test_lone_surrogates_survive(desk):
    raw = b'{"model":"grok-4","messages":[{"role":"user","content":"a \\ud800 b"}]}'
    reply = desk.send("POST", "/v1/chat/completions", raw)
    assert reply.status == 200
    assert b'\\"a \\ud800 b\\"' in reply.segments[0].data
