"""The settings of a client, from its arguments and the environment."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Final, Literal
from urllib.parse import urlencode, urlsplit

from poeflow import settings
from poeflow.client.commands import Call, ClientConfig, Progress, Timeouts
from poeflow.client.failures import POE, Server
from poeflow.client.http.wire import Body, WireRequest, chat_body, origin_of
from poeflow.client.messages import AskParams, ChatRequest, encoded
from poeflow.client.retry import DEFAULT_ATTEMPTS, Policy, RateLimiter
from poeflow.clock import Clock
from poeflow.errors import AccountError, UsageError
from poeflow.redact import Scrubber, Secret, visible

CHAT: Final = "/chat/completions"
_LONGEST_TIMEOUT: Final = 86_400
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
_OUR_HEADERS: Final = frozenset(
    {"authorization", "connection", "content-length", "expect", "host", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
Validation = Literal["strict", "legacy"]
_VALIDATIONS: Final = ("strict", "legacy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """A client's settings.

    Without a `key` none is sent. `proxy` is the address of the proxy in front of it, or None.
    """

    key: Secret | None
    base_url: str
    config: ClientConfig
    validation: Validation | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    proxy: str | None = field(default=None, repr=False)

    def with_(
        self,
        *,
        attempts: int | None = None,
        timeout: float | Timeouts | None = None,
        validation: Validation | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "Options":
        """Return the same options but for what is given."""
        policy, timeouts = self.config.policy, self.config.timeouts
        if attempts is not None:
            policy = replace(policy, attempts=at_least_one("attempts", attempts))
        if timeout is not None:
            timeouts = timeouts_from(timeout, timeouts)
        if headers is not None and not isinstance(headers, Mapping):
            raise UsageError("headers must be a mapping")
        return replace(
            self,
            config=replace(self.config, policy=policy, timeouts=timeouts),
            validation=validation_from(validation) or self.validation,
            headers={**self.headers, **(headers or {})},
        )

    def call(
        self,
        request: ChatRequest,
        *,
        on_progress: Callable[[Progress], None] | None,
        media: bool,
        permit: Callable[[], None] | None,
    ) -> Call:
        """Return the call of a whole request. Raises `UsageError` for what is none."""
        given: object = request
        if not isinstance(given, ChatRequest):
            raise UsageError("ask takes a ChatRequest", hint="create takes keyword arguments")
        return Call(
            request=self._post(chat_body(request), {}, {}),
            streams=request.stream,
            is_media=media,
            on_progress=on_progress,
            permit=permit,
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
            headers=self._headers(headers, {"content-type": "application/json"}),
            body=body,
        )

    def _headers(
        self, given: Mapping[str, str], usual: Mapping[str, str] | None = None
    ) -> tuple[tuple[str, str], ...]:
        ours = {"accept-encoding": "gzip, deflate", "user-agent": "poeflow"}
        headers = {**(usual or {}), **ours}
        if self.validation is not None:
            headers["poe-feature"] = f"chat-completions-{self.validation}"
        for name, value in {**_lower(self.headers), **_lower(given)}.items():
            headers[_header_name(name, value)] = value
        if self.key is not None:
            headers["authorization"] = f"Bearer {self.key.reveal()}"
        return tuple(headers.items())


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers by their names in lower case, so that none is sent twice.

    Raises `UsageError` where a name or value is no text.
    """
    given: Iterable[tuple[object, object]] = headers.items()
    for name, value in given:
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError("headers must be texts, names and values")
    return {name.lower(): value for name, value in headers.items()}


def _header_name(lower: str, value: str) -> str:
    """Return the name. Raises `UsageError`: a line break would begin a new one."""
    if lower in _OUR_HEADERS:
        raise UsageError(f"the header {lower} is set by the client")
    if not _HEADER_NAME.fullmatch(lower) or not _HEADER_VALUE.fullmatch(value):
        shown = visible(lower)
        raise UsageError(f"the header {shown} holds what HTTP does not allow", hint="use ASCII")
    return lower


