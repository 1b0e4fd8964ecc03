"""What a client is set up with, and how its calls are made of it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Final, Literal
from urllib.parse import urlencode, urlsplit

from poeflow.client.commands import Call, Conduct, Timeouts
from poeflow.client.limits import Pace
from poeflow.client.messages import ChatRequest
from poeflow.client.params import AskParams, encoded
from poeflow.client.progress import Progress
from poeflow.client.retry import DEFAULT_ATTEMPTS, Policy
from poeflow.client.wire import Body, WireRequest, chat_body, origin_of
from poeflow.clock import Clock
from poeflow.errors import AccountError, UsageError
from poeflow.redact import Scrubber, Secret, visible
from poeflow.settings import (
    DEFAULT_BASE_URL,
    KEY_PAGE,
    KEY_VARIABLE,
    api_key_from,
    base_url_from,
    process_environment,
)

CHAT: Final = "/chat/completions"
_LONGEST_TIMEOUT: Final = 86_400
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_OUR_HEADERS: Final = frozenset(
    {"authorization", "connection", "content-length", "expect", "host", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
Validation = Literal["strict", "legacy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A client's settings. `key` None means requests go out without one (a local server)."""

    key: Secret | None
    base_url: str
    conduct: Conduct
    validation: Validation | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_(
        self,
        *,
        attempts: int | None = None,
        timeout: float | Timeouts | None = None,
        validation: Validation | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "Options":
        """Return the same options but for what is given."""
        policy, timeouts = self.conduct.policy, self.conduct.timeouts
        if attempts is not None:
            policy = replace(policy, attempts=_at_least_one("attempts", attempts))
        if timeout is not None:
            timeouts = _timeouts(timeout, timeouts)
        return replace(
            self,
            conduct=replace(self.conduct, policy=policy, timeouts=timeouts),
            validation=validation or self.validation,
            headers={**self.headers, **(headers or {})},
        )

    def call(
        self, request: ChatRequest, *, on_progress: Callable[[Progress], None] | None, media: bool
    ) -> Call:
        """Return the call of a whole request."""
        return Call(
            request=self._post(chat_body(request), {}, {}),
            streams=request.stream,
            is_media=media,
            on_progress=on_progress,
        )

    def call_of(self, params: AskParams, *, stream: bool) -> Call:
        """Return the call of `create`'s arguments. Raises `UsageError`."""
        body = encoded(params, stream=stream)
        timeout = params.get("timeout")
        return Call(
            request=self._post(
                Body((body,)), params.get("extra_headers") or {}, params.get("extra_query") or {}
            ),
            streams=stream,
            is_media=params.get("media", False),
            total=None if timeout is None else _positive("timeout", timeout),
        )

    def get(self, path: str, query: Mapping[str, str], *, at_origin: bool = False) -> Call:
        """Return the call that reads a document: below the base URL, or below its origin."""
        request = WireRequest(
            origin=origin_of(self.base_url),
            target=("" if at_origin else urlsplit(self.base_url).path) + path + _query(query),
            method="GET",
            headers=self._headers({}),
        )
        return Call(request=request)

    def _post(
        self, body: Body, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> WireRequest:
        return WireRequest(
            origin=origin_of(self.base_url),
            target=urlsplit(self.base_url).path + CHAT + _query(query),
            headers=(("content-type", "application/json"), *self._headers(headers)),
            body=body,
        )

    def _headers(self, given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        headers = {"accept-encoding": "gzip, deflate", "user-agent": "poeflow"}
        if self.validation is not None:
            headers["poe-feature"] = f"chat-completions-{self.validation}"
        for name, value in {**self.headers, **given}.items():
            headers[_header_name(name, value)] = value
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key.reveal()}"
        return tuple(headers.items())


def options_from(
    *,
    api_key: str | Secret | None,
    base_url: str | None,
    allow_insecure: bool,
    clock: Clock,
    attempts: int = DEFAULT_ATTEMPTS,
    timeout: float | Timeouts | None = None,
    concurrency: int | None = None,
    requests_per_minute: int | None = None,
    validation: Validation | None = None,
) -> Options:
    """Return a client's options; key and base URL fall back to the environment.

    Raises `AccountError` without a key, `UsageError` where an argument is wrong.
    """
    environ = process_environment()
    url = checked_url(
        base_url or base_url_from(environ) or DEFAULT_BASE_URL, allow_insecure=allow_insecure
    )
    key = _key(api_key) if api_key is not None else api_key_from(environ)
    if key is None:
        raise AccountError(
            "there is no API key", hint=f"set {KEY_VARIABLE}; keys are at {KEY_PAGE}"
        )
    for name, limit in (("concurrency", concurrency), ("requests_per_minute", requests_per_minute)):
        if limit is not None:
            _at_least_one(name, limit)
    conduct = Conduct(
        clock=clock,
        scrubber=Scrubber(key),
        pace=Pace(per_minute=requests_per_minute),
        policy=Policy(attempts=_at_least_one("attempts", attempts)),
        timeouts=_timeouts(timeout, Timeouts()) if timeout is not None else Timeouts(),
    )
    return Options(key=key, base_url=url, conduct=conduct, validation=validation)


def checked_url(url: str, *, allow_insecure: bool) -> str:
    """Return a base URL without its last slash.

    Raises `UsageError`, also for plain http: it would show the key to everyone on the way.
    """
    try:
        parts, origin = urlsplit(url), origin_of(url)
    except ValueError:
        raise UsageError("base_url is not a web address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError("base_url is not a web address", hint=f"it looks like {DEFAULT_BASE_URL}")
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError("base_url may hold no user name, query or fragment")
    if parts.scheme == "http" and not origin.is_loopback and not allow_insecure:
        raise UsageError(
            f"base_url {origin} is not encrypted",
            hint="use https, or pass allow_insecure=True where the network is yours",
        )
    return url.rstrip("/")


def _header_name(name: str, value: str) -> str:
    """Return the name in lower case. Raises `UsageError`: a line break would begin a new one."""
    lower = name.lower()
    if lower in _OUR_HEADERS:
        raise UsageError(f"the header {lower} is set by the client")
    if not _HEADER_NAME.fullmatch(lower) or not _HEADER_VALUE.fullmatch(value):
        shown = visible(name)
        raise UsageError(f"the header {shown} holds what HTTP does not allow", hint="use ASCII")
    return lower


def _key(given: str | Secret) -> Secret:
    if isinstance(given, Secret):
        return given
    try:
        return Secret(given)
    except ValueError as error:
        raise AccountError(f"api_key: {error}", hint=f"keys are at {KEY_PAGE}") from None


def _timeouts(given: float | Timeouts, otherwise: Timeouts) -> Timeouts:
    if isinstance(given, Timeouts):
        for clock in fields(given):
            _positive(f"timeout.{clock.name}", getattr(given, clock.name))
        return given
    return replace(otherwise, total=_positive("timeout", given), media=given)


def _positive(name: str, value: float) -> float:
    if not 0 < value <= _LONGEST_TIMEOUT:
        raise UsageError(f"{name} must be seconds, above 0 and at most {_LONGEST_TIMEOUT}")
    return float(value)


def _at_least_one(name: str, value: int) -> int:
    if value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1")
    return value


def _query(query: Mapping[str, str]) -> str:
    return f"?{urlencode(query)}" if query else ""
