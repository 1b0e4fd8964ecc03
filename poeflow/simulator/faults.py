"""Error replies: the documented refusals, and simulated faults in good replies.

A recipe for a fault is `KIND[=VALUE][xTIMES][/EVERY]`, several are separated by commas: `429x2`
refuses each request twice before answering, `cut=200/10` cuts every tenth answer at 200 bytes.
"""

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from poeflow.digest import Json
from poeflow.errors import UsageError
from poeflow.flowfile.patterns import did_you_mean
from poeflow.lazy_pattern import lazy_pattern
from poeflow.simulator.http_messages import (
    JSON_TYPE,
    SSE_TYPE,
    Ending,
    Headers,
    Reply,
    Segment,
    encoded,
    event,
    in_json,
    whole,
)

Profile = Literal["legacy", "strict"]
KINDS: Final = {
    "cut": "the body ends after VALUE bytes (half of it)",
    "empty": "an answer without text, all of it given as reasoning",
    "error-event": "an error of status VALUE (500) inside a good answer",
    "html": "a web page with status VALUE (200) instead of JSON",
    "malformed": "JSON that breaks off in the middle",
    "no-done": "a stream without its closing [DONE]",
    "no-finish": "a stream that ends quietly before finish_reason and [DONE]",
    "ping": "comments VALUE (1) seconds apart, and no answer",
    "reset": "the connection is reset before the first byte",
    "slow": "VALUE (0.1) seconds between the pieces of the answer",
    "stall": "nothing more after VALUE bytes of the body; without VALUE no head either",
}
"""The effect of each recipe; also any status from 400 to 599, with VALUE as its Retry-After."""
REDIRECT: Final = 302
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
"""Statuses whose legacy body was observed without a code; the others are as documented."""
_SHAPE: Final = lazy_pattern(r"([a-z-]+|\d{3})(?:=(\d+(?:\.\d+)?))?(?:x(\d+))?(?:/(\d+))?")
_ASKS_TO_WAIT: Final = (429, 503)
_PIECES: Final = 8
_PINGS: Final = 1_000
_MAX_KNOWN: Final = 100_000
_PAGE: Final = b"<!doctype html>\n<title>Just a moment...</title>\n<h1>Checking your browser</h1>\n"


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """A fault. Empty texts mean the defaults of its status."""

    status: int
    message: str = ""
    kind: str = ""
    code: str = ""
    param: str = ""
    retry_after: float | None = None


class RefusedError(Exception):
    """The server refuses a request; has the contents of the reply."""

    def __init__(self, status: int, message: str, *, code: str = "", param: str = "") -> None:
        super().__init__(message)
        self.fault = Fault(status=status, message=message, code=code, param=param)


def refusal(fault: Fault, profile: Profile) -> Reply:
    """Return the reply for `fault`."""
    wait = fault.retry_after
    headers: Headers = () if wait is None else (("retry-after", f"{wait:g}"),)
    return in_json(fault.status, _error_body(fault, profile), headers)


def _error_body(fault: Fault, profile: Profile) -> dict[str, Json]:
    """Return the JSON body: in legacy without `code` or a number, in strict a word."""
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


class FaultRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """A fault that occurs `times` for each different request, at every `every`th of them."""

    kind: str
    value: float | None = None
    times: int | None = None
    every: int = 1


def read_recipes(text: str) -> tuple[FaultRecipe, ...]:
    """Parse recipes separated by commas. Raises `UsageError`."""
    return tuple(_recipe(part.strip()) for part in text.split(",") if part.strip())


def _recipe(text: str) -> FaultRecipe:
    match = _SHAPE.fullmatch(text)
    if match is None:
        hint = "write KIND[=VALUE][xTIMES][/EVERY], for example 429x2 or cut=200"
        raise UsageError(f'"{text}" is not a fault recipe', hint=hint)
    kind, value, times, every = match.groups()
    is_status = kind.isdecimal() and (400 <= int(kind) <= 599 or int(kind) == REDIRECT)
    if kind not in KINDS and not is_status:
        hint = did_you_mean(kind, KINDS) or f"known: a status from 400, {', '.join(KINDS)}"
        raise UsageError(f'unknown fault "{kind}"', hint=hint)
    if kind in ("html", "error-event") and value is not None and not _is_status(value):
        raise UsageError(f'"{text}": {value} is not a status', hint="write 200, or 400 to 599")
    if every is not None and int(every) < 1:
        raise UsageError(f'"{text}": EVERY must be at least 1', hint="write /1 or more")
    return FaultRecipe(
        kind=kind,
        value=float(value) if value else None,
        times=int(times) if times else None,
        every=int(every or 1),
    )


def _is_status(value: str) -> bool:
    return value == "200" or (value.isdecimal() and 400 <= int(value) <= 599)


