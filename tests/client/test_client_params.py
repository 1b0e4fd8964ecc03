"""What a caller may ask for, checked before anything is sent."""

import json
import math
from collections import UserDict
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

import httpx
import msgspec
import pytest
from client_desk import ASKED, KEY
from markupsafe import Markup

from poeflow.bots import RESERVED_KEYS
from poeflow.client.account import points_query
from poeflow.client.answers import AnswerMessage
from poeflow.client.client_options import checked_url, make_options
from poeflow.client.http.wire import origin_of
from poeflow.client.messages import ChatRequest, CreateParams, Message, encode_params
from poeflow.clock import SystemClock
from poeflow.errors import AccountError, UsageError
from poeflow.redact import Secret


class Whole(int):
    pass


class Number(float):
    pass


@dataclass
class Named:
    name: object


def body(*, stream: bool = False, **params) -> dict:
    return msgspec.json.decode(encode_params({**ASKED, **params}, stream=stream))


def options(**settings):
    given = {"api_key": KEY, "base_url": None, "allow_insecure": False, "clock": SystemClock()}
    return make_options(**(given | settings))


def headers(found, **params) -> dict:
    call = found.call_of({**ASKED, **params}, stream=False)
    return dict(call.request.headers)


def test_the_body_holds_what_was_given_and_nothing_else():
    given = {
        "max_tokens": 9,
        "max_completion_tokens": 9,
        "temperature": 0.5,
        "top_p": 1,
        "stop": ["a", "b"],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "stream_options": {"include_usage": True},
        "reasoning_effort": "high",
        "logprobs": True,
        "top_logprobs": 3,
        "response_format": {"type": "json_object"},
        "seed": -3,
        "presence_penalty": -2,
        "frequency_penalty": 0.5,
        "logit_bias": {"50256": -100},
        "store": False,
        "metadata": {"a": "b"},
        "user": "u-1",
        "service_tier": "flex",
    }
    assert body(**given) == ASKED | given
    assert body(stream=True) == ASKED | {"stream": True}
    assert body(n=1, timeout=3, media=True, extra_headers={}, extra_query={}) == ASKED
    assert set(given) | {"model", "messages", "n"} == set(CreateParams.__annotations__) - {
        "extra_body",
        "extra_headers",
        "extra_query",
        "timeout",
        "media",
    }


def test_none_is_left_out():
    assert body(**dict.fromkeys(set(CreateParams.__annotations__) - {"model", "messages"})) == ASKED


def test_extra_body_is_merged_into_the_top_level():
    extra = {"thinking_budget": 1024, "nested": {"a": [None]}}
    assert body(extra_body=extra) == ASKED | extra


