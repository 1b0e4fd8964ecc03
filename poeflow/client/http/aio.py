"""The asynchronous transport: our own HTTP/1.1 on asyncio, with a connection pool.

A cancelled request closes its connection.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from functools import cached_property
from typing import Final, cast

from poeflow.client.http.commands import adrive
from poeflow.client.http.connections import (
    READ_SIZE,
    ConnectionPool,
    Conversation,
    LostError,
    Receive,
    Write,
    connection_error,
    ended_early,
    has_input,
    tls_context,
)
from poeflow.client.http.wire import Head, ServerOrigin, WireRequest
from poeflow.clock import Clock
from poeflow.errors import APITimeoutError

_HIGH_WATER: Final = 1024 * 1024
_HAPPY_EYEBALLS: Final = 0.25


class AsyncConnection(asyncio.Protocol):
    """One open connection: received bytes, and a waiter for more."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._process = os.getpid()
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._waited: tuple[asyncio.Future[None], float] | None = None
        """What is waited for, and until when by the loop's time."""
        self._drained: asyncio.Future[None] | None = None
        self._lost: Exception | None = None
        self._has_ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's do not derive from it

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)
        if self._size > _HIGH_WATER and self._transport is not None:
            self._transport.pause_reading()
        self._wake(self._waiter)
        self._wake(self._drained)  # a response before the request is sent ends the writing

    def eof_received(self) -> None:
        self._has_ended = True
        self._wake(self._waiter)

    def connection_lost(self, exc: Exception | None) -> None:
        self._has_ended = True
        self._lost = exc
        self._end_alarm()
        if exc is not None:
            self._rescue()
        self._wake(self._waiter)
        self._wake(self._drained)

    def _rescue(self) -> None:
        """Read what the server sent before it closed the connection while we were sending.

        asyncio stops reading when a write fails, so it would lose an early 413.
        """
        if self._transport is None or self._transport.get_extra_info("ssl_object") is not None:
            return
        broken = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError):
            with socket.fromfd(broken.fileno(), broken.family, broken.type) as left:
                left.setblocking(False)
                data = left.recv(READ_SIZE)
            if data:
                self._pieces.append(data)

    def pause_writing(self) -> None:
        self._drained = self.loop.create_future()

    def resume_writing(self) -> None:
        self._wake(self._drained)
        self._drained = None

    @property
    def is_usable(self) -> bool:
        """Return whether the connection is open, without data, and of this process and loop.

        The loop may not have read yet that the server closed it, so the socket is asked.
        """
        if self._pieces or self._has_ended or self._transport is None:
            return False
        if self._process != os.getpid() or not self._is_in_its_loop():
            return False
        return not has_input(self._transport.get_extra_info("socket").fileno())

    async def perform(self, command: Write | Receive) -> bytes:
        """Perform a command. Raises `TimeoutError`, or `OSError` if the connection broke."""
        if command.timeout <= 0:
            raise TimeoutError
        if isinstance(command, Receive):
            return self._taken() if self._pieces else await self._read(command.timeout)
        await self._write(command.data, command.timeout)
        if command.is_last:
            return b""
        await asyncio.sleep(0)  # let the loop read an early response
        return self._taken() if self._pieces else b""

    async def _write(self, data: bytes, timeout: float) -> None:
        if self._transport is None or self._transport.is_closing():
            raise self._lost if isinstance(self._lost, OSError) else BrokenPipeError
        self._transport.write(data)
        if self._drained is not None and not self._pieces:
            await self._wait(self._drained, timeout)

    async def _read(self, timeout: float) -> bytes:
        if not self._has_ended:
            self._waiter = self.loop.create_future()
            try:
                await self._wait(self._waiter, timeout)
            finally:
                self._waiter = None
        if self._pieces:
            return self._taken()
        if isinstance(self._lost, OSError):
            raise self._lost
        return b""

    async def _wait(self, waiter: asyncio.Future[None], timeout: float) -> None:
        """Wait for the waiter. One alarm serves many waits: to set one takes as long as to read."""
        until = self.loop.time() + timeout
        self._waited = waiter, until
        if self._alarm is None or self._alarm.when() > until:
            self._set_alarm(until)
        try:
            await waiter
        finally:
            self._waited = None

    def _taken(self) -> bytes:
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        if self._size > _HIGH_WATER and self._transport is not None:
            self._transport.resume_reading()
        self._size = 0
        return data

    def close(self) -> None:
        """Close the connection, from any thread; a forked process leaves it to its parent."""
        if self._process != os.getpid():
            return  # both share what the loop waits with, so this would deafen the parent
        if self._is_in_its_loop():
            self._abort()
            return
        with contextlib.suppress(RuntimeError):  # of a closed loop, whose connections are lost
            self.loop.call_soon_threadsafe(self._abort)

    def _is_in_its_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self.loop
        except RuntimeError:
            return False

    def _abort(self) -> None:
        self._end_alarm()
        if self._transport is not None:
            self._transport.abort()

    def _set_alarm(self, at: float) -> None:
        self._end_alarm()
        self._alarm = self.loop.call_at(at, self._expire)

    def _end_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _expire(self) -> None:
        """End the wait if its time is over; else set the alarm to its end."""
        self._alarm = None
        if self._waited is None:
            return
        waiter, until = self._waited
        if self.loop.time() < until:
            self._set_alarm(until)
        elif not waiter.done():
            waiter.set_exception(TimeoutError())

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


