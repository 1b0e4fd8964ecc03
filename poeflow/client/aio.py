"""The asynchronous client, with the names of the OpenAI SDK: chat, models, usage, streams."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import Literal, Self, TypeVar, Unpack, overload

from poeflow.client import endpoints
from poeflow.client.account import Balance, Model, ModelList, PointsPage
from poeflow.client.answers import Completion, CompletionChunk
from poeflow.client.calls import Exchange
from poeflow.client.client_options import AskOptions, Client, Options, Resource
from poeflow.client.exchange import Opened
from poeflow.client.folding import TextJoiner
from poeflow.client.http.commands import Command, Read, Reply, Send, Wait, adrive
from poeflow.client.http.transport import (
    AsyncInjected,
    AsyncResponse,
    AsyncTransport,
    async_transport_for,
)
from poeflow.client.messages import ChatRequest, CreateParams
from poeflow.clock import Clock

T = TypeVar("T")


class AsyncPoeClient(Client["AsyncInjected", "AsyncChannels"]):
    """A client of Poe's chat completions API and compatible servers.

    Close it, or use it in an `async with` statement.
    """

    def _open_channels(
        self, options: Options, transport: "AsyncInjected | None", concurrency: int | None
    ) -> "AsyncChannels":
        clock = options.config.clock
        carrier = async_transport_for(transport, proxy=options.proxy, clock=clock)
        slots = asyncio.Semaphore(concurrency) if concurrency else nullcontext()
        return AsyncChannels(carrier, clock, slots)

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
    or an `async with` statement. Raises `TruncatedStreamError` if the stream ends too early.
    """

    def __init__(
        self, stream: Opened, channel: "AsyncChannel", slots: AbstractAsyncContextManager[object]
    ) -> None:
        self._stream = stream
        self._channel = channel
        self._slots: AbstractAsyncContextManager[object] | None = slots

    @property
    def request_id(self) -> str | None:
        return self._stream.request_id

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> CompletionChunk:
        chunks = self._stream.chunks
        if not chunks and self._slots is not None:
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
        """Read to the end and return the whole answer."""
        async for _ in self:
            pass
        return self._stream.completion()

    async def aclose(self) -> None:
        """Close the connection. Does nothing the second time. `close` is the same."""
        slots, self._slots = self._slots, None
        if slots is not None:
            self._channel.close()
            await slots.__aexit__(None, None, None)

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
    """Performs the commands of one exchange on asyncio."""

    def __init__(self, transport: AsyncTransport, clock: Clock) -> None:
        self._transport = transport
        self._clock = clock
        self._response: AsyncResponse | None = None

    async def perform(self, command: Command) -> Reply:
        match command:
            case Read(timeout=timeout):
                if self._response is None:
                    raise AssertionError("nothing was sent")
                return await self._response.read(timeout)
            case Send():
                self.close()
                self._response = await self._transport.send(
                    command.request, connect=command.connect, total=command.total, head=command.head
                )
                return self._response.head
            case Wait(seconds=seconds):
                self.close()
                await self._clock.asleep(seconds)
                return None

    def close(self) -> None:
        """Close the response, unless it was read to its end."""
        if self._response is not None:
            self._response.abort()
            self._response = None


class AsyncChannels:
    """Opens channels, up to the client's limit on concurrency."""

    def __init__(
        self, transport: AsyncTransport, clock: Clock, slots: AbstractAsyncContextManager[object]
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._slots = slots

    async def perform(self, exchange: Exchange[T]) -> T:
        """Run an exchange to its end."""
        async with self._slots:
            channel = AsyncChannel(self._transport, self._clock)
            try:
                return await adrive(exchange, channel.perform)
            finally:
                channel.close()

    async def open(self, exchange: Exchange[Opened]) -> AsyncStream:
        """Run an exchange to its first chunk; the slot stays taken until the stream is closed."""
        await self._slots.__aenter__()
        channel = AsyncChannel(self._transport, self._clock)
        try:
            found = await adrive(exchange, channel.perform)
        except BaseException:
            channel.close()
            await self._slots.__aexit__(None, None, None)
            raise
        return AsyncStream(found, channel, self._slots)

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._transport.aclose()