def test_any_iterable_of_messages_and_tools_will_do():
    assert body(messages=iter(ASKED["messages"]), tools=iter([{}])) == ASKED | {"tools": [{}]}


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": 0},
        {"temperature": 2},
        {"temperature": 2.0},
        {"top_p": 0.0},
        {"top_p": 1},
        {"max_tokens": 1},
        {"top_logprobs": 20},
        {"stop": "x"},
        {"stop": list("abcd")},
        {"stop": []},
        {"presence_penalty": 2},
        {"frequency_penalty": -2.0},
    ],
)
def test_the_ends_of_a_range_belong_to_it(given):
    assert body(**given) == ASKED | given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": -0.1}, "temperature must be between 0 and 2"),
        ({"temperature": 2.01}, "temperature must be between 0 and 2"),
        ({"temperature": math.nan}, "temperature must be between 0 and 2"),
        ({"temperature": "1"}, "temperature must be a number"),
        ({"temperature": True}, "temperature must be a number"),
        ({"top_p": 1.5}, "top_p must be between 0 and 1"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"max_tokens": 0}, "max_tokens must be a whole number of at least 1"),
        ({"max_tokens": 1.5}, "max_tokens must be a whole number of at least 1"),
        ({"max_completion_tokens": True}, "max_completion_tokens must be a whole number"),
        ({"stop": list("abcde")}, "stop must have at most 4 texts"),
        ({"stop": [1]}, "stop must be a text or a list of texts"),
        ({"stop": 3}, "stop must be a text or a list of texts"),
        ({"n": 2}, "n must be 1"),
        ({"n": 0}, "n must be 1"),
        ({"model": ""}, "model must be a bot's name"),
        ({"model": None}, "model must be a bot's name"),
        ({"model": 3}, "model must be a bot's name"),
        ({"messages": []}, "messages must have at least one message"),
        ({"messages": None}, "messages must be a list"),
        ({"messages": "Hi"}, "messages must be a list"),
        ({"messages": {"role": "user"}}, "messages must be a list"),
        ({"messages": ["Hi"]}, r"messages\[0\].role must be one of system, user,"),
        ({"messages": [{"role": "developer"}]}, r"messages\[0\].role must be one of"),
        ({"messages": [*ASKED["messages"], {}]}, r"messages\[1\].role must be one of"),
        ({"tools": "f"}, "tools must be a list"),
        ({"best_of": 3}, "best_of is not a parameter of create"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"presence_penalty": 2.1}, "presence_penalty must be between -2 and 2"),
        ({"frequency_penalty": "1"}, "frequency_penalty must be a number"),
        ({"logit_bias": [1]}, "logit_bias must be a mapping"),
        ({"metadata": "x"}, "metadata must be a mapping"),
        ({"store": 1}, "store must be True or False"),
        ({"logprobs": "yes"}, "logprobs must be True or False"),
        ({"parallel_tool_calls": 0}, "parallel_tool_calls must be True or False"),
        ({"media": "image"}, "media must be True or False"),
        ({"user": 3}, "user must be a text"),
        ({"service_tier": True}, "service_tier must be a text"),
        ({"reasoning_effort": 1}, "reasoning_effort must be a text"),
        ({"tool_choice": 3}, "tool_choice must be a text or a mapping"),
        ({"stream_options": True}, "stream_options must be a mapping"),
        ({"response_format": dict}, "response_format must be a mapping"),
        ({"extra_headers": [("a", "b")]}, "extra_headers must be a mapping"),
        ({"extra_query": "a=b"}, "extra_query must be a mapping"),
        ({"extra_body": [1]}, "extra_body must be a mapping"),
        ({"extra_body": {3: 1}}, "extra_body must have texts as keys"),
        ({"extra_body": {"a": object()}}, "a has a value that JSON does not have"),
        ({"extra_body": {"a": {"b": [math.nan]}}}, "a has a value that JSON does not have"),
        ({"extra_body": {"a": math.inf}}, "a has a value that JSON does not have"),
        ({"messages": [{"role": "user", "content": object()}]}, "messages has a value"),
        *(
            ({name: {"a": [{"b": value}]}}, f"{name} has a value that JSON does not have")
            for name in ("response_format", "metadata", "logit_bias")
            for value in (math.nan, -math.inf, b"Hello", bytearray(b"Hello"), Decimal("1.5"))
        ),
        ({"tools": [{"a": math.nan}]}, "tools has a value that JSON does not have"),
        ({"metadata": {b"a": 1}}, "metadata has a value that JSON does not have"),
        ({"metadata": {"a": Named(b"Hello")}}, "metadata has a value that JSON does not have"),
        ({"messages": [{"role": "user", "content": b"Hello"}]}, "messages has a value"),
        ({"temperature": 1, "extra_body": {"temperature": 1}}, "extra_body must not have temp"),
        *(
            ({"extra_body": {name: 1}}, f"extra_body must not have {name}")
            for name in sorted(RESERVED_KEYS)
        ),
    ],
)
def test_what_is_wrong_is_named(given, message):
    with pytest.raises(UsageError, match=message):
        body(**given)


def test_values_of_classes_that_derive_from_those_of_json_are_theirs():
    message = MappingProxyType({"role": Markup("user"), "content": Markup("a < b")})
    given = {
        "model": Markup("Grok-4"),
        "messages": (UserDict(message), message),
        "metadata": UserDict({Markup("a"): Whole(3), "b": Number(0.5), "c": Named("d")}),
        "stop": (Markup("."),),
    }
    said = {"role": "user", "content": "a < b"}
    assert body(**given) == {
        "model": "Grok-4",
        "messages": [said, said],
        "metadata": {"a": 3, "b": 0.5, "c": {"name": "d"}},
        "stop": ["."],
    }
    half = encode_params({**ASKED, "user": Markup("\ud83d")}, stream=False)
    assert json.loads(half) == ASKED | {"user": "\ud83d"}
    with pytest.raises(UsageError, match="metadata has a value that JSON does not have"):
        body(metadata={"a": Number("nan")})


def test_something_that_holds_itself_is_refused():
    around: list = []
    around.append(around)
    with pytest.raises(UsageError, match="a has a value that JSON does not have"):
        body(extra_body={"a": around})


