"""The synchronous client, with the names of the OpenAI SDK: chat, models, usage, streams."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, Self, TypeVar, Unpack, overload

from poeflow.client import endpoints
from poeflow.client.account import Balance, Model, ModelList, PointsPage
from poeflow.client.answers import Completion, CompletionChunk
from poeflow.client.calls import Exchange
from poeflow.client.client_options import AskOptions, Client, Options, Resource
from poeflow.client.exchange import Opened
from poeflow.client.folding import TextJoiner
from poeflow.client.http.commands import Command, Read, Reply, Send, Wait, drive
from poeflow.client.http.transport import Injected, Response, Transport, transport_for
from poeflow.client.messages import ChatRequest, CreateParams
from poeflow.clock import Clock

T = TypeVar("T")


class PoeClient(Client["Injected", "Channels"]):
    """A client of Poe's chat completions API and compatible servers.

    Close it, or use it in a `with` statement. Thread-safe.
    """

    def _open_channels(
        self, options: Options, transport: "Injected | None", concurrency: int | None
    ) -> "Channels":
        clock = options.config.clock

        def connected() -> Transport:
            return transport_for(transport, proxy=options.proxy, clock=clock)

        return Channels(connected, clock, concurrency)

    def _set_up(self, options: Options, channels: "Channels") -> None:
        super()._set_up(options, channels)
        self.chat = Chat(options, channels)
        self.models = Models(options, channels)
        self.usage = AccountUsage(options, channels)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections; running requests finish."""
        self._channels.close()

    def ask(self, request: ChatRequest, **options: Unpack[AskOptions]) -> Completion:
        """Send a whole request and return its whole answer. The options are those of `AskOptions`.

        A streamed answer is joined, and requested again if the stream breaks. Raises `UsageError`
        before sending, and `APIError`.
        """
        return self._channels.perform(endpoints.ask(self._options, request, **options))


class Stream:
    """The chunks of an answer as they arrive; iterate over it once.

    `text()` yields only the text, `final()` returns the whole answer. To stop early use `close()`
    or a `with` statement; a stream that nobody holds is closed, too. Raises `TruncatedStreamError`
    if the stream ends too early.
    """

    def __init__(self, stream: Opened, channel: "Channel") -> None:
        self._stream = stream
        self._channel = channel

    @property
    def request_id(self) -> str | None:
        return self._stream.request_id

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> CompletionChunk:
        chunks = self._stream.chunks
        if not chunks and self._channel.is_open:
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

    def __exit__(self, *_error: object) -> None:
        self.close()

    def text(self) -> Iterator[str]:
        """Yield the text as it arrives, without empty pieces."""
        halves = TextJoiner()
        for chunk in self:
            if text := halves.text_of(chunk):
                yield text
        if rest := halves.rest():
            yield rest

    def final(self) -> Completion:
        """Read to the end and return the whole answer.

        Raises `TruncatedStreamError` also if the stream was closed before its end.
        """
        for _ in self:
            pass
        return self._stream.whole()

    def close(self) -> None:
        """Close the connection. Does nothing the second time."""
        self._channel.end()


class Chat:
    """`client.chat`."""

    def __init__(self, options: Options, channels: "Channels") -> None:
        self.completions = Completions(options, channels)


class Completions(Resource["Channels"]):
    """`client.chat.completions`."""

    @overload
    def create(
        self, *, stream: Literal[False] | None = None, **params: Unpack[CreateParams]
    ) -> Completion: ...

    @overload
    def create(self, *, stream: Literal[True], **params: Unpack[CreateParams]) -> Stream: ...

    @overload
    def create(
        self, *, stream: bool | None, **params: Unpack[CreateParams]
    ) -> Completion | Stream: ...

    def create(
        self, *, stream: bool | None = None, **params: Unpack[CreateParams]
    ) -> Completion | Stream:
        """Return a bot's whole answer, or with `stream=True` its chunks as they arrive.

        The parameters are those of `CreateParams`. Raises `UsageError` before sending if one is
        wrong, and `APIError`. A stream is not retried after its first chunk.
        """
        if stream:
            return self._channels.open(endpoints.streamed_answer(self._options, params))
        return self._channels.perform(endpoints.whole_answer(self._options, params))


