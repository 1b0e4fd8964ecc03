"""The asynchronous client, with the names of the OpenAI SDK: chat, models, usage, streams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Literal, Self, TypeVar, Unpack, overload

from poeflow.client import endpoints
from poeflow.client.account import Balance, Model, ModelList, PointsPage
from poeflow.client.answers import Completion, CompletionChunk
from poeflow.client.calls import Exchange
from poeflow.client.client_options import AskOptions, Client, Options, Resource
from poeflow.client.exchange import Opened
from poeflow.client.folding import TextJoiner
from poeflow.client.http.aio import AsyncDirectTransport
from poeflow.client.http.commands import Command, Read, Reply, Send, Wait, adrive
from poeflow.client.http.transport import (
    AsyncInjected,
    AsyncResponse,
    AsyncTransport,
    async_transport_for,
)
from poeflow.client.messages import ChatRequest, CreateParams
from poeflow.clock import Clock
from poeflow.errors import UsageError

T = TypeVar("T")


class AsyncPoeClient(Client["AsyncInjected", "AsyncChannels"]):
    """A client of Poe's chat completions API and compatible servers.

    Close it, or use it in an `async with` statement.
    """

    def _open_channels(
        self, options: Options, transport: "AsyncInjected | None", concurrency: int | None
    ) -> "AsyncChannels":
        clock = options.config.clock

        def connected() -> AsyncTransport:
            return async_transport_for(transport, proxy=options.proxy, clock=clock)

        return AsyncChannels(connected, clock, concurrency)

    def _set_up(self, options: Options, channels: "AsyncChannels") -> None:
        super()._set_up(options, channels)
        self.chat = AsyncChat(options, channels)
        self.models = AsyncModels(options, channels)
        self.usage = AsyncAccountUsage(options, channels)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close idle connections; running requests finish. `close` is the same."""
        await self._channels.aclose()

    close = aclose  # the OpenAI SDK's name

    async def ask(self, request: ChatRequest, **options: Unpack[AskOptions]) -> Completion:
        """Send a whole request and return its whole answer. The options are those of `AskOptions`.

        A streamed answer is joined, and requested again if the stream breaks. Raises `UsageError`
        before sending, and `APIError`.
        """
        return await self._channels.perform(endpoints.ask(self._options, request, **options))


class AsyncStream:
    """The chunks of an answer as they arrive; iterate over it once.

    `text()` yields only the text, `final()` returns the whole answer. To stop early use `aclose()`
    or an `async with` statement; a stream that nobody holds is closed, too. Raises
    `TruncatedStreamError` if the stream ends too early.
    """

    def __init__(self, stream: Opened, channel: "AsyncChannel") -> None:
        self._stream = stream
        self._channel = channel

    @property
    def request_id(self) -> str | None:
        return self._stream.request_id

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CompletionChunk:
        chunks = self._stream.chunks
        if not chunks and self._channel.is_open:
            try:
                await adrive(self._stream.more(), self._channel.perform)
            except BaseException:
                await self.aclose()
                raise
        if chunks:
            return chunks.popleft()
        await self.aclose()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()

    async def text(self) -> AsyncIterator[str]:
        """Yield the text as it arrives, without empty pieces."""
        halves = TextJoiner()
        async for chunk in self:
            if text := halves.text_of(chunk):
                yield text
        if rest := halves.rest():
            yield rest

    async def final(self) -> Completion:
        """Read to the end and return the whole answer.

        Raises `TruncatedStreamError` also if the stream was closed before its end.
        """
        async for _ in self:
            pass
        return self._stream.whole()

    async def aclose(self) -> None:
        """Close the connection. Does nothing the second time. `close` is the same."""
        self._channel.end()

    close = aclose  # the OpenAI SDK's name


class AsyncChat:
    """`client.chat`."""

    def __init__(self, options: Options, channels: "AsyncChannels") -> None:
        self.completions = AsyncCompletions(options, channels)


class AsyncCompletions(Resource["AsyncChannels"]):
    """`client.chat.completions`."""

    @overload
    async def create(
        self, *, stream: Literal[False] | None = None, **params: Unpack[CreateParams]
    ) -> Completion: ...

    @overload
    async def create(
        self, *, stream: Literal[True], **params: Unpack[CreateParams]
    ) -> AsyncStream: ...

    @overload
    async def create(
        self, *, stream: bool | None, **params: Unpack[CreateParams]
    ) -> Completion | AsyncStream: ...

    async def create(
        self, *, stream: bool | None = None, **params: Unpack[CreateParams]
    ) -> Completion | AsyncStream:
        """Return a bot's whole answer, or with `stream=True` its chunks as they arrive.

        The parameters are those of `CreateParams`. Raises `UsageError` before sending if one is
        wrong, and `APIError`. A stream is not retried after its first chunk.
        """
        if stream:
            return await self._channels.open(endpoints.streamed_answer(self._options, params))
        return await self._channels.perform(endpoints.whole_answer(self._options, params))