@pytest.mark.parametrize(
    "timeout", [0, -1, math.nan, math.inf, 86_401, "5", True, httpx.Timeout(5), (1, 2)]
)
def test_timeouts_are_seconds(timeout):
    with pytest.raises(UsageError, match="timeout must be seconds"):
        options().call_of({**ASKED, "timeout": timeout}, stream=False)
    with pytest.raises(UsageError, match="timeout must be seconds"):
        options(timeout=timeout)
    with pytest.raises(UsageError, match="timeout must be seconds"):
        options().with_(timeout=timeout)


@pytest.mark.parametrize("name", ["attempts", "concurrency", "requests_per_minute"])
@pytest.mark.parametrize("value", [0, -1, 1.5, "3", True])
def test_counts_are_at_least_one(name, value):
    with pytest.raises(UsageError, match=f"{name} must be a whole number of at least 1"):
        options(**{name: value})


@pytest.mark.parametrize("limit", [0, 101, "20", 1.5, True])
def test_a_page_of_the_history_has_1_to_100_entries(limit):
    with pytest.raises(UsageError, match="limit must be between 1 and 100"):
        points_query(limit, None)


def test_headers_are_the_callers_except_for_ours():
    found = options(validation="strict").with_(headers={"X-One": "1", "x-two": "2"})
    assert headers(found, extra_headers={"X-Two": "3", "User-Agent": "mine"}) == {
        "content-type": "application/json",
        "accept-encoding": "gzip, deflate",
        "user-agent": "mine",
        "poe-feature": "chat-completions-strict",
        "x-one": "1",
        "x-two": "3",
        "authorization": f"Bearer {KEY}",
    }


@pytest.mark.parametrize(
    "given",
    [
        {"x-a": "1\r\nx-b: 2"},
        {"x-a": "1\nx-b: 2"},
        {"x-a\r\nx-b": "1"},
        {"x-a": "\x00"},
        {"x a": "1"},
        {"": "1"},
        {"x-a": "é"},
        {"é": "1"},
        {"Authorization": "Bearer other"},
        {"Host": "elsewhere.example"},
        {"Content-Length": "0"},
        {"Transfer-Encoding": "chunked"},
    ],
)
def test_a_header_that_would_change_the_request_is_refused(given):
    with pytest.raises(UsageError, match="the header"):
        headers(options(), extra_headers=given)


def test_query_and_path_are_encoded():
    found = options(base_url="https://poe.example:8443/base/v1/")
    call = found.call_of({**ASKED, "extra_query": {"a b": "c&d\r\n"}}, stream=False)
    assert call.request.target == "/base/v1/chat/completions?a+b=c%26d%0D%0A"
    assert str(call.request.origin) == "https://poe.example:8443"
    assert found.get("/usage/x", {}, at_origin=True).request.target == "/usage/x"


@pytest.mark.parametrize(
    "url",
    [
        "https://api.poe.com/v1",
        "http://127.0.0.1:8000",
        "http://127.9.9.9",
        "http://localhost:1/v1",
        "http://[::1]:1",
        "http://LOCALHOST:1",
        "http://localhost.:1",
        "http://127.1:1",
        "http://[::ffff:127.0.0.1]:1",
    ],
)
def test_https_and_loopback_are_taken(url):
    assert checked_url(url + "/", allow_insecure=False) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://api.poe.com/v1",
        "http://127.example.com",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://10.0.0.1",
        "http://0.0.0.0",
    ],
)
def test_plain_http_elsewhere_must_be_asked_for(url):
    with pytest.raises(UsageError, match="is not encrypted"):
        checked_url(url, allow_insecure=False)
    assert checked_url(url, allow_insecure=True) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.poe.com",
        "ftp://poe.com",
        "https://",
        "https://a:b@poe.com",
        "https://poe.com?a=b",
        "https://poe.com#a",
        "https://poe.com:99999",
        "https://[::1",
        "file:///etc/passwd",
        "http://127.0.0.1:8000/v1\r\nX: y",
        "http://127.0.0.1:8000/v1\tb",
        "http://127.0.0.1:8000/a b",
        "http://127.0.0.1:8000/\x7f",
        "http://127.0.0.1:8000/\xa0",
        "http://127.0.0.1:0/v1",
        httpx.URL("http://127.0.0.1"),
        b"http://127.0.0.1",
        3,
    ],
)
def test_other_addresses_are_refused(url):
    with pytest.raises(UsageError, match="base_url"):
        checked_url(url, allow_insecure=True)


def test_an_origin_is_scheme_host_and_port():
    assert origin_of("HTTPS://API.Poe.com/v1") == origin_of("https://api.poe.com:443/x")
    assert str(origin_of("http://[::1]:80/x")) == "http://[::1]"


