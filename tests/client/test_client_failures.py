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
    error_inside,
    request_id_of,
    retry_after,
    status_error,
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
        (b"upstream timed out", "the server gave no reason (502)"),
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
        "the server redirects elsewhere, which is never followed; check the base URL (302)"
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