class Faults:
    """Decides which recipe applies to a request: the first one that does."""

    def __init__(self, recipes: tuple[FaultRecipe, ...]) -> None:
        self._recipes = recipes
        self._asked = [0] * len(recipes)
        self._met: list[dict[str, int]] = [{} for _ in recipes]

    def next(self, seed: str) -> FaultRecipe | None:
        """Return the recipe for the request `seed` this time, if any."""
        return next((self._recipes[index] for index in self._hits(seed)), None)

    def _hits(self, seed: str) -> Iterator[int]:
        for index, recipe in enumerate(self._recipes):
            self._asked[index] += 1
            met = self._met[index]
            is_due = self._asked[index] % recipe.every == 0
            if not is_due or (recipe.times is not None and met.get(seed, 0) >= recipe.times):
                continue
            met[seed] = met.get(seed, 0) + 1
            if len(met) > _MAX_KNOWN:
                met.pop(next(iter(met)))
            yield index


def spoiled(reply: Reply, recipe: FaultRecipe, profile: Profile) -> Reply:
    """Return a good reply with the recipe's fault."""
    is_streamed = SSE_TYPE in reply.headers
    match recipe.kind:
        case "cut":
            return _shortened(reply, recipe.value, ending="cut")
        case "stall" if recipe.value is None:
            return msgspec.structs.replace(reply, segments=(), ending="silent")
        case "stall":
            return _shortened(reply, recipe.value, ending="stall")
        case "reset":
            return msgspec.structs.replace(reply, segments=(), ending="reset")
        case "malformed":
            return _malformed(reply, is_streamed=is_streamed)
        case "error-event":
            return _error_inside(reply, recipe, profile, is_streamed=is_streamed)
        case "html":
            page = whole(int(recipe.value or 200), _PAGE, (("content-type", "text/html"),))
            return msgspec.structs.replace(page, wait=reply.wait)
        case "no-done" if is_streamed:
            return msgspec.structs.replace(reply, segments=reply.segments[:-1])
        case "no-finish" if is_streamed:
            stored = (part for part in reply.segments[:-1] if not _is_last_word(part))
            return msgspec.structs.replace(reply, segments=tuple(stored))
        case "slow":
            return _slowed(reply, recipe.value or 0.1, is_streamed=is_streamed)
        case "ping":
            comments = tuple(Segment(b": ping\n\n", recipe.value or 1.0) for _ in range(_PINGS))
            return Reply(status=200, headers=(SSE_TYPE,), segments=comments, ending="cut")
        case status if status.isdecimal():
            return msgspec.structs.replace(_refused(recipe, profile), wait=reply.wait)
        case _:
            return reply


def _shortened(reply: Reply, value: float | None, *, ending: Ending) -> Reply:
    size = sum(len(segment.data) for segment in reply.segments)
    left = size // 2 if value is None else min(int(value), max(size - 1, 0))
    stored: list[Segment] = []
    for segment in reply.segments:
        if left <= 0:
            break
        stored.append(Segment(segment.data[:left], segment.wait))
        left -= len(segment.data)
    return msgspec.structs.replace(reply, segments=tuple(stored), ending=ending)


def _malformed(reply: Reply, *, is_streamed: bool) -> Reply:
    if not is_streamed:
        data = b"".join(segment.data for segment in reply.segments)
        broken = whole(reply.status, data[: len(data) // 2], (JSON_TYPE,))
        return msgspec.structs.replace(broken, wait=reply.wait)
    at = len(reply.segments) // 2
    data = reply.segments[at].data
    bad = Segment(data[: len(data) // 2].rstrip() + b"\n\n")
    parts = (*reply.segments[:at], bad, *reply.segments[at + 1 :])
    return msgspec.structs.replace(reply, segments=parts)


def _error_inside(
    reply: Reply, recipe: FaultRecipe, profile: Profile, *, is_streamed: bool
) -> Reply:
    body = encoded(_error_body(Fault(status=int(recipe.value or 500)), profile))
    if not is_streamed:
        return msgspec.structs.replace(whole(200, body, (JSON_TYPE,)), wait=reply.wait)
    before = reply.segments[: len(reply.segments) // 2]
    return msgspec.structs.replace(reply, segments=(*before, Segment(event(body))))


def _is_last_word(segment: Segment) -> bool:
    """Return whether an event has the finish reason, or the usage after it."""
    is_open = b'"finish_reason":null' in segment.data
    return not is_open


def _slowed(reply: Reply, wait: float, *, is_streamed: bool) -> Reply:
    if is_streamed:
        parts = tuple(Segment(segment.data, wait) for segment in reply.segments)
        return msgspec.structs.replace(reply, segments=parts)
    data = b"".join(segment.data for segment in reply.segments)
    step = max(1, -(-len(data) // _PIECES))
    starts = range(0, len(data), step)
    parts = tuple(Segment(data[start : start + step], wait) for start in starts)
    return msgspec.structs.replace(reply, segments=parts)


def _refused(recipe: FaultRecipe, profile: Profile) -> Reply:
    status = int(recipe.kind)
    wait = recipe.value
    if wait is None and status in _ASKS_TO_WAIT:
        wait = 1.0
    reply = refusal(Fault(status=status, retry_after=wait), profile)
    if status != REDIRECT:
        return reply
    elsewhere = ("location", "https://example.com/v1/chat/completions")
    return msgspec.structs.replace(reply, headers=(*reply.headers, elsewhere))