@pytest.mark.parametrize("key", ["in two", "a" * 513, "line\nbreak-123", "clé-0123456789"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key):
    with pytest.raises(AccountError) as caught:
        options(api_key=key)
    assert key not in str(caught.value)


def test_options_never_show_the_key():
    found = options(api_key=Secret(KEY))
    call = found.call_of({**ASKED}, stream=True)
    assert KEY not in f"{found!r}{call!r}{call.request!r}"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"api_key": lambda: KEY}, "api_key must be a text or a Secret"),
        ({"api_key": 3}, "api_key must be a text or a Secret"),
        ({"validation": "lax"}, "validation must be strict or legacy"),
        ({"base_url": 3}, "base_url must be a text"),
    ],
)
def test_what_a_client_is_set_up_with_is_checked(given, message):
    with pytest.raises(UsageError, match=message):
        options(**given)


def test_a_timeout_that_is_none_is_told_how_to_be_written():
    with pytest.raises(UsageError) as caught:
        options(timeout=httpx.Timeout(5))
    assert str(caught.value) == "timeout must be seconds; or poeflow.Timeouts, for a client"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"headers": [("a", "b")]}, "headers must be a mapping"),
        ({"validation": "lax"}, "validation must be strict or legacy"),
        ({"attempts": "3"}, "attempts must be a whole number of at least 1"),
    ],
)
def test_what_options_are_changed_to_is_checked(given, message):
    with pytest.raises(UsageError, match=message):
        options().with_(**given)


@pytest.mark.parametrize("given", [{"x-a": 3}, {3: "a"}, {"x-a": None}, {"x-a": b"b"}])
def test_headers_are_texts(given):
    with pytest.raises(UsageError, match="headers must be texts"):
        headers(options(), extra_headers=given)
    with pytest.raises(UsageError, match="headers must be texts"):
        headers(options().with_(headers=given))


def test_a_query_is_texts_or_numbers_and_lists_of_these():
    given = {"a": 1, "b": ["c", 2.5], "d": True, "e": (), "f": ["g h"]}
    call = options().call_of({**ASKED, "extra_query": given}, stream=False)
    written = "?a=1&b%5B%5D=c&b%5B%5D=2.5&d=true&f%5B%5D=g+h"  # as the OpenAI SDK does
    assert call.request.target.endswith(written)
    for wrong in ({"b": 1}, [["c"]], None, [None]):
        with pytest.raises(UsageError, match="extra_query must have texts or numbers as values"):
            options().call_of({**ASKED, "extra_query": {"a": wrong}}, stream=False)


def test_a_page_begins_behind_a_text():
    assert points_query(5, "q-1") == {"limit": "5", "starting_after": "q-1"}
    with pytest.raises(UsageError, match="starting_after must be a text"):
        points_query(5, 3)


@pytest.mark.parametrize("name", ["Content-Type", "content-type", "CONTENT-TYPE"])
def test_there_is_one_content_type(name):
    own = {name: "application/json; v=1"}
    for found in (
        options().call_of({**ASKED, "extra_headers": own}, stream=False),
        options().with_(headers=own).call_of({**ASKED}, stream=False),
    ):
        sent = [value for key, value in found.request.headers if key == "content-type"]
        assert sent == ["application/json; v=1"]


def test_the_message_of_an_answer_may_be_said_again():
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    said = AnswerMessage({"content": None, "tool_calls": [call], "reasoning_content": "hm"})
    turns = [*ASKED["messages"], said, {"role": "tool", "tool_call_id": "a", "content": "1"}]
    assert body(messages=turns)["messages"] == [
        *ASKED["messages"],
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    ]


def test_stop_may_be_a_tuple():
    assert body(stop=("a", "b")) == ASKED | {"stop": ["a", "b"]}


def test_only_a_whole_request_is_asked():
    with pytest.raises(UsageError, match="ask takes a ChatRequest"):
        options().call(ASKED, on_progress=None, media=False, permit=None)


def test_other_headers_are_sent_by_a_client_that_has_asked():
    def call(found):
        asked = ChatRequest(model="M", messages=(Message(role="user", content="Hi"),))
        return found.call(asked, on_progress=None, media=False, permit=None).request

    first = options()
    call(first)
    assert dict(call(first.with_(headers={"x-a": "1"})).headers)["x-a"] == "1"


def test_what_is_printed_holds_no_key(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:{KEY}@localhost:1")
    found = options()
    request = found.call_of({**ASKED}, stream=False).request
    request.head()
    assert KEY in str(request.headers) + str(found.proxy)
    for one in (found, request):
        assert KEY not in repr(one)
        assert "target=" in repr(one) or "base_url=" in repr(one)
