"""What the server refused becomes an error of ours, whatever shape the refusal has."""

import base64
import inspect
from urllib.parse import quote

import msgspec
import pytest
from client_desk import KEY

from poeflow import errors
from poeflow.client.failures import (
    BY_STATUS,
    STATUS_OF_TYPE,
    Server,
    error_inside,
    request_id_of,
    retry_after,
    status_error,
    wants_other_model,
)
from poeflow.redact import Scrubber, Secret

SCRUBBER = Scrubber(Secret(KEY))
NOW = 1_445_412_480.0  # Wed, 21 Oct 2015 07:28:00 GMT


def failed(status: int, body: object = b"", **headers: str) -> errors.APIStatusError:
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return status_error(status, given, content, scrubber=SCRUBBER, now=NOW)


@pytest.mark.parametrize(
    ("status", "kind", "error_class", "exit_code"),
    [
        (400, "invalid_request_error", errors.BadRequestError, 1),
        (401, "authentication_error", errors.AuthenticationError, 5),
        (402, "insufficient_credits", errors.InsufficientCreditsError, 5),
        (402, "insufficient_quota", errors.InsufficientCreditsError, 5),
        (403, "moderation_error", errors.ModerationError, 1),
        (403, "permission_error", errors.PermissionDeniedError, 5),
        (404, "not_found_error", errors.NotFoundError, 1),
        (408, "timeout_error", errors.RequestTimeoutError, 6),
        (409, "conflict", errors.ConflictError, 6),
        (413, "request_too_large", errors.RequestTooLargeError, 1),
        (422, "invalid_request_error", errors.UnprocessableEntityError, 1),
        (429, "rate_limit_error", errors.RateLimitError, 6),
        (500, "provider_error", errors.InternalServerError, 6),
        (500, "api_error", errors.InternalServerError, 6),
        (502, "upstream_error", errors.InternalServerError, 6),
        (503, None, errors.InternalServerError, 6),
        (529, "overloaded_error", errors.OverloadedError, 6),
        (418, None, errors.APIStatusError, 1),
        (599, None, errors.InternalServerError, 6),
    ],
)
@pytest.mark.parametrize("code", [None, "int", "invalid_parameter"])
def test_every_status_in_each_documented_shape(status, kind, error_class, exit_code, code):
    told = {"message": "it went wrong", "type": kind}
    if code is not None:
        told["code"] = status if code == "int" else code
    body = {"error": told | {"metadata": {"a": 1}, "error_id": "0f"}}
    error = failed(status, body, x_request_id="req-9")
    assert type(error) is error_class
    assert (error.status_code, error.exit_code, error.request_id) == (status, exit_code, "req-9")
    assert (error.type, error.code, error.body) == (kind, told.get("code"), body)
    assert error.message == f"it went wrong ({status})"