class AsyncModels(Resource["AsyncChannels"]):
    """`client.models`."""

    async def list(self, *, max_age: float | None = None, folder: Path | None = None) -> ModelList:
        """Return every public bot.

        With `max_age` in seconds a stored list that is not older is returned, from `folder` or the
        user's cache folder.
        """
        stored = endpoints.stored_models(self._options, max_age=max_age, folder=folder)
        if stored is not None:
            return stored
        is_stored = max_age is not None
        exchange = endpoints.model_list(self._options, folder=folder, is_stored=is_stored)
        return await self._channels.perform(exchange)

    async def retrieve(self, model: str) -> Model:
        """Return one bot of the list; case does not matter.

        Raises `NotFoundError` if it is not listed.
        """
        return await self._channels.perform(endpoints.model_named(self._options, model))


class AsyncAccountUsage(Resource["AsyncChannels"]):
    """`client.usage`."""

    async def current_balance(self) -> Balance:
        """Return the account's balance; a cheap way to test a key."""
        return await self._channels.perform(endpoints.balance(self._options))

    async def points_history(
        self, *, limit: int = 20, starting_after: str | None = None
    ) -> PointsPage:
        """Return one page of `limit` (1 to 100) entries of the last thirty days, newest first."""
        exchange = endpoints.points(self._options, limit=limit, starting_after=starting_after)
        return await self._channels.perform(exchange)


class AsyncChannel:
    """Performs the commands of one exchange on asyncio, and holds its slot until it ends."""

    is_open = False

    def __init__(self, share: "LoopShare", clock: Clock) -> None:
        self._share = share
        self._clock = clock
        self._response: AsyncResponse | None = None

    async def begin(self) -> None:
        """Wait for a slot."""
        if self._share.slots is not None:
            await self._share.slots.acquire()
        self.is_open = True

    async def perform(self, command: Command) -> Reply:
        match command:
            case Read(timeout=timeout):
                if self._response is None:
                    raise AssertionError("nothing was sent")
                return await self._response.read(timeout)
            case Send():
                self._drop_response()
                self._response = await self._share.transport.send(
                    command.request, connect=command.connect, total=command.total, head=command.head
                )
                return self._response.head
            case Wait(seconds=seconds):
                self._drop_response()
                await self._clock.asleep(seconds)
                return None

    def end(self) -> None:
        """Close the response, unless it was read to its end, and return the slot; only once."""
        is_open, self.is_open = self.is_open, False
        if is_open:
            response, self._response = self._response, None
            self._share.take_back(response)

    def __del__(self) -> None:
        """End in the event loop, as this may happen in any thread."""
        if self.is_open:
            with contextlib.suppress(RuntimeError):  # of a closed loop
                self._share.loop.call_soon_threadsafe(self._share.take_back, self._response)

    def _drop_response(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.abort()


class LoopShare:
    """The connections and slots that a client has in one event loop: loops cannot share them."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: AsyncTransport, concurrency: int | None
    ) -> None:
        self.loop = loop
        self.transport = transport
        self.slots = asyncio.Semaphore(concurrency) if concurrency else None

    def close_from_elsewhere(self) -> None:
        """Close idle connections, from another event loop or thread."""
        if isinstance(self.transport, AsyncDirectTransport):
            self.transport.close()  # without a task, which a loop that ends would leave
        elif self.loop.is_running():
            with contextlib.suppress(RuntimeError):  # of a loop that has closed meanwhile
                asyncio.run_coroutine_threadsafe(self.transport.aclose(), self.loop)

    def take_back(self, response: AsyncResponse | None) -> None:
        """Close a response, unless it was read to its end, and free its slot."""
        try:
            if response is not None:
                response.abort()
        finally:
            if self.slots is not None:
                self.slots.release()


class AsyncChannels:
    """Opens channels, up to the client's limit on concurrency in each event loop."""

    def __init__(
        self, connected: Callable[[], AsyncTransport], clock: Clock, concurrency: int | None
    ) -> None:
        self._connected = connected
        self._clock = clock
        self._concurrency = concurrency
        self._shares: dict[asyncio.AbstractEventLoop, LoopShare] = {}

    async def perform(self, exchange: Exchange[T]) -> T:
        """Run an exchange to its end."""
        channel = AsyncChannel(self._share(), self._clock)
        await channel.begin()
        try:
            return await adrive(exchange, channel.perform)
        finally:
            channel.end()

    async def open(self, exchange: Exchange[Opened]) -> AsyncStream:
        """Run an exchange to its first chunk; the slot stays taken until the stream is closed."""
        channel = AsyncChannel(self._share(), self._clock)
        await channel.begin()
        try:
            return AsyncStream(await adrive(exchange, channel.perform), channel)
        except BaseException:
            channel.end()
            raise

    async def aclose(self) -> None:
        """Close the idle connections of the running event loop, and of others that still run."""
        here = self._share()
        for share in list(self._shares.values()):
            if share is not here:
                share.close_from_elsewhere()
        await here.transport.aclose()

    def _share(self) -> LoopShare:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            message = "AsyncPoeClient needs a running event loop of asyncio"
            raise UsageError(message, hint="use asyncio.run(); trio is not supported") from None
        share = self._shares.get(loop)
        if share is None:
            for closed in [one for one in list(self._shares) if one.is_closed()]:
                self._shares.pop(closed, None)  # in place: other threads add loops meanwhile
            share = self._shares[loop] = LoopShare(loop, self._connected(), self._concurrency)
        return share
