"""Performs the commands of an exchange on a transport, one response at a time."""

from poeflow.client.http.commands import Command, Read, Reply, Send, Wait
from poeflow.client.http.transport import AsyncResponse, AsyncTransport, Response, Transport
from poeflow.clock import Clock


class Channel:
    """Performs the commands of one exchange."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._transport = transport
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
                self._response = self._transport.send(
                    command.request, connect=command.connect, total=command.total, head=command.head
                )
                return self._response.head
            case Wait(seconds=seconds):
                self.close()
                self._clock.sleep(seconds)
                return None

    def close(self) -> None:
        """Close the response, unless it was read to its end."""
        if self._response is not None:
            self._response.abort()
            self._response = None


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
