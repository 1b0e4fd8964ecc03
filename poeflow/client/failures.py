"""Converts error responses of servers to our exceptions.

Reads all known forms of error bodies, plain text, web pages and empty bodies; keys and control
characters are removed from everything that is shown.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from poeflow import errors
from poeflow.digest import Json, decode_json, encode_json
from poeflow.lazy_pattern import lazy_pattern
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
"""Every documented status; others are `InternalServerError` from 500, `APIStatusError` below."""

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
"""The status for the type of an error inside an answer, if it has no status of its own."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """The server that hints name.

    `name` is the user's name for it, `variable` the environment variable of its key, empty if it
    is not known; `is_poe` if Poe's own pages help; `base_url` is its address.
    """

    name: str = "Poe"
    variable: str = "POE_API_KEY"
    is_poe: bool = True
    base_url: str = ""


POE: Final = Server()
_STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "invalid_api_key": 401,
    "insufficient_points": 402,
    "rate_limit_exceeded": 429,
    "internal_error": 500,
}
UNREADABLE: Final = (ValueError, RecursionError)
"""What decoding JSON can raise; deep nesting raises `RecursionError`."""

_STATUS_KEYS: Final = ("code", "status", "status_code", "error_code")
_REASON_KEYS: Final = (
    *("message", "msg", "detail", "error", "errors", "reason", "title", "description"),
    *("error_description", "error_message", "error_msg", "errorMessage", "Message", "text"),
    *("fault", "faultstring", "err", "innererror", "response"),
)
"""The keys of a reason, most informative first."""
_MOST_REASONS: Final = 3
_BAD_REQUEST: Final = frozenset({400, 422})
_MONEY: Final = lazy_pattern(
    r"insufficient_(?:\w+_)?(?:quota|credits?|balance|funds?|points?)(?:_error)?"
    r"|(?:exceeded_current|out_of|no)_(?:quota|credits?)(?:_error)?|payment_required(?:_error)?"
    r"|(?:low|credit|account|negative)_balance(?:_\w+)?|(?:\w+_)?(?:billing|credits?)(?:_\w+)?"
)
_UNKNOWN_NAMES: Final = lazy_pattern(
    r"(?:invalid|unknown|unsupported|no_such)_model|model_(?:not|does_not|is_not|invalid|unknown)"
)
_UNKNOWN_TEXT: Final = lazy_pattern(
    r"(?i:invalid model|unknown model|no such model|unsupported model"
    r"|model\b.{0,200}\b(?:not found|not exist|not supported|not a valid|unknown|invalid))"
)
_TOO_SMALL_NAMES: Final = lazy_pattern(r"context_(?:length|window|size)|string_above_max_length")
_TOO_SMALL_TEXT: Final = lazy_pattern(
    r"(?i:context ?(?:window|length|size)|prompt is too long|too many (?:input )?tokens)"
)
_MAY_BE_THE_MODEL: Final = (
    errors.BadRequestError,
    errors.UnprocessableEntityError,
    errors.NotFoundError,
)
_VERSION: Final = lazy_pattern(r"/v[0-9]")
_THREE_DIGITS: Final = lazy_pattern(r"[0-9]{3}")
_BOM: Final = b"\xef\xbb\xbf"
_LONGEST: Final = 400
_SPACE: Final = lazy_pattern(r"\s+")


def status_error(
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    *,
    scrubber: Scrubber,
    now: float,
    server: Server = POE,
) -> errors.APIStatusError:
    """Return the error for a refused request. `now` is seconds since 1970 (for dates)."""
    body = _body(content, scrubber)
    described = _error_object(body)
    text = reason_in(body)
    if 300 <= status <= 399:
        text = "the server redirects, which is never followed; check the base URL"
    error = _error(status, described, text or _without_reason(content), scrubber, server)
    error.body = body
    error.request_id = request_id_of(headers, scrubber)
    error.retry_after = retry_after(headers, now=now)
    error.may_retry = headers.get("x-should-retry", "").lower() != "false"
    return error


_ANSWERS: Final = ("chat.completion.chunk", "chat.completion")


def holds_error(document: Json) -> bool:
    """Return whether a document of status 200 reports an error instead of an answer."""
    if not isinstance(document, dict):
        return False
    if document.get("error"):
        return True
    has_choices = document.get("choices") is not None
    if has_choices and document.get("object") in _ANSWERS and "type" not in document:
        return False  # as almost always
    for key in ("object", "type"):
        kind = document.get(key)
        if isinstance(kind, str) and kind[-5:].lower() == "error":
            return True
    if has_choices or document.get("usage") is not None:
        return False
    has_status = isinstance(document.get("message"), str) and any(map(document.get, _STATUS_KEYS))
    return bool(has_status or document.get("detail") or document.get("errors"))


def error_inside(
    event: Json, *, request_id: str | None, scrubber: Scrubber, server: Server = POE
) -> errors.APIStatusError:
    """Return the error inside an answer of status 200, by its code or type."""
    event = _body(encode_json(event), scrubber)
    described = _error_object(event)
    text = reason_in(event) or "the server reported an error without a message"
    status = next(filter(None, (_status_in(described.get(key)) for key in _STATUS_KEYS)), 0)
    if not status:
        named, kind = str(described.get("code")), str(described.get("type"))
        status = _STATUS_OF_CODE.get(named) or STATUS_OF_TYPE.get(kind, 0)
    if not status:
        status = 500 if described.get("allow_retry", True) is not False else 400
    error = _error(status, described, text, scrubber, server)
    error.body = event
    error.request_id = request_id
    error.may_retry = described.get("allow_retry") is not False
    return error


def wants_other_model(error: errors.APIStatusError) -> bool:
    """Return whether a request was refused because its model is unknown or its context too small.

    Some gateways send these with the status of a bad request.
    """
    return error.status_code in _BAD_REQUEST and bool(
        _model_problem(error.code, error.type, error.message)
    )


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds a server asks to wait: `retry-after-ms`, seconds, or an HTTP date.

    A date is compared with the server's `date` header, as this machine's clock may be wrong.
    None if the value is not sensible: zero, negative, not a number, a broken date.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _sensible(milliseconds / 1000)
    written = headers.get("retry-after")
    seconds = _number(written)
    if seconds is not None:
        return _sensible(seconds)
    moment, then = http_date(written), http_date(headers.get("date"))
    return None if moment is None else _sensible(moment - (now if then is None else then))


def http_date(written: str | None) -> float | None:
    """Return an HTTP date as seconds since 1970."""
    if not written:
        return None
    from email.utils import parsedate_to_datetime

    try:
        moment = parsedate_to_datetime(written)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def safe_text(text: str, scrubber: Scrubber) -> str:
    """Return a server's text in one short line, without keys and control characters."""
    line = visible(_SPACE.sub(" ", scrubber.scrub_server_text(text)).strip()[: 2 * _LONGEST])
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def request_id_of(headers: Mapping[str, str], scrubber: Scrubber) -> str | None:
    """Return the server's `x-request-id`, or None."""
    written = headers.get("x-request-id")
    return safe_text(written, scrubber) if written else None


