"""The settings of a client, from its arguments and the environment.

`Client` is what both clients do without awaiting; `sync` and `aio` do the rest.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Generic, Literal, Self, TypedDict, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from poeflow import settings
from poeflow.client.calls import Call, ClientConfig, Progress, Timeouts, chat_body
from poeflow.client.failures import POE, Server
from poeflow.client.http.wire import Body, WireRequest, origin_of
from poeflow.client.messages import ChatRequest, CreateParams, encode_params
from poeflow.client.retry import DEFAULT_ATTEMPTS, RateLimiter, RetryPolicy
from poeflow.clock import Clock, SystemClock
from poeflow.errors import AccountError, UsageError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.redact import Scrubber, Secret, fields_without, repr_without, visible

CHAT: Final = "/chat/completions"
_LONGEST_TIMEOUT: Final = 86_400
_HEADER_NAME: Final = lazy_pattern(r"[!#$%&'*+.^_`|~0-9a-z-]+")
_HEADER_VALUE: Final = lazy_pattern(r"[\t\x20-\x7e]*")
_OUR_HEADERS: Final = frozenset(
    {"authorization", "connection", "content-length", "expect", "host", "te", "trailer"}
    | {"transfer-encoding", "upgrade"}
)
Validation = Literal["strict", "legacy"]
_VALIDATIONS: Final = ("strict", "legacy")


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """A client's settings.

    Without `key` no key is sent. `proxy` is the address of the proxy to use, or None.
    """

    key: Secret | None
    base_url: str
    config: ClientConfig
    validation: Validation | None = None
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    proxy: str | None = None
    _chat: list[WireRequest] = msgspec.field(default_factory=list)
    """A chat request without a body, once one was made: the others differ only in theirs."""

    def __repr__(self) -> str:
        return repr_without(self, "proxy", "_chat")

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return fields_without(self, "proxy", "_chat")

    def with_(
        self,
        *,
        attempts: int | None = None,
        timeout: float | Timeouts | None = None,
        validation: Validation | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "Options":
        """Return the options with some of them replaced."""
        policy, timeouts = self.config.policy, self.config.timeouts
        is_same = attempts in (None, policy.attempts) and not isinstance(attempts, bool)
        if is_same and timeout is None and validation is None and headers is None:
            return self
        if attempts is not None:
            policy = msgspec.structs.replace(policy, attempts=at_least_one("attempts", attempts))
        if timeout is not None:
            timeouts = timeouts_from(timeout, timeouts)
        if headers is not None and not isinstance(headers, Mapping):
            raise UsageError("headers must be a mapping")
        return msgspec.structs.replace(
            self,
            config=msgspec.structs.replace(self.config, policy=policy, timeouts=timeouts),
            validation=validation_from(validation) or self.validation,
            headers={**self.headers, **(headers or {})},
            _chat=[],
        )

    def call(
        self,
        request: ChatRequest,
        *,
        on_progress: Callable[[Progress], None] | None,
        media: bool,
        permit: Callable[[], None] | None,
        pace: Callable[[], float] | None = None,
        hears_text: bool = True,
    ) -> Call:
        """Return the call of a whole request. Raises `UsageError` if it is not one."""
        given: object = request
        if not isinstance(given, ChatRequest):
            raise UsageError("ask takes a ChatRequest", hint="create takes keyword arguments")
        return Call(
            request=self._chat_request(chat_body(request)),
            streams=request.stream,
            is_media=media,
            on_progress=on_progress,
            hears_text=hears_text,
            permit=permit,
            pace=pace,
        )

    def call_of(self, params: CreateParams, *, stream: bool) -> Call:
        """Return the call for the arguments of `create`. Raises `UsageError`."""
        body = encode_params(params, stream=stream)
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
        """Return the call for a document, below the base URL or its origin."""
        request = WireRequest(
            origin=origin_of(self.base_url),
            target=("" if at_origin else urlsplit(self.base_url).path) + path + _query(query),
            method="GET",
            headers=self._headers({}),
        )
        return Call(request=request)

    def _chat_request(self, body: Body) -> WireRequest:
        if not self._chat:
            self._chat.append(self._post(Body(), {}, {}))
        return self._chat[0].with_body(body)

    def _post(
        self, body: Body, headers: Mapping[str, str], query: Mapping[str, object]
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


class AskOptions(TypedDict, total=False):
    """Keyword arguments of `ask`.

    `attempts` and `timeout`, in seconds, replace those of the client. `on_progress` receives the
    pieces of a streamed answer, and `Retrying` when earlier pieces become invalid; with
    `hears_text=False` only that, which is faster. `media=True` is for an image, video or audio
    bot, as in `create`. `permit` is called before every send, retries included; an exception from
    it ends the call. `pace` is called before that until it returns 0, else the seconds to wait.
    """

    on_progress: Callable[[Progress], None] | None
    hears_text: bool
    attempts: int | None
    timeout: float | None
    media: bool
    permit: Callable[[], None] | None
    pace: Callable[[], float] | None


InjectedT = TypeVar("InjectedT")
ChannelsT = TypeVar("ChannelsT")


class Client(Generic[InjectedT, ChannelsT]):
    """The part of both clients that awaits nothing: their arguments and options."""

    def __init__(
        self,
        *,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        attempts: int = DEFAULT_ATTEMPTS,
        timeout: float | Timeouts | None = None,
        concurrency: int | None = None,
        requests_per_minute: int | RateLimiter | None = None,
        validation: Validation | None = None,
        transport: InjectedT | None = None,
        allow_insecure: bool = False,
        keyless: bool = False,
        clock: Clock | None = None,
        server: Server | None = None,
    ) -> None:
        """Make a client. Nothing is sent.

        `api_key` and `base_url` fall back to `POE_API_KEY` and `POE_BASE_URL`. `attempts` counts
        all sends of one request. `timeout` is seconds for each attempt, or `Timeouts`.
        `concurrency` (of each event loop) and `requests_per_minute` limit this client; after a 429
        it pauses all requests. `validation` asks the server for `strict` or `legacy` checks (the
        `poe-feature` header). `transport` is one of httpx's or any object with `send` and `close`,
        or `aclose` for the asynchronous client. Plain http beyond loopback needs
        `allow_insecure=True`. With `keyless` no key is sent, for servers without keys. `server` is
        the server that hints name, by default found from the address. Clients that get the same
        `RateLimiter` as `requests_per_minute` wait together.

        Raises `AccountError` without a key and `UsageError` if an argument is wrong.
        """
        options = make_options(
            api_key=api_key,
            base_url=base_url,
            allow_insecure=allow_insecure,
            clock=clock or SystemClock(),
            attempts=attempts,
            timeout=timeout,
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            validation=validation,
            keyless=keyless,
            server=server,
        )
        self._set_up(options, self._open_channels(options, transport, concurrency))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._options.base_url!r})"

    @property
    def base_url(self) -> str:
        """The address of the server, without a last slash."""
        return self._options.base_url

    def with_options(
        self,
        *,
        attempts: int | None = None,
        timeout: float | Timeouts | None = None,
        validation: Validation | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a client with other options that shares connections, rate limit and slots."""
        changed = self._options.with_(
            attempts=attempts, timeout=timeout, validation=validation, headers=headers
        )
        client = object.__new__(type(self))
        client._set_up(changed, self._channels)
        return client

    def _set_up(self, options: Options, channels: ChannelsT) -> None:
        """Store both. A client overrides this to make its resources."""
        self._options = options
        self._channels = channels

    def _open_channels(
        self, options: Options, transport: InjectedT | None, concurrency: int | None
    ) -> ChannelsT:
        """Return the channels of a new client. Each client overrides this."""
        raise NotImplementedError


