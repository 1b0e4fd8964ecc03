import pytest
from simulator_desk import Desk, body_of


def test_the_three_shapes_of_an_error_body():
    keyed = Desk(profile="legacy", key="right-key-123")
    ask = b'{"model":"grok-4","messages":[{"role":"user","content":"hi"}]}'
    sentence = "Incorrect API key provided. You can find your API key at https://poe.com/api_key."
    path = "/v1/chat/completions"
    legacy = keyed.send("POST", path, ask)
    strict = keyed.send("POST", path, ask, poe_feature="chat-completions-strict")
    assert legacy.status == strict.status == 401
    assert body_of(legacy) == {
        "error": {
            "code": 401,
            "type": "authentication_error",
            "message": sentence,
            "metadata": {},
        }
    }
    assert body_of(strict) == {
        "error": {
            "message": sentence,
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }
    }
    bare = Desk(profile="legacy").ask(model="Nobody")
    assert body_of(bare) == {
        "error": {"message": "The model `Nobody` does not exist", "type": "not_found_error"}
    }


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer right-key-123", 200),
        ("Bearer  right-key-123 ", 200),
        ("bearer right-key-123", 200),
        ("Bearer wrong-key-123", 401),
        ("right-key-123", 401),
        ("Basic right-key-123", 401),
        ("Bearer ", 401),
    ],
)
def test_a_key_is_checked(header, status):
    desk = Desk(key="right-key-123")
    assert desk.send("GET", "/usage/current_balance", authorization=header).status == status
    assert desk.send("GET", "/v1/models").status == 200


def test_any_key_will_do_where_one_is_only_required():
    desk = Desk(key_required=True)
    path = "/usage/current_balance"
    assert desk.send("GET", path, authorization="Bearer anything").status == 200
    assert desk.send("GET", path).status == 401


@pytest.mark.parametrize(
    ("header", "active"),
    [
        ("", "chat-completions-strict"),
        ("chat-completions-legacy", "chat-completions-legacy"),
        ("chat-completions-strict", "chat-completions-strict"),
        ("responses-strict, chat-completions-strict", "chat-completions-strict"),
        ("legacy", "chat-completions-strict"),
        ("chat-completions-unheard-of", "chat-completions-strict"),
    ],
)
def test_the_profile_follows_the_feature_header(header, active):
    reply = Desk().send("GET", "/v1/models", poe_feature=header)
    assert dict(reply.headers)["x-poe-feature-active"] == active


def test_requests_are_read_strictly_unless_asked_otherwise():
    assert Desk().ask(seed=1).status == 400
    assert Desk(profile="legacy").ask(seed=1).status == 200
    strict = Desk(profile="legacy").send("GET", "/v1/models", poe_feature="chat-completions-strict")
    assert dict(strict.headers)["x-poe-feature-active"] == "chat-completions-strict"


def test_every_reply_has_a_request_id_of_its_own(desk):
    ids = {
        dict(desk.send("GET", path).headers)["x-request-id"] for path in ("/v1/models", "/", "/")
    }
    assert len(ids) == 3
    assert all(len(name) == 28 and name.startswith("req-") for name in ids)


def test_unknown_models_answer_where_that_is_wanted():
    desk = Desk(answers_unknown=True)
    assert desk.ask(model="Brand-New-Bot").status == 200
    assert desk.ask(model="App-Creator").status == 404


@pytest.mark.parametrize("model", ["Brand-New-Bot", "Gemini-3.7-Flash"])
def test_of_a_bot_known_in_part_any_parameter_is_taken(model):
    url = "data:image/png;base64,QQ=="
    picture = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "hi"}]
    asked = {"messages": [{"role": "user", "content": picture}], "seed": 7, "thinking_level": "low"}
    assert Desk(answers_unknown=True).ask(model=model, **asked).status == 200


def test_what_is_known_of_a_bot_known_in_part_must_fit():
    reply = Desk().ask(model="Gemini-3.7-Flash", thinking_level="minimal")
    message = "Unsupported value of 'thinking_level'. Supported values are: low, medium, high"
    assert (reply.status, body_of(reply)["error"]["message"]) == (400, message)