def _body(content: bytes, scrubber: Scrubber) -> Json:
    """Return a body without keys: as JSON, else as text; None for a web page."""
    try:
        document = content.removeprefix(_BOM).strip().removeprefix(b"data:")
        plain = encode_json(decode_json(document)).decode()
        return decode_json(
            scrubber.scrub(plain).encode()
        )  # keys in escaped forms are plain text now
    except RecursionError:
        return None
    except ValueError:
        return _plain_text(content, scrubber)


def _plain_text(content: bytes, scrubber: Scrubber) -> str | None:
    try:
        text = content.removeprefix(_BOM).decode().strip()
    except UnicodeDecodeError:
        return None
    return scrubber.scrub(text) if text and not _is_page(text) else None


def error_class_of(status: int) -> type[errors.APIStatusError]:
    """Return the error that an HTTP status stands for."""
    other = errors.InternalServerError if status >= 500 else errors.APIStatusError
    return BY_STATUS.get(status, other)


def _error(
    status: int, described: Mapping[str, Json], text: str, scrubber: Scrubber, server: Server
) -> errors.APIStatusError:
    kind, code, param = described.get("type"), described.get("code"), described.get("param")
    error_class = error_class_of(status)
    if status == 403 and kind == "moderation_error":
        error_class = errors.ModerationError
    if _is_about_money(kind) or _is_about_money(code):
        error_class = errors.InsufficientCreditsError
    return error_class(
        f"{safe_text(text, scrubber)} ({status})",
        status_code=status,
        hint=_hint(error_class, text, described, server),
        code=code if isinstance(code, str | int) else None,
        type=kind if isinstance(kind, str) else None,
        param=param if isinstance(param, str) else None,
    )