class Internet:
    """The network of this machine: names are resolved, and connections made, one by one."""

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context()

    async def addresses(self, origin: ServerOrigin) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        return tuple(str(address[0]) for *_, address in found)

    async def connect(self, origin: ServerOrigin, address: str) -> AsyncConnection:
        is_secure = origin.scheme == "https"
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            AsyncConnection,
            address,
            origin.port,
            ssl=self._tls if is_secure else None,
            server_hostname=origin.host if is_secure else None,
        )
        return connection


class AsyncDirectTransport:
    """Sends requests, one connection each."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pool: ConnectionPool[AsyncConnection] = ConnectionPool(clock.monotonic)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context()

    async def send(
        self, request: WireRequest, *, connect: float, total: float, head: float
    ) -> "AsyncDirectResponse":
        """Send and return the response, its body unread.

        Raises `APIConnectionError`, `APITimeoutError` if connecting or sending took too long,
        and `TimeoutError` if the response did.
        """
        ends = self._clock.monotonic() + total
        idle = self._pool.take(request.origin)
        if idle is not None:
            try:
                return await self._begin(idle, request, ends=ends, head=head)
            except LostError as error:
                if error.was_sent:  # the server may have read it, so the caller decides
                    raise ended_early(request.origin, was_sent=True) from None
        fresh = await self._open(request.origin, connect)
        try:
            return await self._begin(fresh, request, ends=ends, head=head)
        except LostError as error:
            raise ended_early(request.origin, was_sent=error.was_sent) from None

    def close(self) -> None:
        """Close idle connections, from any thread."""
        self._pool.close()

    async def aclose(self) -> None:
        """Close idle connections and let the event loop finish closing them."""
        self.close()
        await asyncio.sleep(0)

    async def _open(self, origin: ServerOrigin, timeout: float) -> AsyncConnection:
        tls = self._tls if origin.scheme == "https" else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                if origin.is_loopback or not isinstance(loop, asyncio.BaseEventLoop):
                    # only asyncio's own loops support happy eyeballs: uvloop's do not
                    connecting = loop.create_connection(
                        AsyncConnection, origin.host, origin.port, ssl=tls
                    )
                else:
                    connecting = loop.create_connection(
                        AsyncConnection,
                        origin.host,
                        origin.port,
                        ssl=tls,
                        happy_eyeballs_delay=_HAPPY_EYEBALLS,
                    )
                _, connection = await connecting
        except TimeoutError:
            message = f"no connection to {origin} within {timeout:g} s"
            raise APITimeoutError(message, hint="check the network") from None
        except OSError as error:
            raise connection_error(error, origin) from None
        return connection

    async def _begin(
        self, connection: AsyncConnection, request: WireRequest, *, ends: float, head: float
    ) -> "AsyncDirectResponse":
        conversation = Conversation(request, self._clock)
        try:
            found = await adrive(conversation.begin(ends=ends, head=head), connection.perform)
        except BaseException:
            connection.close()
            raise
        return AsyncDirectResponse(found, conversation, connection, self._pool, request.origin)


class AsyncDirectResponse:
    """A response whose body is read in pieces; at its end the connection returns to the pool."""

    def __init__(
        self,
        head: Head,
        conversation: Conversation,
        connection: AsyncConnection,
        pool: ConnectionPool[AsyncConnection],
        origin: ServerOrigin,
    ) -> None:
        self.head = head
        self._conversation = conversation
        self._connection: AsyncConnection | None = connection
        self._pool = pool
        self._origin = origin

    async def read(self, timeout: float) -> bytes:
        """Return the next bytes of the body, b"" at its end. Raises as `send` does."""
        if self._connection is None:
            return b""
        data = self._conversation.at_hand()
        if data is None:
            data = await adrive(self._conversation.more(timeout), self._connection.perform)
        if not data:
            self._release()
        return data

    def abort(self) -> None:
        """Close the connection, unless it is back in the pool."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release(self._origin, connection, is_reusable=self._conversation.may_reuse)
