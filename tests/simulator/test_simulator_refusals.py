from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulator_desk import Desk, body_of

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
USER = {"role": "user", "content": "hi"}
CALLS = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "4"}


def says(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def image(url: str) -> dict[str, Any]:
    return says([{"type": "image_url", "image_url": {"url": url}}])


NO_DATA_URL = "'image_url' must be a data URL such as data:image/png;base64,..."
BUDGET = '\'thinking_budget\' does not fit {"type":"number","minimum":0,"maximum":31999}'
EFFORTS = "Supported values are: none, low, medium, high, xhigh"
PREFIXED = "anthropic/claude-sonnet-4.5"
ROLES = "Input should be 'system', 'user', 'assistant' or 'tool'"
REFUSED = [
    ({"n": 2}, 400, "'n' must be 1"),
    ({"n": True}, 400, "'n' must be 1"),
    ({"temperature": 2.01}, 400, "Temperature must be between 0 and 2"),
    ({"temperature": "1"}, 400, "Temperature must be between 0 and 2"),
    ({"temperature": True}, 400, "Temperature must be between 0 and 2"),
    ({"top_p": -0.1}, 400, "Top_p must be between 0 and 1"),
    ({"max_tokens": 0}, 400, "'max_tokens' must be a whole number above 0"),
    ({"max_completion_tokens": 1.5}, 400, "'max_completion_tokens' must be a whole number above 0"),
    ({"stop": list("abcde")}, 400, "'stop' must be a string or a list of up to 4 strings"),
    ({"stop": [1]}, 400, "'stop' must hold strings only"),
    ({"stop": 5}, 400, "'stop' must be a string or a list of up to 4 strings"),
    ({"stream": "yes"}, 400, "'stream' must be true or false"),
    ({"stream_options": {}}, 400, "'stream_options' is an object, only with 'stream': true"),
    ({"model": ""}, 400, "'model' is missing"),
    ({"model": None}, 400, "'model' is missing"),
    ({"model": "Nobody-9"}, 404, "The model `Nobody-9` does not exist"),
    (
        {"model": "anthropic/claude-sonnet-4.5"},
        404,
        "The model `anthropic/claude-sonnet-4.5` does not exist",
    ),
    ({"model": "App-Creator"}, 404, "The model `App-Creator` is not available"),
    ({"model": "script-bot-creator"}, 404, "The model `script-bot-creator` is not available"),
    ({"messages": []}, 400, "'messages' must be a list with at least one message"),
    ({"messages": None}, 400, "'messages' must be a list with at least one message"),
    ({"messages": ["hi"]}, 400, "A message must be an object with 'role' and 'content'"),
    (
        {"messages": [{"role": "developer", "content": "x"}]},
        400,
        f"Invalid 'role': {ROLES}; Poe has no 'developer', send it as 'system'",
    ),
    (
        {"messages": [{"role": "bot", "content": "x"}]},
        400,
        f"Invalid 'role': {ROLES}",
    ),
    ({"messages": [{"role": "user"}]}, 400, "A message of role 'user' needs 'content'"),
    (
        {"messages": [{"role": "user", "content": 5}]},
        400,
        "'content' must be a string or a list of parts",
    ),
    (says(["x"]), 400, "A content part has no 'type'"),
    (
        {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
        400,
        "Invalid content part of type 'video'",
    ),
    (
        image("http://example.com/a.png"),
        400,
        "'image_url' must be a data URL such as data:image/png;base64,...",
    ),
    (
        image("data:video77/mp4;base64,QQ=="),
        400,
        "'image_url' must be a data URL such as data:image/png;base64,...",
    ),
    (image("data:image/png;base64,QQ"), 400, "'image_url' is not valid base64"),
    (image("data:image/png;base64,é"), 400, "'image_url' is not valid base64"),
    (image("data:image/png;base64,"), 400, "'image_url' holds no data"),
    ({"messages": [USER, CALLS, USER]}, 400, "Tool calls without a message of role 'tool': c1"),
    ({"messages": [USER, CALLS]}, 400, "Tool calls without a message of role 'tool': c1"),
    (
        {"messages": [USER, RESULT]},
        400,
        "A message of role 'tool' must answer a 'tool_call_id' asked for before",
    ),
    (
        {"messages": [USER, CALLS | {"tool_calls": [{}]}]},
        400,
        "A tool call needs 'id' and 'function' with 'name' and 'arguments'",
    ),
    (
        {"messages": [CALLS | {"role": "user", "content": "x"}]},
        400,
        "'tool_calls' must be a list in a message of role 'assistant'",
    ),
    ({"tools": {}}, 400, "'tools' must be a list"),
    (
        {"tools": [{"type": "function"}]},
        400,
        "A tool needs 'type': 'function' and a function's 'name'",
    ),
    ({"tools": [TOOL, TOOL]}, 400, "The tool 'f' is offered twice"),
    ({"tool_choice": "auto"}, 400, "'tool_choice' is only allowed with 'tools'"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}},
        400,
        "'tool_choice' names 'g', which is not offered",
    ),
    (
        {"tools": [TOOL], "tool_choice": "any"},
        400,
        "'tool_choice' must be none, auto, required or a function",
    ),
    ({"extra_body": 5}, 400, "'extra_body' must be an object"),
    (
        {"model": "GPT-5.2", "reasoning_effort": "huge"},
        400,
        f"Unsupported value of 'reasoning_effort'. {EFFORTS}",
    ),
    ({"model": "Kimi-K2.5", "tools": [TOOL]}, 400, "Model kimi-k2.5 does not support tool calling"),
    (
        {"messages": [{"role": "user", "content": "x" * 900_000}]},
        413,
        "The prompt has 225003 tokens; the context holds 200000",
    ),
]