class Models(Resource["Channels"]):
    """`client.models`."""

    def list(self, *, max_age: float | None = None, folder: Path | None = None) -> ModelList:
        """Return every public bot.

        With `max_age` in seconds a stored list that is not older is returned, from `folder` or the
        user's cache folder.
        """
        stored = endpoints.stored_models(self._options, max_age=max_age, folder=folder)
        if stored is not None:
            return stored
        is_stored = max_age is not None
        exchange = endpoints.model_list(self._options, folder=folder, is_stored=is_stored)
        return self._channels.perform(exchange)

    def retrieve(self, model: str) -> Model:
        """Return one bot of the list; case does not matter.

        Raises `NotFoundError` if it is not listed.
        """
        return self._channels.perform(endpoints.model_named(self._options, model))


class AccountUsage(Resource["Channels"]):
    """`client.usage`."""

    def current_balance(self) -> Balance:
        """Return the account's balance; a cheap way to test a key."""
        return self._channels.perform(endpoints.balance(self._options))

    def points_history(self, *, limit: int = 20, starting_after: str | None = None) -> PointsPage:
        """Return one page of `limit` (1 to 100) entries of the last thirty days, newest first."""
        exchange = endpoints.points(self._options, limit=limit, starting_after=starting_after)
        return self._channels.perform(exchange)


class Channel:
    """Performs the commands of one exchange, and holds its slot until it ends."""

    is_open = False

    def __init__(self, transport: Transport, clock: Clock, slots: "Slots | None") -> None:
        self._transport = transport
        self._clock = clock
        self._slots = slots
        self._response: Response | None = None
        if slots is not None:
            slots.take()
        self.is_open = True

    def perform(self, command: Command) -> Reply:
        match command:
            case Read(timeout=timeout):
                if self._response is None:
                    raise AssertionError("nothing was sent")
                return self._response.read(timeout)
            case Send():
                self._drop_response()
                self._response = self._transport.send(
                    command.request, connect=command.connect, total=command.total, head=command.head
                )
                return self._response.head
            case Wait(seconds=seconds):
                self._drop_response()
                self._clock.sleep(seconds)
                return None

    def end(self) -> None:
        """Close the response, unless it was read to its end, and return the slot; only once."""
        is_open, self.is_open = self.is_open, False
        if is_open:
            try:
                self._drop_response()
            finally:
                if self._slots is not None:
                    self._slots.give_back()

    __del__ = end

    def _drop_response(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.abort()


class Slots:
    """Limits how many exchanges run at the same time."""

    def __init__(self, count: int) -> None:
        self._free: SimpleQueue[None] = SimpleQueue()  # unlike a semaphore, safe in a destructor
        for _ in range(count):
            self._free.put(None)

    def take(self) -> None:
        self._free.get()

    def give_back(self) -> None:
        self._free.put(None)


class Channels:
    """Opens channels, up to the client's limit on concurrency.

    A forked process gets connections and slots of its own: of a shared connection each process
    would read the other's answers.
    """

    def __init__(
        self, connected: Callable[[], Transport], clock: Clock, concurrency: int | None
    ) -> None:
        self._connected = connected
        self._clock = clock
        self._concurrency = concurrency
        self._set_up()

    def _set_up(self) -> None:
        self._transport = self._connected()
        self._slots = Slots(self._concurrency) if self._concurrency else None
        self._process = os.getpid()  # last: another thread may look at it meanwhile

    def perform(self, exchange: Exchange[T]) -> T:
        """Run an exchange to its end."""
        channel = self._channel()
        try:
            return drive(exchange, channel.perform)
        finally:
            channel.end()

    def open(self, exchange: Exchange[Opened]) -> Stream:
        """Run an exchange to its first chunk; the slot stays taken until the stream is closed."""
        channel = self._channel()
        try:
            return Stream(drive(exchange, channel.perform), channel)
        except BaseException:
            channel.end()
            raise

    def close(self) -> None:
        """Close idle connections."""
        self._transport.close()

    def _channel(self) -> Channel:
        if self._process != os.getpid():
            self._set_up()
        return Channel(self._transport, self._clock, self._slots)