def test_the_table_holds_every_class_of_the_tree():
    mapped = {*BY_STATUS.values(), errors.InternalServerError, errors.ModerationError}
    subclasses = {
        member
        for _, member in inspect.getmembers(errors, inspect.isclass)
        if issubclass(member, errors.APIStatusError) and member is not errors.APIStatusError
    }
    assert mapped == subclasses
    for status, error_class in BY_STATUS.items():
        assert (error_class.__doc__ or "").startswith(f"{status}: ")
    assert set(STATUS_OF_TYPE.values()) <= {*BY_STATUS, 500, 502}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the server gave no reason (502)"),
        (b"  \n", "the server gave no reason (502)"),
        (b"upstream timed out", "upstream timed out (502)"),
        (b"\xef\xbb\xbf upstream\n timed out \n", "upstream timed out (502)"),
        (b"<html><h1>502</h1></html>", "the server answered with a web page (502)"),
        (b"\n<!DOCTYPE html>", "the server answered with a web page (502)"),
        (b"{}", "the server gave no reason (502)"),
        (b'{"error": null}', "the server gave no reason (502)"),
        (b'{"error": {"message": ""}}', "the server gave no reason (502)"),
        (b'{"error": {"message": 3}}', "the server gave no reason (502)"),
        (b'{"error": "it broke"}', "it broke (502)"),
        (b'{"message": "it broke"}', "it broke (502)"),
        (b'{"type": "error", "error": {"message": "a\\n\\tb"}}', "a b (502)"),
        (b"[1, 2]", "the server gave no reason (502)"),
        (b'{"detail": "no such model"}', "no such model (502)"),
        (
            b'{"detail": [{"loc": ["body", "n", 0], "msg": "is required"}, {"msg": "and so on"}]}',
            "body.n.0: is required; and so on (502)",
        ),
        (b'{"detail": {"error": {"message": "deep"}}}', "deep (502)"),
        (b'[{"error": {"message": "listed", "status": "X"}}]', "listed (502)"),
        (b'{"errors": ["a", {"message": "b"}]}', "a; b (502)"),
        (b'{"errors": {"message": "b"}}', "b (502)"),
        (b'{"title": "Bad", "detail": "it is bad", "status": 502}', "it is bad (502)"),
        (b'{"title": "Bad", "type": "about:blank"}', "Bad (502)"),
        (b'{"object": "error", "message": "flat"}', "flat (502)"),
        (b'{"error": "invalid_client", "error_description": "who?"}', "invalid_client (502)"),
        (b'{"error": {"message": {"message": "twice"}}}', "twice (502)"),
        (b'{"Message": "of AWS"}', "of AWS (502)"),
        (b'{"fault": {"faultstring": "of a gateway"}}', "of a gateway (502)"),
        (b'"text in JSON"', "text in JSON (502)"),
        (b'data: {"error": {"message": "as an event"}}\n\n', "as an event (502)"),
        (
            b'{"error": {"message": "P", "metadata": {"raw": "{\\"detail\\": \\"x\\"}"}}}',
            "P: x (502)",
        ),
        (b'{"error": {"message": "P", "metadata": {"raw": "plain"}}}', "P: plain (502)"),
        (b'{"error": {"message": "P", "metadata": {"raw": ["deep"]}}}', "P: deep (502)"),
        (b'{"error": {"message": "P", "metadata": {"raw": 3, "x": 1}}}', "P (502)"),
        (b'{"error": {"message": "it is cu', '{"error": {"message": "it is cu (502)'),
        (b"[" * 100_000, "the server gave no reason (502)"),
        (b"\xff\xfe\x00", "the server gave no reason (502)"),
        (b'{"error": {"message": "\\ud800"}}', "\\ud800 (502)"),
    ],
)
def test_bodies_of_any_kind_are_survived(body, message):
    assert failed(502, body).message == message


def test_a_redirect_is_told_as_one():
    error = failed(302, b"<html>moved</html>", location="https://elsewhere.example/")
    assert type(error) is errors.APIStatusError
    assert error.message == (
        "the server redirects, which is never followed; check the base URL (302)"
    )


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 09:28:30 +0200"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:30 -0000"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:27:30 GMT"}, None),
        ({"retry-after": "1e300"}, 1e300),
        *(
            ({"retry-after": text}, None)
            for text in ("", "0", "-1", "inf", "-inf", "nan", "1e999", "soon", "Wed, 99 Zzz 2015")
        ),
        *(({"retry-after-ms": text}, None) for text in ("0", "-5", "nan", "1e999")),
        ({"retry-after": "Wed, 21 Oct 99999999999 07:28:30 GMT"}, None),
        ({"retry-after": "9" * 5000}, None),
        *(
            ({"retry-after": "Wed, 21 Oct 2015 07:28:30 GMT", "date": date}, seconds)
            for date, seconds in (
                ("Wed, 21 Oct 2015 07:28:10 GMT", 20.0),
                ("Sun, 11 Oct 2015 07:28:30 GMT", 864_000.0),
                ("Sat, 31 Oct 2015 07:28:30 GMT", None),
                ("some day", 30.0),
                ("", 30.0),
            )
        ),
        ({}, None),
    ],
)
def test_retry_after_in_every_form(headers, seconds):
    assert retry_after(headers, now=NOW) == seconds
    assert status_error(429, headers, b"", scrubber=SCRUBBER, now=NOW).retry_after == seconds


