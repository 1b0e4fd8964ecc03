"""The asynchronous end of an exchange: a line for its commands, a stream of chunks."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self, TypeVar

from poeflow.client.answers import Completion, CompletionChunk
from poeflow.client.commands import Command, Exchange, Read, Reply, Send, Wait
from poeflow.client.driving import adrive
from poeflow.client.exchange import Opened
from poeflow.client.folding import Halves
from poeflow.client.http.transport import AsyncResponse, AsyncTransport
from poeflow.clock import Clock

T = TypeVar("T")


class Line:
    """Performs the commands of one exchange, on one response at a time."""

    def __init__(self, carrier: AsyncTransport, clock: Clock) -> None:
        self._carrier = carrier
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
                self._response = await self._carrier.send(
                    command.request, connect=command.connect, total=command.total, head=command.head
                )
                return self._response.head
            case Wait(seconds=seconds):
                self.close()
                await self._clock.asleep(seconds)
                return None

    def close(self) -> None:
        if self._response is not None:
            self._response.abort()
            self._response = None


class AsyncStream:
    """The chunks of an answer as they arrive; iterate over it once.

    `text()` gives only the text, `final()` the whole answer put together. Leave it early with
    `aclose()` or an `async with` statement. Raises `TruncatedStreamError` where it ends too soon.
    """

    def __init__(
        self, stream: Opened, line: Line, slots: AbstractAsyncContextManager[object]
    ) -> None:
        self._stream = stream
        self._line = line
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
                await adrive(self._stream.more(), self._line.perform)
            except BaseException:
                await self.aclose()
                raise
        if chunks:
            return chunks.popleft()
        await self.aclose()
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def text(self) -> AsyncIterator[str]:
        """Yield the text as it arrives, without empty pieces."""
        halves = Halves()
        async for chunk in self:
            for choice in chunk.choices[:1]:
                if text := halves.whole(choice.delta.content or ""):
                    yield text
        if rest := halves.rest():
            yield rest

    async def final(self) -> Completion:
        """Read to the end and return the whole answer."""
        async for _ in self:
            pass
        return self._stream.completion()

    async def aclose(self) -> None:
        """Give the connection up. Does nothing the second time."""
        slots, self._slots = self._slots, None
        if slots is not None:
            self._line.close()
            await slots.__aexit__(None, None, None)


class Lines:
    """Hands out lines: as many at once as a client may have."""

    def __init__(
        self, carrier: AsyncTransport, clock: Clock, slots: AbstractAsyncContextManager[object]
    ) -> None:
        self._carrier = carrier
        self._clock = clock
        self._slots = slots

    async def perform(self, exchange: Exchange[T]) -> T:
        """Drive an exchange to its end."""
        async with self._slots:
            line = Line(self._carrier, self._clock)
            try:
                return await adrive(exchange, line.perform)
            finally:
                line.close()

    async def open(self, exchange: Exchange[Opened]) -> AsyncStream:
        """Drive an exchange to its first chunk; the slot is held until the stream is closed."""
        await self._slots.__aenter__()
        line = Line(self._carrier, self._clock)
        try:
            found = await adrive(exchange, line.perform)
        except BaseException:
            line.close()
            await self._slots.__aexit__(None, None, None)
            raise
        return AsyncStream(found, line, self._slots)

    async def aclose(self) -> None:
        """Close idle connections."""
        await self._carrier.aclose()