def _hint(
    error_class: type[errors.APIStatusError],
    text: str,
    described: Mapping[str, Json],
    server: Server,
) -> str:
    """Return a hint for a refusal, naming the server and its key."""
    fault = None
    if issubclass(error_class, _MAY_BE_THE_MODEL):
        fault = _model_problem(described.get("code"), described.get("type"), text)
    if issubclass(error_class, errors.AuthenticationError):
        key = f"check {server.variable}" if server.variable else "check the key"
        of = "; keys are at https://poe.com/api_key" if server.is_poe else ""
        return key + (of or f", the key of {server.name}")
    if issubclass(error_class, errors.InsufficientCreditsError):
        if server.is_poe:
            return "add points at https://poe.com/settings, or use a cheaper model"
        return f"add credit to the account at {server.name}, or use a cheaper model"
    if issubclass(error_class, errors.NotFoundError):
        path = urlsplit(server.base_url).path
        if "/chat/" in path or (server.base_url and not fault and not _VERSION.search(path)):
            usual = "most end in /v1, none in /chat/completions"
            return f"check the base URL {server.base_url}: {usual}"
    if fault == "unknown" or issubclass(error_class, errors.NotFoundError):
        if server.is_poe:
            return "check the model's name; private bots are not supported"
        return f"check the model's name; {server.name} does not know it"
    if fault == "small" or issubclass(error_class, errors.RequestTooLargeError):
        return "shorten the prompt or attach less"
    return "the service is busy; try again later" if error_class is errors.OverloadedError else ""


def _model_problem(code: Json, kind: Json, text: str) -> Literal["unknown", "small"] | None:
    names = f"{_snake_case(code)} {_snake_case(kind)}"
    if _TOO_SMALL_NAMES.search(names) or _TOO_SMALL_TEXT.search(text):
        return "small"
    return "unknown" if _UNKNOWN_NAMES.search(names) or _UNKNOWN_TEXT.search(text) else None


def _is_about_money(name: Json) -> bool:
    """Return whether the type or code of an error means an empty or unpaid account."""
    return bool(_MONEY.fullmatch(_snake_case(name)))


def _snake_case(name: Json) -> str:
    """Return a type or code in lower case, words joined by `_`."""
    if not isinstance(name, str):
        return ""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name[:200]).lower())


def _error_object(body: Json) -> Mapping[str, Json]:
    """Return the object that describes the error, in any known form."""
    if isinstance(body, list):
        return _error_object(body[0]) if body else {}
    if not isinstance(body, dict):
        return {}
    for key in ("error", "detail", "errors"):
        inner = body.get(key)
        if isinstance(inner, list) and inner:
            inner = inner[0]
        if isinstance(inner, dict):
            return {**{k: v for k, v in body.items() if k != key}, **inner}
    return body


def reason_in(body: Json, deepest: int = 4) -> str:
    """Return the server's reason for an error, empty if there is none.

    Reads the forms of OpenAI, FastAPI, problem+json and others.
    """
    if isinstance(body, str):
        return body.strip()
    if deepest == 0:
        return ""
    if isinstance(body, list):
        found = [reason_in(one, deepest - 1) for one in body[:_MOST_REASONS]]
        return "; ".join(filter(None, found))
    if not isinstance(body, dict):
        return ""
    reasons = (reason_in(body[key], deepest - 1) for key in _REASON_KEYS if body.get(key))
    reason = next(filter(None, reasons), "")
    beside = body.get("metadata")
    if reason and isinstance(beside, dict) and (raw := _raw_reason(beside.get("raw"))):
        reason = f"{reason}: {raw}"  # the reason of the provider behind a router
    place = body.get("loc")
    if reason and isinstance(place, list):
        return f"{'.'.join(map(str, place))}: {reason}"
    return reason


def _raw_reason(raw: Json) -> str:
    """Return the reason that a router passes on, as JSON text or otherwise."""
    try:
        return reason_in(
            decode_json(raw.encode("utf-8", "replace")) if isinstance(raw, str) else raw
        )
    except UNREADABLE:
        return raw if isinstance(raw, str) else ""


def _without_reason(content: bytes) -> str:
    if _is_page(content.decode("utf-8", "replace").lstrip()):
        return "the server answered with a web page"
    return "the server gave no reason"


def _is_page(text: str) -> bool:
    return text.startswith("<")


def _status_in(value: Json) -> int:
    number = int(value) if isinstance(value, str) and _THREE_DIGITS.fullmatch(value) else value
    return number if isinstance(number, int) and 400 <= number <= 599 else 0


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _sensible(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and seconds > 0 else None
