"""The synchronous client, by the names of the OpenAI SDK: chat, models, usage, streams."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar, Unpack, overload

from poeflow.client import endpoints
from poeflow.client.account import Balance, Model, ModelList, PointsPage
from poeflow.client.answers import Completion, CompletionChunk
from poeflow.client.client_options import Options, Validation, options_from
from poeflow.client.commands import Exchange, Progress, Timeouts, drive
from poeflow.client.exchange import Opened
from poeflow.client.failures import Server
from poeflow.client.folding import Halves
from poeflow.client.http.channels import Channel
from poeflow.client.http.transport import Injected, Transport, transport_for
from poeflow.client.messages import AskParams, ChatRequest
from poeflow.clock import Clock, SystemClock
from poeflow.redact import Secret

T = TypeVar("T")


class PoeClient:
    """A client of Poe's chat completions API, or of anything that speaks it.

    `api_key` and `base_url` fall back to `POE_API_KEY` and `POE_BASE_URL`. `attempts` counts all
    sends of one request. `timeout` is seconds for each attempt, or `Timeouts`. `concurrency` and
    `requests_per_minute` bound what this client does at once; a 429 pauses all of it.
    `validation` asks the server for `strict` or `legacy` checks (the `poe-feature` header).
    `transport` is one of httpx's or any object with `send` and `close`. Plain http beyond
    loopback needs `allow_insecure=True`. One that is `keyless` sends no key: for a server of your
    own that wants none. `server` is whom hints name; the address says so without.

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
        keyless: bool = False,
        clock: Clock | None = None,
        server: Server | None = None,
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
            keyless=keyless,
            server=server,
        )
        carrier = transport_for(transport, proxy=options.proxy, clock=clock)
        slots = threading.BoundedSemaphore(concurrency) if concurrency else nullcontext()
        self._set_up(options, Channels(carrier, clock, slots))

    def _set_up(self, options: Options, channels: "Channels") -> None:
        self._options = options
        self._channels = channels
        self.chat = Chat(options, channels)
        self.models = Models(options, channels)
        self.usage = Usage(options, channels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._options.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections; requests under way finish."""
        self._channels.close()

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
        client._set_up(changed, self._channels)
        return client

    def ask(
        self,
        request: ChatRequest,
        *,
        on_progress: Callable[[Progress], None] | None = None,
        attempts: int | None = None,
        timeout: float | None = None,
        media: bool = False,
        permit: Callable[[], None] | None = None,
    ) -> Completion:
        """Send a whole request and return its whole answer.

        A streamed answer is put together here, and asked for again where the stream breaks:
        `on_progress` hears the pieces, and `Retrying` when those so far no longer count. `permit`
        is called before every send, retries included; what it raises ends the call.
        """
        options = self._options.with_(attempts=attempts, timeout=timeout)
        exchange = endpoints.answer_to(
            options, request, on_progress=on_progress, media=media, permit=permit
        )
        return self._channels.perform(exchange)


class Stream:
    """The chunks of an answer as they arrive; iterate over it once.

    `text()` gives only the text, `final()` the whole answer put together. Leave it early with
    `close()` or a `with` statement. Raises `TruncatedStreamError` where it ends too soon.
    """

    def __init__(
        self, stream: Opened, channel: Channel, slots: AbstractContextManager[object]
    ) -> None:
        self._stream = stream
        self._channel = channel
        self._slots: AbstractContextManager[object] | None = slots

    @property
    def request_id(self) -> str | None:
        return self._stream.request_id

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> CompletionChunk:
        chunks = self._stream.chunks
        if not chunks and self._slots is not None:
            try:
                drive(self._stream.more(), self._channel.perform)
            except BaseException:
                self.close()
                raise
        if chunks:
            return chunks.popleft()
        self.close()
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def text(self) -> Iterator[str]:
        """Yield the text as it arrives, without empty pieces."""
        halves = Halves()
        for chunk in self:
            if text := halves.text_of(chunk):
                yield text
        if rest := halves.rest():
            yield rest

    def final(self) -> Completion:
        """Read to the end and return the whole answer."""
        for _ in self:
            pass
        return self._stream.completion()

    def close(self) -> None:
        """Give the connection up. Does nothing the second time."""
        slots, self._slots = self._slots, None
        if slots is not None:
            self._channel.close()
            slots.__exit__(None, None, None)


class Chat:
    """`client.chat`."""

    def __init__(self, options: Options, channels: "Channels") -> None:
        self.completions = Completions(options, channels)


class Completions:
    """`client.chat.completions`."""

    def __init__(self, options: Options, channels: "Channels") -> None:
        self._options = options
        self._channels = channels

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
        if stream:
            return self._channels.open(endpoints.streamed_answer(self._options, params))
        return self._channels.perform(endpoints.whole_answer(self._options, params))


class Models:
    """`client.models`."""

    def __init__(self, options: Options, channels: "Channels") -> None:
        self._options = options
        self._channels = channels

    def list(self, *, max_age: float | None = None, folder: Path | None = None) -> ModelList:
        """Return every public bot.

        With `max_age` in seconds a list fetched less long ago is taken from disk: from `folder`,
        or the user's cache folder.
        """
        stored = endpoints.stored_models(self._options, max_age=max_age, folder=folder)
        if stored is not None:
            return stored
        is_stored = max_age is not None
        exchange = endpoints.models(self._options, folder=folder, is_stored=is_stored)
        return self._channels.perform(exchange)

    def retrieve(self, model: str) -> Model:
        """Return one bot of the list, whose name may be in upper or lower case.

        Raises `NotFoundError` where it is not listed.
        """
        return self._channels.perform(endpoints.model(self._options, model))


class Usage:
    """`client.usage`."""

    def __init__(self, options: Options, channels: "Channels") -> None:
        self._options = options
        self._channels = channels

    def current_balance(self) -> Balance:
        """Return what is left on the account; a cheap way to test a key."""
        return self._channels.perform(endpoints.balance(self._options))

    def points_history(self, *, limit: int = 20, starting_after: str | None = None) -> PointsPage:
        """Return one page of up to `limit` (1 to 100) entries, newest first, of thirty days."""
        exchange = endpoints.points(self._options, limit=limit, starting_after=starting_after)
        return self._channels.perform(exchange)


class Channels:
    """Opens channels: as many at once as a client may have."""

    def __init__(
        self, transport: Transport, clock: Clock, slots: AbstractContextManager[object]
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._slots = slots

    def perform(self, exchange: Exchange[T]) -> T:
        """Drive an exchange to its end."""
        with self._slots:
            channel = Channel(self._transport, self._clock)
            try:
                return drive(exchange, channel.perform)
            finally:
                channel.close()

    def open(self, exchange: Exchange[Opened]) -> Stream:
        """Drive an exchange to its first chunk; the slot is held until the stream is closed."""
        self._slots.__enter__()
        channel = Channel(self._transport, self._clock)
        try:
            found = drive(exchange, channel.perform)
        except BaseException:
            channel.close()
            self._slots.__exit__(None, None, None)
            raise
        return Stream(found, channel, self._slots)

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()
