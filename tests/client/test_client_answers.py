"""Answers seen through typed views, in the shapes servers are known to send."""

import copy
import json

import pytest

from poeflow.client.answers import (
    AnswerMessage,
    Choice,
    Completion,
    CompletionChunk,
    MessageDelta,
    ToolCall,
    Usage,
    whole_number,
)

THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


@pytest.mark.parametrize(
    ("content", "text", "reasoning", "refusal"),
    [
        ("Hi", "Hi", None, None),
        ("", "", None, None),
        (None, None, None, None),
        ([], None, None, None),
        (
            [{"type": "text", "text": "The "}, {"type": "text", "text": "end"}],
            "The end",
            None,
            None,
        ),
        ([{"type": "output_text", "text": "a"}, "b", {"text": "c"}], "abc", None, None),
        ([{"type": "text", "text": {"value": "a"}}], "a", None, None),
        ({"type": "text", "text": "alone"}, "alone", None, None),
        ([THOUGHT], None, "hm", None),
        ([THOUGHT, {"type": "text", "text": "a"}], "a", "hm", None),
        ([{"type": "reasoning", "text": "r"}], None, "r", None),
        ([{"type": "thinking", "thinking": "t"}], None, "t", None),
        ([{"type": "refusal", "refusal": "No."}], None, None, "No."),
        ([{"type": "image_url", "image_url": {"url": "x"}}, None, 3, [1]], None, None, None),
        ([{"type": ["odd"], "text": "a"}], None, None, None),
        (3, None, None, None),
    ],
)
def test_content_is_a_text_or_parts(content, text, reasoning, refusal):
    delta = MessageDelta({"content": content})
    assert (delta.content, delta.reasoning, delta.refusal) == (text, reasoning, refusal)


def test_nesting_without_end_is_no_text():
    value: object = "x"
    for _ in range(100):
        value = {"text": value}
    assert MessageDelta({"content": [{"type": "text", "text": value}]}).content is None


@pytest.mark.parametrize(
    ("raw", "reasoning"),
    [
        ({"reasoning_content": "a", "reasoning": "b"}, "a"),
        ({"reasoning": "b"}, "b"),
        ({"thinking": "c"}, "c"),
        ({"reasoning": {"text": "d"}}, "d"),
        ({"reasoning": "", "content": "x"}, None),
    ],
)
def test_reasoning_by_any_of_its_names(raw, reasoning):
    assert MessageDelta(raw).reasoning == reasoning
    assert AnswerMessage(raw).reasoning_content == reasoning


@pytest.mark.parametrize(
    ("arguments", "text"),
    [('{"a":1}', '{"a":1}'), ({"a": 1}, '{"a":1}'), ({}, "{}"), (None, ""), ("", "")],
)
def test_arguments_are_text_also_where_an_object_came(arguments, text):
    call = ToolCall({"id": "a", "function": {"name": "f", "arguments": arguments}, "extra": 1})
    assert call.function.arguments == text
    assert call.to_param() == {
        "id": "a",
        "function": {"name": "f", "arguments": text},
        "extra": 1,
    }


def test_a_message_is_given_back_as_the_api_takes_it():
    raw = {"id": "a", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    assert AnswerMessage({"content": None, "tool_calls": [raw]}).to_param() == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
        ],
    }
    parts = AnswerMessage({"role": "assistant", "content": [THOUGHT, {"text": "Hi"}]})
    assert parts.to_param() == {"role": "assistant", "content": "Hi"}
    refused = AnswerMessage({"content": None, "refusal": "No."})
    assert refused.to_param() == {"role": "assistant", "content": "No."}


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1100, 1100),
        (1100.0, 1100),
        ("1100", 1100),
        (-3, -3),
        (0, 0),
        (1.5, None),
        (True, None),
        ("1.0", None),
        ("٣", None),
        ("9" * 5000, None),
        (float("inf"), None),
        (float("nan"), None),
        (10**400, None),
        (None, None),
        ([], None),
    ],
)
def test_whole_numbers(value, number):
    assert whole_number(value) == number


def test_usage_counts_what_is_a_number():
    usage = Usage({"prompt_tokens": 900.0, "completion_tokens": "200", "x": 1})
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (900, 200, 1100)
    assert usage.counted() == {"prompt_tokens": 900, "completion_tokens": 200, "x": 1}
    named = Usage({"input_tokens": 7, "output_tokens": 2})
    assert (named.prompt_tokens, named.completion_tokens, named.total_tokens) == (7, 2, 9)
    summed = Usage({"prompt_tokens": 7, "total_tokens": 9.0})
    assert summed.counted() == {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    plain = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9, "details": {"a": 1}}
    assert Usage(plain).counted() == plain
    odd = Usage({"prompt_tokens": -5, "completion_tokens": 1.5, "total_tokens": None})
    assert (odd.prompt_tokens, odd.completion_tokens, odd.total_tokens) == (0, 0, 0)
    assert odd.counted() == {"prompt_tokens": 0, "completion_tokens": 0}


def test_what_ported_programs_read():
    details = {"cached_tokens": 3}
    raw = {
        "system_fingerprint": "fp",
        "service_tier": "flex",
        "usage": {"prompt_tokens_details": details, "completion_tokens_details": None},
        "choices": [
            {
                "message": {"content": "a", "annotations": [{"type": "url_citation"}]},
                "logprobs": {"content": []},
                "finish_reason": "stop",
            }
        ],
    }
    answer = Completion(raw)
    assert (answer.object, answer.system_fingerprint, answer.service_tier) == (
        "chat.completion",
        "fp",
        "flex",
    )
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details == details
    assert answer.usage.prompt_tokens_details.cached_tokens == 3
    assert answer.usage.prompt_tokens_details.audio_tokens is None
    assert copy.copy(answer.usage.prompt_tokens_details) == details
    with pytest.raises(AttributeError):
        _ = answer.usage.prompt_tokens_details.tokens_of_cache
    assert answer.usage.completion_tokens_details is None
    assert answer.message.annotations == [{"type": "url_citation"}]
    assert answer.message.refusal is None
    assert answer.choices[0].logprobs == {"content": []}
    assert Choice({"logprobs": None}).logprobs is None
    assert CompletionChunk({}).object == "chat.completion.chunk"


def test_a_view_becomes_plain_data_of_its_own():
    raw = {"choices": [{"message": {"content": "a"}}]}
    answer = Completion(raw)
    for copied in (answer.to_dict(), answer.model_dump()):
        assert copied == raw
        copied["choices"].clear()
    assert answer.raw == {"choices": [{"message": {"content": "a"}}]}
    assert answer.model_dump_json() == '{"choices":[{"message":{"content":"a"}}]}'
    assert answer.model_dump_json(indent=2) == json.dumps(answer.raw, indent=2)
    nulls = Completion({"id": None, "choices": [{"message": {"content": "a", "name": None}}, None]})
    kept = {"choices": [{"message": {"content": "a"}}, None]}
    assert nulls.model_dump(exclude_none=True) == kept
    assert json.loads(nulls.model_dump_json(exclude_none=True)) == kept
    assert json.loads(nulls.model_dump_json()) == nulls.raw
    with pytest.raises(TypeError, match="unhashable"):
        hash(answer)
