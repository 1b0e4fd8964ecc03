"""The synchronous client, by the names of the OpenAI SDK: chat, models, usage, streams."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeVar, Unpack, overload

from poeflow.client.account import (
    Balance,
    Model,
    ModelList,
    PointsPage,
    balance_from,
    models_from,
    points_from,
    points_query,
)
from poeflow.client.answers import Completion, CompletionChunk
from poeflow.client.catalogue import store_list, stored_list
from poeflow.client.client_options import Options, Validation, options_from
from poeflow.client.commands import (
    Command,
    Exchange,
    Progress,
    Read,
    Reply,
    Send,
    Timeouts,
    Wait,
    drive,
)
from poeflow.client.exchange import Opened, completed, fetched, opened
from poeflow.client.failures import Server
from poeflow.client.folding import Halves
from poeflow.client.http.transport import Injected, Response, Transport, transport_for
from poeflow.client.messages import AskParams, ChatRequest
from poeflow.clock import Clock, SystemClock
from poeflow.digest import Json
from poeflow.errors import UsageError
from poeflow.redact import Secret

T = TypeVar("T")


class Channel:
    """Performs the commands of one exchange, on one response at a time."""

    def __init__(self, carrier: Transport, clock: Clock) -> None:
        self._carrier = carrier
        self._clock = clock
        self._response: Response | None = None

    def perform(self, command: Command) -> Reply:
        match command:
            case Read(timeout=timeout):
                if self._response is None:
                    raise AssertionError("nothing was sent")
                return self._response.read(timeout)
            case Send():
                self.close()
                self._response = self._carrier.send(
                    command.request, connect=command.connect, total=command.total, head=command.head
                )
                return self._response.head
            case Wait(seconds=seconds):
                self.close()
                self._clock.sleep(seconds)
                return None

    def close(self) -> None:
        if self._response is not None:
            self._response.abort()
            self._response = None


class Stream:
    """The chunks of an answer as they arrive; iterate over it once.

    `text()` gives only the text, `final()` the whole answer put together. Leave it early with
    `close()` or a `with` statement. Raises `TruncatedStreamError` where it ends too soon.
    """

    def __init__(
        self, stream: Opened, line: Channel, slots: AbstractContextManager[object]
    ) -> None:
        self._stream = stream
        self._line = line
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
                drive(self._stream.more(), self._line.perform)
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
            for choice in chunk.choices[:1]:
                if text := halves.whole(choice.delta.content or ""):
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
            self._line.close()
            slots.__exit__(None, None, None)


class Channels:
    """Hands out lines: as many at once as a client may have."""

    def __init__(
        self, carrier: Transport, clock: Clock, slots: AbstractContextManager[object]
    ) -> None:
        self._carrier = carrier
        self._clock = clock
        self._slots = slots

    def perform(self, exchange: Exchange[T]) -> T:
        """Drive an exchange to its end."""
        with self._slots:
            line = Channel(self._carrier, self._clock)
            try:
                return drive(exchange, line.perform)
            finally:
                line.close()

    def open(self, exchange: Exchange[Opened]) -> Stream:
        """Drive an exchange to its first chunk; the slot is held until the stream is closed."""
        self._slots.__enter__()
        line = Channel(self._carrier, self._clock)
        try:
            found = drive(exchange, line.perform)
        except BaseException:
            line.close()
            self._slots.__exit__(None, None, None)
            raise
        return Stream(found, line, self._slots)

    def close(self) -> None:
        """Close idle connections."""
        self._carrier.close()


class Chat:
    """`client.chat`."""

    def __init__(self, options: Options, lines: Channels) -> None:
        self.completions = Completions(options, lines)


class Completions:
    """`client.chat.completions`."""

    def __init__(self, options: Options, lines: Channels) -> None:
        self._options = options
        self._lines = lines

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
        options = self._options
        call = options.call_of(params, stream=bool(stream))
        if stream:
            return self._lines.open(opened(call, options.config))
        return self._lines.perform(completed(call, options.config))


class Models:
    """`client.models`."""

    def __init__(self, options: Options, lines: Channels) -> None:
        self._options = options
        self._lines = lines

    def list(self, *, max_age: float | None = None, folder: Path | None = None) -> ModelList:
        """Return every public bot.

        With `max_age` in seconds a list fetched less long ago is taken from disk: from `folder`,
        or the user's cache folder.
        """
        options, clock = self._options, self._options.config.clock
        document: Json = None
        if max_age is not None:
            document = stored_list(options.base_url, folder, max_age=max_age, now=clock.now())
        if document is None:
            call = options.get("/models", {})
            document = self._lines.perform(fetched(call, options.config))
            if max_age is not None:
                store_list(options.base_url, folder, document, now=clock.now())
        return models_from(document)

    def retrieve(self, model: str) -> Model:
        """Return one bot of the list, whose name may be in upper or lower case.

        Raises `NotFoundError` where it is not listed.
        """
        if not isinstance(model, str):
            raise UsageError("model must be a bot's name")
        return self.list().named(model)


class Usage:
    """`client.usage`."""

    def __init__(self, options: Options, lines: Channels) -> None:
        self._options = options
        self._lines = lines

    def current_balance(self) -> Balance:
        """Return what is left on the account; a cheap way to test a key."""
        options = self._options
        call = options.get("/usage/current_balance", {}, at_origin=True)
        return balance_from(self._lines.perform(fetched(call, options.config)))

    def points_history(self, *, limit: int = 20, starting_after: str | None = None) -> PointsPage:
        """Return one page of up to `limit` (1 to 100) entries, newest first, of thirty days."""
        options = self._options
        query = points_query(limit, starting_after)
        call = options.get("/usage/points_history", query, at_origin=True)
        return points_from(self._lines.perform(fetched(call, options.config)))


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

    def _set_up(self, options: Options, lines: Channels) -> None:
        self._options = options
        self._lines = lines
        self.chat = Chat(options, lines)
        self.models = Models(options, lines)
        self.usage = Usage(options, lines)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._options.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections; requests under way finish."""
        self._lines.close()

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
        client._set_up(changed, self._lines)
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
        call = options.call(request, on_progress=on_progress, media=media, permit=permit)
        return self._lines.perform(completed(call, options.config))
