"""How the server says no: the documented statuses, in each of the body shapes seen."""

from typing import Final, Literal

import msgspec

from poeflow.digest import Json
from poeflow.simulator.http_messages import Headers, Reply, in_json

Profile = Literal["legacy", "strict"]

_LEGACY: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_credits",
    403: "moderation_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    422: "invalid_request_error",
    429: "rate_limit_error",
    500: "provider_error",
    502: "upstream_error",
    503: "service_unavailable",
    529: "overloaded_error",
}
_STRICT: Final = {
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_points"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("api_error", "internal_error"),
}
_BARE: Final = frozenset({400, 404, 405, 422, 500})
"""Statuses whose legacy body was recorded without a code; the others are as documented."""

SENTENCES: Final = {
    401: "Incorrect API key provided. You can find your API key at https://poe.com/api_key.",
    402: "The account has no points left.",
    403: "The request was refused by moderation.",
    408: "The model did not start to answer in time.",
    413: "The request is larger than the model's context.",
    429: "Too many requests; slow down.",
    500: "The provider failed to answer.",
    502: "The provider cannot be reached.",
    503: "The service is unavailable for the moment.",
    529: "The provider is overloaded.",
}


class RefusedError(Exception):
    """A request the server refuses, with what its reply says."""

    def __init__(self, status: int, message: str, *, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.fault = Fault(status=status, message=message, code=code, param=param)


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """What goes wrong. Empty texts stand for what the status has by itself."""

    status: int
    message: str = ""
    kind: str = ""
    code: str = ""
    param: str = ""
    retry_after: float | None = None


def error_body(fault: Fault, profile: Profile) -> dict[str, Json]:
    """Return the JSON body: bare or with a number as `code` in legacy, a word in strict."""
    status = fault.status
    message = fault.message or SENTENCES.get(status, f"The server answered {status}.")
    kind = fault.kind or _LEGACY.get(status, "api_error")
    if profile == "strict":
        strict_kind, code = _STRICT.get(status, (kind, ""))
        error: dict[str, Json] = {"message": message, "type": fault.kind or strict_kind}
        error |= {"param": fault.param or None, "code": fault.code or code or None}
    elif status in _BARE or fault.code:
        error = {"message": message, "type": kind}
        error |= {"param": fault.param} if fault.param else {}
        error |= {"code": fault.code} if fault.code else {}
    else:
        error = {"code": status, "type": kind, "message": message, "metadata": {}}
    return {"error": error}


def refusal(fault: Fault, profile: Profile) -> Reply:
    """Return the reply that carries `fault`."""
    wait = fault.retry_after
    headers: Headers = () if wait is None else (("retry-after", f"{wait:g}"),)
    return in_json(fault.status, error_body(fault, profile), headers)