@pytest.mark.parametrize(
    ("written", "may_retry"), [("false", False), ("FALSE", False), ("true", True), ("x", True)]
)
def test_x_should_retry_is_kept(written, may_retry):
    assert failed(500, x_should_retry=written).may_retry is may_retry


SPELLINGS = [
    KEY,
    quote(KEY, safe=""),
    base64.b64encode(KEY.encode()).decode(),
    f"Bearer {KEY}",
    " " * 5000 + KEY,
    "x" * 3990 + " " * 500 + KEY,
]


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("shape", ["message", "type", "code", "metadata"])
def test_a_key_the_server_echoes_is_never_shown(spelling, shape):
    body = {"error": {"message": "no", "type": "t"} | {shape: spelling}}
    ids = {"x_request_id": spelling}
    found = failed(400, body, **ids)
    inside = error_inside(body, request_id=None, scrubber=SCRUBBER)
    plain = spelling.removeprefix("Bearer ").strip().removeprefix("x" * 3990).strip()
    for error in (found, inside):
        shown = f"{error}{error!r}{error.hint}{vars(error)}{error.args}"
        assert plain not in shown
        assert KEY[:12] not in shown


def test_somebody_elses_key_is_not_shown_either():
    error = failed(400, {"error": {"message": "bad sk-abcdefghijklmnopqrst or Bearer zzzzzz"}})
    assert error.message == "bad [key] or [key] (400)"


def test_control_characters_and_long_texts_are_tamed():
    error = failed(400, {"error": {"message": "\x1b[31mred\u202e" + "x" * 9000}})
    assert error.message.startswith("\\x1b[31mred\\u202exxx")
    assert error.message.endswith("x… (400)")
    assert len(error.message) == 406


def test_time_to_read_a_hostile_message_is_linear():
    text = "Bearer " + " " * 500_000 + "\x00" * 400_000
    assert len(failed(400, {"error": {"message": text}}).message) < 500


def test_a_request_id_is_one_line():
    assert request_id_of({"x-request-id": "req\r\n1\x07"}, SCRUBBER) == "req 1\\x07"
    assert request_id_of({}, SCRUBBER) is None


def test_a_text_is_kept_as_the_body_without_the_key():
    error = failed(503, f"upstream says {KEY}".encode())
    assert (error.body, error.message) == ("upstream says [key]", "upstream says [key] (503)")
    assert failed(503, b"<html>no</html>").body is None


def test_the_parameter_at_fault_is_kept():
    error = failed(400, {"error": {"message": "no", "param": "n", "code": "c", "type": "t"}})
    assert (error.param, error.code, error.type) == ("n", "c", "t")
    assert failed(400, {"error": {"message": "no", "param": 3}}).param is None


@pytest.mark.parametrize("status", [400, 403, 429])
@pytest.mark.parametrize(
    "name",
    [
        "insufficient_quota",
        "insufficient_user_quota",
        "insufficient_credits",
        "InsufficientBalance",
        "billing_hard_limit_reached",
        "billing_not_active",
        "billing_error",
        "exceeded_current_quota_error",
        "credit_balance_too_low",
        "out_of_credits",
        "payment_required",
    ],
)
@pytest.mark.parametrize("key", ["type", "code"])
def test_an_empty_account_is_one_whatever_the_status(status, name, key):
    error = failed(status, {"error": {"message": "You exceeded your quota", key: name}})
    assert type(error) is errors.InsufficientCreditsError
    assert (error.status_code, error.exit_code) == (status, 5)
    assert error.message == f"You exceeded your quota ({status})"
    assert "add points" in error.hint


