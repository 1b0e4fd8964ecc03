"""The one border where what the server refused becomes an error of ours.

Three documented body shapes, web pages and empty bodies all end here; nothing of them is printed
before the key and control characters are taken out.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from poeflow import errors
from poeflow.digest import Json, decode_json, encode_json
from poeflow.redact import Scrubber, visible

BY_STATUS: Final[Mapping[int, type[errors.APIStatusError]]] = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    402: errors.InsufficientCreditsError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    408: errors.RequestTimeoutError,
    409: errors.ConflictError,
    413: errors.RequestTooLargeError,
    422: errors.UnprocessableEntityError,
    429: errors.RateLimitError,
    529: errors.OverloadedError,
}
"""Every documented status; the rest is `InternalServerError` from 500, `APIStatusError` below."""

STATUS_OF_TYPE: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "insufficient_credits": 402,
    "insufficient_quota": 402,
    "moderation_error": 403,
    "permission_error": 403,
    "not_found_error": 404,
    "timeout_error": 408,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "provider_error": 500,
    "api_error": 500,
    "upstream_error": 502,
    "overloaded_error": 529,
}
"""What the type of an error inside an answer stands for, where it brings no status."""

_HINTS: Final[Mapping[int, str]] = {
    401: "check POE_API_KEY; keys are at https://poe.com/api_key",
    402: "add points at https://poe.com/settings, or use a cheaper model",
    404: "check the model's name; private bots are not supported",
    413: "shorten the prompt or attach less",
    529: "the service is busy; try again later",
}
_STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "invalid_api_key": 401,
    "insufficient_points": 402,
    "rate_limit_exceeded": 429,
    "internal_error": 500,
}
UNREADABLE: Final = (ValueError, RecursionError)
"""What decoding JSON from outside raises; nesting without end is one of its tricks."""

_LONGEST: Final = 400
_SPACE: Final = re.compile(r"\s+")


def status_error(
    status: int, headers: Mapping[str, str], content: bytes, *, scrubber: Scrubber, now: float
) -> errors.APIStatusError:
    """Return the error a refused request stands for. `now` is seconds since 1970 (for dates)."""
    body = _body(content, scrubber)
    told = _told(body)
    text = told.get("message") or told.get("text")
    if 300 <= status <= 399:
        text = "the server redirects elsewhere, which is never followed; check the base URL"
    if not isinstance(text, str) or not text.strip():
        text = _without_body(content)
    error = _error(status, told, text, scrubber)
    error.body = body
    error.request_id = request_id_of(headers, scrubber)
    error.retry_after = retry_after(headers, now=now)
    error.may_retry = headers.get("x-should-retry", "").lower() != "false"
    return error


def error_inside(
    event: Json, *, request_id: str | None, scrubber: Scrubber
) -> errors.APIStatusError | errors.APIResponseError:
    """Return the error that came inside an answer of status 200, by its code or type."""
    event = _body(encode_json(event), scrubber)
    told = _told(event)
    text = told.get("message") or told.get("text")
    if not isinstance(text, str) or not text.strip():
        text = "the server reported an error without a message"
    status = told.get("code")
    if not isinstance(status, int) or not 400 <= status <= 599:
        named, kind = str(told.get("code")), str(told.get("type"))
        status = _STATUS_OF_CODE.get(named) or STATUS_OF_TYPE.get(kind, 0)
    if not status:
        status = 500 if told.get("allow_retry", True) is not False else 400
    error = _error(status, told, text, scrubber)
    error.body = event
    error.request_id = request_id
    error.may_retry = told.get("allow_retry") is not False
    return error


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds a server asks to wait: `retry-after-ms`, seconds, or an HTTP date.

    None where it asks for nothing sensible: zero, negative, not a number, a broken date.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _sensible(milliseconds / 1000)
    written = headers.get("retry-after")
    seconds = _number(written)
    if seconds is not None:
        return _sensible(seconds)
    if not written:
        return None
    try:
        moment = parsedate_to_datetime(written)
        return _sensible(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def shown(text: str, scrubber: Scrubber) -> str:
    """Return a server's text in one short line, without keys and control characters."""
    line = visible(_SPACE.sub(" ", scrubber.scrub_server_text(text)).strip()[: 2 * _LONGEST])
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def request_id_of(headers: Mapping[str, str], scrubber: Scrubber) -> str | None:
    """Return the server's `x-request-id`, or None."""
    written = headers.get("x-request-id")
    return shown(written, scrubber) if written else None


def _body(content: bytes, scrubber: Scrubber) -> Json:
    """Return the JSON of a body without the key, None where it is not JSON."""
    try:
        plain = encode_json(decode_json(content)).decode()  # the key has one spelling in it now
        return decode_json(scrubber.scrub(plain).encode())
    except UNREADABLE:
        return None


def _error(
    status: int, told: Mapping[str, Json], text: str, scrubber: Scrubber
) -> errors.APIStatusError:
    kind = told.get("type")
    code = told.get("code")
    error_class = BY_STATUS.get(status)
    if error_class is None:
        error_class = errors.InternalServerError if status >= 500 else errors.APIStatusError
    if status == 403 and kind == "moderation_error":
        error_class = errors.ModerationError
    return error_class(
        f"{shown(text, scrubber)} ({status})",
        status_code=status,
        hint=_HINTS.get(status, ""),
        code=code if isinstance(code, str | int) else None,
        type=kind if isinstance(kind, str) else None,
    )


def _told(body: Json) -> Mapping[str, Json]:
    """Return the object that describes the error, whatever shape it came in."""
    if not isinstance(body, dict):
        return {}
    inner = body.get("error")
    if isinstance(inner, dict):
        return inner
    if isinstance(inner, str):
        return {"message": inner, **{k: v for k, v in body.items() if k != "error"}}
    return body


def _without_body(content: bytes) -> str:
    if content.lstrip()[:1] == b"<":
        return "the server answered with a web page"
    return "the server gave no reason"


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _sensible(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and seconds > 0 else None
