"""The synchronous client: drives the exchange, one blocking step after the other."""

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Literal, Self, TypeVar, Unpack, overload

from poeflow.client.account import (
    Balance,
    Model,
    PointsPage,
    balance_from,
    models_from,
    points_from,
    points_query,
)
from poeflow.client.answers import Completion
from poeflow.client.commands import Exchange, Timeouts
from poeflow.client.driving import drive
from poeflow.client.exchange import Opened, completed, fetched, opened
from poeflow.client.messages import ChatRequest
from poeflow.client.options import Options, Validation, options_from
from poeflow.client.params import AskParams
from poeflow.client.progress import Progress
from poeflow.client.sync_stream import Line, Stream
from poeflow.client.transport import Injected, Transport, transport_for
from poeflow.clock import Clock, SystemClock
from poeflow.redact import Secret
from poeflow.settings import check_certificates, process_environment, proxy_from

T = TypeVar("T")


class PoeClient:
    """A client of Poe's chat completions API, or of anything that speaks it.

    `api_key` and `base_url` fall back to `POE_API_KEY` and `POE_BASE_URL`. `attempts` counts all
    sends of one request. `timeout` is seconds for each attempt, or `Timeouts`. `concurrency` and
    `requests_per_minute` bound what this client does at once; a 429 pauses all of it.
    `validation` asks the server for `strict` or `legacy` checks (the `poe-feature` header).
    `transport` is one of httpx's or any object with `send` and `close`. Plain http beyond
    loopback needs `allow_insecure=True`.

    Close it, or use it in a `with` statement. Safe between threads. Raises `AccountError` without
    a key and `UsageError` where an argument is wrong.
    """

    def __init__(
        self,
        *,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        attempts: int = 4,
        timeout: float | Timeouts | None = None,
        concurrency: int | None = None,
        requests_per_minute: int | None = None,
        validation: Validation | None = None,
        transport: "Injected | None" = None,
        allow_insecure: bool = False,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        options = options_from(
            api_key=api_key,
            base_url=base_url,
            allow_insecure=allow_insecure,
            clock=clock,
            attempts=attempts,
            timeout=timeout,
            concurrency=concurrency,
            requests_per_minute=requests_per_minute,
            validation=validation,
        )
        environ = process_environment()
        check_certificates(environ)
        proxy = proxy_from(environ, options.base_url)
        carrier = transport_for(transport, proxy=proxy, clock=clock)
        slots = threading.BoundedSemaphore(concurrency) if concurrency else nullcontext()
        self._set_up(options, carrier, slots)

    def _set_up(
        self, options: Options, carrier: Transport, slots: AbstractContextManager[object]
    ) -> None:
        self._options = options
        self._carrier = carrier
        self._slots = slots
        self.chat = _Chat(self)
        self.models = _Models(self)
        self.usage = _Usage(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._options.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections; requests under way finish."""
        self._carrier.close()

    def with_options(
        self,
        *,
        attempts: int | None = None,
        timeout: float | Timeouts | None = None,
        validation: Validation | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> "PoeClient":
        """Return a client that differs in these and shares connections, pace and slots."""
        changed = self._options.with_(
            attempts=attempts, timeout=timeout, validation=validation, headers=headers
        )
        client = object.__new__(type(self))
        client._set_up(changed, self._carrier, self._slots)
        return client

    def ask(
        self,
        request: ChatRequest,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        attempts: int | None = None,
        timeout: float | None = None,
        media: bool = False,
    ) -> Completion:
        """Send a whole request and return its whole answer.

        A streamed answer is put together here, and asked for again where the stream breaks:
        `on_progress` hears the pieces, and `Retrying` when those so far no longer count.
        """
        options = self._options.with_(attempts=attempts, timeout=timeout)
        call = options.call(request, on_progress=on_progress, media=media)
        return self.perform(completed(call, options.conduct))

    def perform(self, exchange: Exchange[T]) -> T:
        """Drive an exchange to its end."""
        with self._slots:
            line = Line(self._carrier, self._options.conduct.clock)
            try:
                return drive(exchange, line.perform)
            finally:
                line.close()

    def open(self, exchange: Exchange[Opened]) -> Stream:
        """Drive an exchange to its first chunk; the slot is held until the stream is closed."""
        self._slots.__enter__()
        line = Line(self._carrier, self._options.conduct.clock)
        try:
            found = drive(exchange, line.perform)
        except BaseException:
            line.close()
            self._slots.__exit__(None, None, None)
            raise
        return Stream(found, line, self._slots)

    @property
    def options(self) -> Options:
        return self._options


class _Chat:
    def __init__(self, client: PoeClient) -> None:
        self.completions = _Completions(client)


class _Completions:
    def __init__(self, client: PoeClient) -> None:
        self._client = client

    @overload
    def create(
        self, *, stream: Literal[False] | None = None, **params: Unpack[AskParams]
    ) -> Completion: ...

    @overload
    def create(self, *, stream: Literal[True], **params: Unpack[AskParams]) -> Stream: ...

    @overload
    def create(
        self, *, stream: bool | None, **params: Unpack[AskParams]
    ) -> Completion | Stream: ...

    def create(
        self, *, stream: bool | None = None, **params: Unpack[AskParams]
    ) -> Completion | Stream:
        """Ask a bot: the whole answer, or with `stream=True` its chunks as they arrive.

        The parameters are those of `AskParams`. Raises `UsageError` before anything is sent where
        one is wrong, then an `APIError`. A stream is not asked for again once it gave a chunk.
        """
        options = self._client.options
        call = options.call_of(params, stream=bool(stream))
        if stream:
            return self._client.open(opened(call, options.conduct))
        return self._client.perform(completed(call, options.conduct))


class _Models:
    def __init__(self, client: PoeClient) -> None:
        self._client = client

    def list(self) -> tuple[Model, ...]:
        """Return every public bot."""
        options = self._client.options
        call = options.get("/models", {})
        return models_from(self._client.perform(fetched(call, options.conduct)))


class _Usage:
    def __init__(self, client: PoeClient) -> None:
        self._client = client

    def current_balance(self) -> Balance:
        """Return what is left on the account; a cheap way to test a key."""
        options = self._client.options
        call = options.get("/usage/current_balance", {}, at_origin=True)
        return balance_from(self._client.perform(fetched(call, options.conduct)))

    def points_history(self, *, limit: int = 20, starting_after: str | None = None) -> PointsPage:
        """Return one page of up to `limit` (1 to 100) entries, newest first, of thirty days."""
        options = self._client.options
        query = points_query(limit, starting_after)
        call = options.get("/usage/points_history", query, at_origin=True)
        return points_from(self._client.perform(fetched(call, options.conduct)))