@pytest.mark.parametrize(("fields", "status", "message"), REFUSED, ids=lambda x: str(x)[:50])
def test_refused(desk, fields, status, message):
    reply = desk.ask(**fields)
    assert (reply.status, body_of(reply)["error"]["message"]) == (status, message)


ACCEPTED = [
    {"n": 1, "temperature": 2, "top_p": 0, "stop": None, "max_tokens": None, "stream": False},
    {"model": "claude-SONNET-4.5"},
    {"seed": 7, "user": "me", "store": True, "logit_bias": {}, "something_else": [1]},
    {"reasoning_effort": "high", "model": "Grok-4"},
    {"thinking_budget": "lots"},
    {"messages": [USER, CALLS, RESULT]},
    {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
    {"tools": [TOOL], "tool_choice": "none", "parallel_tool_calls": True},
    {"model": "DALL-E-3", "aspect": "7:4"},
]


@pytest.mark.parametrize("fields", ACCEPTED, ids=lambda x: str(x)[:50])
def test_accepted(desk, fields):
    assert desk.ask(**fields).status == 200


STRICT_REFUSED = [
    ({"seed": 7}, "Extra inputs are not permitted: 'seed' is ignored by this API"),
    (
        {"thinking": 7},
        "Extra inputs are not permitted: 'thinking' is not a parameter of Claude-Sonnet-4.5",
    ),
    (
        {"extra_body": {"aspect": "1:1"}},
        "Extra inputs are not permitted: 'aspect' is not a parameter of Claude-Sonnet-4.5",
    ),
    (
        {"thinking_budget": 32000},
        '\'thinking_budget\' does not fit {"type":"number","minimum":0,"maximum":31999}',
    ),
    (
        {"thinking_budget": "1024"},
        '\'thinking_budget\' does not fit {"type":"number","minimum":0,"maximum":31999}',
    ),
    ({"web_search": "true"}, '\'web_search\' does not fit {"type":"boolean"}'),
    (
        {"model": "Veo-3.1", "duration": 8},
        "Unsupported value of 'duration'. Supported values are: 4, 6, 8",
    ),
    ({"model": "Veo-3.1", "seed": 7}, '\'seed\' does not fit {"type":"string"}'),
]


@pytest.mark.parametrize(("fields", "message"), STRICT_REFUSED, ids=lambda x: str(x)[:50])
def test_strict_refuses_what_legacy_ignores(desk, fields, message):
    reply = desk.ask(strict=True, **fields)
    assert (reply.status, body_of(reply)["error"]["message"]) == (400, message)
    assert desk.ask(**fields).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        {"thinking_budget": 1024, "web_search": True},
        {"extra_body": {"thinking_budget": 1024.5}},
        {"model": "Veo-3.1", "seed": "7", "duration": "8"},
        {"model": "Kimi-K2.5", "temperature": 1.5, "enable_thinking": True},
    ],
    ids=str,
)
def test_strict_takes_what_the_bot_declares(desk, fields):
    assert desk.ask(strict=True, **fields).status == 200


@pytest.mark.parametrize(
    ("model", "media_type", "status"),
    [
        ("DeepSeek-V3.2", "image/png", 400),
        ("Claude-Sonnet-4.5", "image/png", 200),
        ("Claude-Sonnet-4.5", "video/mp4", 400),
        ("Gemini-2.5-Pro", "audio/mp3", 200),
        ("DeepSeek-V3.2", "application/pdf", 200),
    ],
)
def test_strict_refuses_media_the_bot_does_not_take(desk, model, media_type, status):
    file = {"filename": "f", "file_data": f"data:{media_type};base64,QQ=="}
    asked = says([{"type": "file", "file": file}]) | {"model": model}
    assert desk.ask(strict=True, **asked).status == status
    assert desk.ask(**asked).status == 200


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"a":NaN}', b"[" * 100_000])
def test_bodies_that_are_no_object(desk, body):
    reply = desk.send("POST", "/v1/chat/completions", body)
    assert reply.status == 400
    assert body_of(reply) == {
        "error": {"message": "The body is not a JSON object", "type": "invalid_request_error"}
    }


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
_NAMES = st.sampled_from(
    [
        *("model", "messages", "temperature", "top_p", "max_tokens", "stop", "stream", "tools"),
        *("tool_choice", "response_format", "extra_body", "n", "stream_options", "seed"),
        *("thinking_budget", "web_search", "reasoning_effort"),
    ]
)
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["system", "user", "assistant", "tool", "developer"]) | _VALUES,
            "content": st.text(max_size=9)
            | st.lists(st.fixed_dictionaries({"type": _VALUES}))
            | _VALUES,
            "tool_calls": _VALUES,
            "tool_call_id": _VALUES,
        },
    )
)


@given(body=st.dictionaries(_NAMES, _VALUES, max_size=6), messages=_MESSAGES, strict=st.booleans())
@settings(max_examples=100)
def test_no_body_brings_the_service_down(body, messages, strict):
    asked = {"model": "grok-4", "messages": messages} | body
    headers = {"poe_feature": "chat-completions-strict"} if strict else {}
    data = msgspec.json.encode(asked)
    reply = Desk(clock=None).send("POST", "/v1/chat/completions", data, **headers)
    assert reply.status in (200, 400, 404)