@pytest.mark.parametrize(
    "name",
    [
        "rate_limit_exceeded",
        "requests",
        "tokens",
        "RESOURCE_EXHAUSTED",
        "quota_per_minute",
        "load_balancer_error",
        "invalid_credentials",
        None,
    ],
)
def test_too_fast_is_no_empty_account(name):
    body = {"error": {"message": "You exceeded your current quota", "type": name}}
    assert type(failed(429, body)) is errors.RateLimitError


OTHER = Server(
    name="provider llmock", variable="LITE_KEY", is_poe=False, base_url="http://127.0.0.1:1/v1"
)


@pytest.mark.parametrize(
    ("status", "poe", "other"),
    [
        (
            401,
            "check POE_API_KEY; keys are at https://poe.com/api_key",
            "check LITE_KEY, the key of provider llmock",
        ),
        (
            402,
            "add points at https://poe.com/settings, or use a cheaper model",
            "add credit to the account at provider llmock, or use a cheaper model",
        ),
        (
            404,
            "check the model's name; private bots are not supported",
            "check the model's name; provider llmock does not know it",
        ),
        (413, "shorten the prompt or attach less", "shorten the prompt or attach less"),
        (400, "", ""),
    ],
)
def test_hints_name_the_server_and_its_key(status, poe, other):
    assert failed(status).hint == poe
    found = status_error(status, {}, b"", scrubber=SCRUBBER, now=NOW, server=OTHER)
    assert found.hint == other
    inside = error_inside(
        {"error": {"message": "no", "code": status}},
        request_id=None,
        scrubber=SCRUBBER,
        server=OTHER,
    )
    assert inside.hint == other


def test_a_key_whose_variable_is_not_known_has_no_name():
    server = Server(name="http://127.0.0.1:1", variable="", is_poe=False)
    found = status_error(401, {}, b"", scrubber=SCRUBBER, now=NOW, server=server)
    assert found.hint == "check the key, the key of http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("url", "body", "is_url"),
    [
        ("http://x", b"", True),
        ("http://x/api", b"404 page not found", True),
        ("http://x/v1/chat/completions", b"", True),
        ("http://x/v1/chat/completions", b'{"detail": "model m not found"}', True),
        ("http://x/api", b'{"error": {"code": "model_not_found"}}', False),
        ("http://x/api", b'{"detail": "no such model here"}', False),
        ("http://x/v1", b"404 page not found", False),
        ("http://x/openai/v2beta", b"", False),
    ],
)
@pytest.mark.parametrize("is_poe", [True, False])
def test_a_404_of_an_odd_address_is_about_the_address(url, body, is_url, is_poe):
    server = Server(base_url=url, is_poe=is_poe)
    hint = status_error(404, {}, body, scrubber=SCRUBBER, now=NOW, server=server).hint
    told = f"check the base URL {url}: most end in /v1, none in /chat/completions"
    assert (hint == told) is is_url
    assert hint.startswith("check the model's name") is not is_url


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        ({"message": "Invalid model name passed in model=x"}, "check the model's name"),
        ({"message": "no", "code": "model_not_found"}, "check the model's name"),
        ({"message": "The model `x` does not exist"}, "check the model's name"),
        ({"message": "no", "type": "ContextWindowExceededError"}, "shorten the prompt"),
        ({"message": "no", "code": "context_length_exceeded"}, "shorten the prompt"),
        ({"message": "This model's maximum context length is 9 tokens"}, "shorten the prompt"),
        ({"message": "litellm.ContextWindowExceededError: x"}, "shorten the prompt"),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_bad_request_may_be_the_models_fault(status, error, hint):
    found = failed(status, {"error": error})
    assert type(found) is BY_STATUS[status]
    assert wants_other_model(found)
    assert found.hint.startswith(hint)


@pytest.mark.parametrize(
    ("status", "message"),
    [(400, "temperature must be below 2"), (400, "tool not found"), (401, "unknown model")],
)
def test_other_refusals_are_not(status, message):
    assert not wants_other_model(failed(status, {"error": {"message": message}}))
