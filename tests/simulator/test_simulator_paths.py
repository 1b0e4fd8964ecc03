"""What is asked besides chat: other paths and methods, as health checks and browsers do."""

import msgspec
import pytest
from simulator_desk import Desk, body_of

THERE = (
    "only chat completions here: POST /v1/chat/completions, GET /v1/models and /v1/models/ID, "
    "GET /usage/current_balance and /usage/points_history"
)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("HEAD", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/grok-4", "GET"),
        ("DELETE", "/usage/current_balance", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(desk, method, path, allowed):
    reply = desk.send(method, path)
    assert (reply.status, dict(reply.headers)["allow"]) == (405, allowed)
    assert body_of(reply)["error"]["message"] == f"{path} allows only {allowed}"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("HEAD", "/"),
        ("GET", "/v1/usage/current_balance"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/embeddings"),
        ("POST", "/chat/completions"),
        ("POST", "/v1/v1/chat/completions"),
    ],
)
@pytest.mark.parametrize("profile", ["legacy", "strict"])
def test_an_unknown_path_is_told_what_is_there(profile, method, path):
    reply = Desk(profile=profile).send(method, path)
    error = body_of(reply)["error"]
    assert (reply.status, error["code"]) == (404, "unknown_url")
    assert error["message"] == f"There is nothing at {path}; {THERE}"


@pytest.mark.parametrize("path", ["/base/image/short", "/base/audio/../../etc/passwd"])
def test_a_file_that_cannot_be_is_not_there(desk, path):
    reply = desk.send("GET", path)
    assert (reply.status, body_of(reply)["error"]["message"]) == (
        404,
        f"There is nothing at {path}",
    )


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/grok-4", "/usage/current_balance"])
def test_head_has_the_head_of_get(desk, path):
    got, head = desk.send("GET", path), desk.send("HEAD", path)
    own = ("x-request-id",)
    assert head.status == 200
    assert {n: v for n, v in head.headers if n not in own} == {
        n: v for n, v in got.headers if n not in own
    }


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/nothing", "*"])
def test_a_browser_may_ask_first(path):
    reply = Desk(key="right-key-123").send("OPTIONS", path)
    headers = dict(reply.headers)
    assert (reply.status, reply.segments) == (204, ())
    assert headers["access-control-allow-origin"] == "*"
    assert headers["access-control-allow-methods"] == "GET, POST"
    assert headers["access-control-allow-headers"] == "*, authorization"


@pytest.mark.parametrize("name", ["claude-sonnet-4.5", "Claude-Sonnet-4.5", "Claude%2DSonnet-4.5"])
def test_one_model_is_as_the_list_has_it(desk, name):
    listed = body_of(desk.send("GET", "/v1/models"))["data"]
    (entry,) = (one for one in listed if one["id"] == "claude-sonnet-4.5")
    assert body_of(desk.send("GET", f"/v1/models/{name}")) == entry


@pytest.mark.parametrize(
    ("name", "why"),
    [("nobody", "does not exist"), ("app-creator", "is not available"), ("", "does not exist")],
)
def test_a_model_that_is_not_there(desk, name, why):
    reply = desk.send("GET", f"/v1/models/{name}", poe_feature="chat-completions-strict")
    assert (reply.status, body_of(reply)["error"]) == (
        404,
        {
            "message": f"The model `{name}` {why}",
            "type": "invalid_request_error",
            "param": None,
            "code": "model_not_found",
        },
    )


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a": "\\ud800", "b": ' + b"[" * 200_000,
        b'{"model": "grok-4", "messages": ' + b"[" * 5_000 + b"]" * 5_000 + b"}",
        b"\xff\xfe",
        b'{"model": NaN}',
    ],
    ids=["deep", "deep behind half a character", "deep and whole", "no text", "no number"],
)
def test_a_body_that_cannot_be_read_is_refused(desk, body):
    reply = desk.send("POST", "/v1/chat/completions", body)
    assert (reply.status, body_of(reply)["error"]["message"]) == (
        400,
        "The body is not a JSON object",
    )


def test_json_of_any_depth_is_answered(desk):
    """Between what can be read and what can be written there is no gap to fall into."""
    asked = {"model": "grok-4", "messages": [{"role": "user", "content": "hi"}]}
    head = msgspec.json.encode(asked)[:-1]
    for depth in range(800, 1_100):
        body = head + b',"metadata":' + b"[" * depth + b"]" * depth + b"}"
        reply = desk.send(
            "POST", "/v1/chat/completions", body, poe_feature="chat-completions-legacy"
        )
        assert reply.status in (200, 400), depth