class Resource(Generic[ChannelsT]):
    """A part of a client, such as `client.models`."""

    def __init__(self, options: Options, channels: ChannelsT) -> None:
        self._options = options
        self._channels = channels


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers with names in lower case, so that none is sent twice.

    Raises `UsageError` if a name or value is not a text.
    """
    given: Iterable[tuple[object, object]] = headers.items()
    for name, value in given:
        if not isinstance(name, str) or not isinstance(value, str):
            raise UsageError("headers must be texts, names and values")
    return {name.lower(): value for name, value in headers.items()}


def _header_name(lower: str, value: str) -> str:
    """Return the name. Raises `UsageError` for line breaks, which would begin a new header."""
    if lower in _OUR_HEADERS:
        raise UsageError(f"the header {lower} is set by the client")
    if not _HEADER_NAME.fullmatch(lower) or not _HEADER_VALUE.fullmatch(value):
        shown = visible(lower)
        raise UsageError(
            f"the header {shown} has characters that HTTP does not allow", hint="use ASCII"
        )
    return lower


def _query(query: Mapping[str, object]) -> str:
    """Return a query as the OpenAI SDK writes it: `a[]=1&a[]=2` for a list, `true` for True."""
    pairs: list[tuple[str, object]] = []
    for name, value in query.items():
        is_list = isinstance(value, list | tuple)
        for one in value if isinstance(value, list | tuple) else (value,):
            if not isinstance(one, str | int | float) or not isinstance(name, str | int | float):
                raise UsageError("extra_query must have texts or numbers as values, or lists")
            spelled = str(one).lower() if isinstance(one, bool) else one
            pairs.append((f"{name}[]" if is_list else name, spelled))
    return f"?{urlencode(pairs)}" if pairs else ""


def timeouts_from(given: float | Timeouts, otherwise: Timeouts) -> Timeouts:
    if isinstance(given, Timeouts):
        for clock in given.__struct_fields__:
            _positive(f"timeout.{clock}", getattr(given, clock))
        return given
    total = _positive("timeout", given)
    return msgspec.structs.replace(otherwise, total=total, media=total)


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


def make_options(
    *,
    api_key: str | Secret | None,
    base_url: str | None,
    allow_insecure: bool,
    clock: Clock,
    attempts: int = DEFAULT_ATTEMPTS,
    timeout: float | Timeouts | None = None,
    concurrency: int | None = None,
    requests_per_minute: int | RateLimiter | None = None,
    validation: Validation | None = None,
    keyless: bool = False,
    server: Server | None = None,
) -> Options:
    """Return a client's options; key and base URL fall back to the environment.

    With `keyless` no key is sent. Raises `AccountError` without a key, `UsageError` if an
    argument is wrong.
    """
    environ = settings.process_environment()
    url = checked_url(
        base_url or settings.base_url_from(environ) or settings.DEFAULT_BASE_URL,
        allow_insecure=allow_insecure,
    )
    key = None if keyless else _key(api_key, environ)
    if concurrency is not None:
        at_least_one("concurrency", concurrency)
    config = ClientConfig(
        clock=clock,
        scrubber=Scrubber(*([key] if key is not None else [])),
        server=_server(server, url, is_given=keyless or api_key is not None),
        rate_limiter=_limiter(requests_per_minute),
        policy=RetryPolicy(attempts=at_least_one("attempts", attempts)),
        timeouts=timeouts_from(timeout, Timeouts()) if timeout is not None else Timeouts(),
    )
    settings.check_certificates(environ)
    proxy = settings.proxy_from(environ, url)
    return Options(
        key=key, base_url=url, config=config, validation=validation_from(validation), proxy=proxy
    )


def _limiter(requests_per_minute: int | RateLimiter | None) -> RateLimiter:
    """Return the caller's limiter, else a new one."""
    if isinstance(requests_per_minute, RateLimiter):
        return requests_per_minute
    if requests_per_minute is not None:
        at_least_one("requests_per_minute", requests_per_minute)
    return RateLimiter(per_minute=requests_per_minute)


def _server(named: Server | None, url: str, *, is_given: bool) -> Server:
    """Return the server that hints name: the caller's, else Poe or the address."""
    if named is None and origin_of(url) == origin_of(settings.DEFAULT_BASE_URL):
        named = POE
    if named is None:
        variable = "" if is_given else settings.KEY_VARIABLE
        named = Server(name=str(origin_of(url)), variable=variable, is_poe=False)
    return msgspec.structs.replace(named, base_url=url)


def checked_url(url: object, *, allow_insecure: bool) -> str:
    """Return a base URL without its last slash.

    Raises `UsageError`, also for plain http, which would expose the key.
    """
    if not isinstance(url, str):
        raise UsageError("base_url must be a text", hint=f"such as {settings.DEFAULT_BASE_URL}")
    url = settings.checked_base_url(url, named="base_url")
    parts, origin = urlsplit(url), origin_of(url)
    if parts.scheme == "http" and not origin.is_loopback and not allow_insecure:
        raise UsageError(
            f"base_url {origin} is not encrypted",
            hint="use https, or pass allow_insecure=True if the network is yours",
        )
    return url


def _key(given: str | Secret | None, environ: Mapping[str, str]) -> Secret:
    """Return the given key, else that of the environment. Raises `AccountError`."""
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