def _query(query: Mapping[str, str]) -> str:
    if not all(isinstance(one, str | int | float) for pair in query.items() for one in pair):
        raise UsageError("extra_query must hold texts or numbers")
    return f"?{urlencode(query)}" if query else ""


def timeouts_from(given: float | Timeouts, otherwise: Timeouts) -> Timeouts:
    if isinstance(given, Timeouts):
        for clock in fields(given):
            _positive(f"timeout.{clock.name}", getattr(given, clock.name))
        return given
    total = _positive("timeout", given)
    return replace(otherwise, total=total, media=total)


def _positive(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} must be seconds", hint="or poeflow.Timeouts, for a client")
    if not 0 < value <= _LONGEST_TIMEOUT:
        raise UsageError(f"{name} must be seconds, above 0 and at most {_LONGEST_TIMEOUT}")
    return float(value)


def validation_from(given: Validation | None) -> Validation | None:
    if given is not None and given not in _VALIDATIONS:
        raise UsageError("validation must be strict or legacy")
    return given


def at_least_one(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} must be a whole number of at least 1")
    return value


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
    keyless: bool = False,
    server: Server | None = None,
) -> Options:
    """Return a client's options; key and base URL fall back to the environment.

    One that is `keyless` sends no key. Raises `AccountError` without a key, `UsageError` where an
    argument is wrong.
    """
    environ = settings.process_environment()
    url = checked_url(
        base_url or settings.base_url_from(environ) or settings.DEFAULT_BASE_URL,
        allow_insecure=allow_insecure,
    )
    key = None if keyless else _key(api_key, environ)
    for name, limit in (("concurrency", concurrency), ("requests_per_minute", requests_per_minute)):
        if limit is not None:
            at_least_one(name, limit)
    config = ClientConfig(
        clock=clock,
        scrubber=Scrubber(*([key] if key is not None else [])),
        server=_server(server, url, is_given=keyless or api_key is not None),
        rate_limiter=RateLimiter(per_minute=requests_per_minute),
        policy=Policy(attempts=at_least_one("attempts", attempts)),
        timeouts=timeouts_from(timeout, Timeouts()) if timeout is not None else Timeouts(),
    )
    settings.check_certificates(environ)
    proxy = settings.proxy_from(environ, url)
    return Options(
        key=key, base_url=url, config=config, validation=validation_from(validation), proxy=proxy
    )


def _server(named: Server | None, url: str, *, is_given: bool) -> Server:
    """Return whom hints speak of; where the caller does not say so, Poe or an address."""
    if named is None and origin_of(url) == origin_of(settings.DEFAULT_BASE_URL):
        named = POE
    if named is None:
        variable = "" if is_given else settings.KEY_VARIABLE
        named = Server(name=str(origin_of(url)), variable=variable, is_poe=False)
    return replace(named, base_url=url)


def checked_url(url: object, *, allow_insecure: bool) -> str:
    """Return a base URL without its last slash.

    Raises `UsageError`, also for plain http: it would show the key to everyone on the way.
    """
    if not isinstance(url, str):
        raise UsageError("base_url must be a text", hint=f"such as {settings.DEFAULT_BASE_URL}")
    url = settings.checked_base_url(url, named="base_url")
    parts, origin = urlsplit(url), origin_of(url)
    if parts.scheme == "http" and not origin.is_loopback and not allow_insecure:
        raise UsageError(
            f"base_url {origin} is not encrypted",
            hint="use https, or pass allow_insecure=True where the network is yours",
        )
    return url


def _key(given: str | Secret | None, environ: Mapping[str, str]) -> Secret:
    """Return the key a client was given, else that of the environment. Raises `AccountError`."""
    if isinstance(given, Secret):
        return given
    if given is None:
        found = settings.api_key_from(environ)
        if found is None:
            hint = f"set {settings.KEY_VARIABLE}; keys are at {settings.KEY_PAGE}"
            raise AccountError("there is no API key", hint=hint)
        return found
    if not isinstance(given, str):
        raise UsageError("api_key must be a text or a Secret")
    try:
        return Secret(given)
    except ValueError as error:
        raise AccountError(f"api_key: {error}", hint=f"keys are at {settings.KEY_PAGE}") from None
