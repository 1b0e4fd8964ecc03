"""One HTTP/1.1 connection: h11 reads requests from the stream and writes replies to it."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Coroutine
from typing import Final, Protocol, TypeVar
from urllib.parse import parse_qsl, urlsplit

import h11

from poeflow.clock import Clock
from poeflow.simulator.http_messages import MAX_BODY_BYTES, Reply, Request

T = TypeVar("T")
MAX_HEAD_BYTES: Final = 64 * 1024
_MAX_AHEAD: Final = 1024 * 1024
_READ: Final = 256 * 1024
_WRITE: Final = 16 * 1024
_LINGER_SECONDS: Final = 2.0


class Relay(Protocol):
    """A reply that is sent while it comes from elsewhere; `is_cut` if it ended too early."""

    is_cut: bool

    async def head(self) -> Reply:
        """Return the reply without its body, or another one that is whole."""

    async def read(self) -> bytes:
        """Return the next bytes of the body, b"" at its end."""

    def close(self) -> None:
        """Nothing will be read any more."""


class Host(Protocol):
    """Answers the requests of a connection."""

    def reply_to(self, request: Request) -> Reply | Relay: ...

    def refusal(self, status: int, message: str) -> Reply:
        """Return the reply to an unreadable request."""

    def in_flight(self, request: Request) -> contextlib.AbstractContextManager[None]:
        """Count `request` as in flight until just before the last byte of its reply."""


class ServerConnection:
    """Serves requests one after another until either side closes the connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: Host, clock: Clock
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host
        self._clock = clock
        self._pending = bytearray()
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._is_head = False
        # Flushed data is sent at once, so that the end follows it and later writes cannot fail.
        writer.transport.set_write_buffer_limits(high=0)

    async def serve(self) -> None:
        """Serve until the client closes. Raises `OSError` if the connection breaks."""
        try:
            while await self._exchange():
                self._http.start_next_cycle()
            self._writer.close()
            await self._writer.wait_closed()
        finally:
            self._writer.transport.abort()

    async def _exchange(self) -> bool:
        """Serve one request; return False if no other can follow."""
        try:
            request = await self._request()
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint, "the request is not valid HTTP")
            return False
        except ValueError:
            await self._refuse(400, "the request's address is not valid")
            return False
        except _TooLargeError:
            await self._refuse(413, f"the body is over {MAX_BODY_BYTES:,} bytes")
            return False
        if request is None:
            return False
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._host.in_flight(request))
            reply = self._host.reply_to(request)
            if isinstance(reply, Reply):
                await self._send(reply, stack)
            else:
                stack.callback(reply.close)
                await self._send(await self._unless_gone(reply.head()), stack, reply)
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _request(self) -> Request | None:
        """Return one whole request, None if the client closed instead."""
        self._is_head = False
        head = await self._event()
        if not isinstance(head, h11.Request):
            return None
        self._is_head = head.method == b"HEAD"
        headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in head.headers}
        if int(headers.get("content-length", "0")) > MAX_BODY_BYTES:
            raise _TooLargeError
        if self._http.they_are_waiting_for_100_continue:
            self._writer.write(
                _bytes(self._http, h11.InformationalResponse(status_code=100, headers=[]))
            )
        target = urlsplit(head.target.decode("latin-1"))
        return Request(
            method=head.method.decode("latin-1"),
            path=target.path,
            query=dict(parse_qsl(target.query)),
            headers=headers,
            body=await self._body(),
            raw_query=target.query,
        )

    async def _body(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while isinstance(piece := await self._event(), h11.Data):
            size += len(piece.data)
            if size > MAX_BODY_BYTES:
                raise _TooLargeError
            parts.append(piece.data)
        if not isinstance(piece, h11.EndOfMessage):
            raise ConnectionResetError
        return b"".join(parts)

    async def _event(self) -> object:
        while (found := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._reader.read(_READ))
        return found

    async def _refuse(self, status: int, message: str) -> None:
        """Reply to an invalid request, and let the client read it before closing."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        reply = self._host.refusal(status, message)
        with contextlib.ExitStack() as nothing:
            await self._send(reply, nothing)
        self._writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._reader.read(_READ):
                    pass

    async def _send(
        self, reply: Reply, in_flight: contextlib.ExitStack, relay: Relay | None = None
    ) -> None:
        """Write a reply, then the body of a relay; `in_flight` is closed before the last byte."""
        await self._pause(reply.wait)
        if reply.ending == "reset":
            in_flight.close()
            self._reset()
        if reply.ending == "silent":
            await self._until_gone()
        # Servers send header values in other encodings; they come and go byte by byte.
        headers = [(name.encode(), value.encode("latin-1")) for name, value in reply.headers]
        head = h11.Response(status_code=reply.status, headers=headers)
        self._pending += _bytes(self._http, head)
        # The reply to HEAD is only the head of the one to GET (RFC 9110, 9.3.2).
        for index, segment in enumerate(() if self._is_head else reply.segments):
            if segment.wait or (index and len(self._pending) > _WRITE):
                await self._flush()
                await self._pause(segment.wait)
            self._pending += _bytes(self._http, h11.Data(data=segment.data))
        if relay is not None:
            await self._pass_on(relay)
        if reply.ending == "stall":
            await self._flush()
            await self._until_gone()
        if reply.ending == "complete" and not (relay is not None and relay.is_cut):
            self._pending += _bytes(self._http, h11.EndOfMessage())
        in_flight.close()
        await self._flush()

    async def _pass_on(self, relay: Relay) -> None:
        """Write the body of a relay as it comes."""
        await self._flush()
        while data := await self._unless_gone(relay.read()):
            if not self._is_head:
                self._pending += _bytes(self._http, h11.Data(data=data))
                await self._flush()

    async def _flush(self) -> None:
        self._writer.write(bytes(self._pending))
        self._pending.clear()
        await self._writer.drain()

    async def _pause(self, seconds: float) -> None:
        """Wait. Raises `ConnectionResetError` at once if the client closes meanwhile."""
        if seconds > 0:
            await self._unless_gone(self._clock.asleep(seconds))

    async def _unless_gone(self, waiting: Coroutine[None, None, T]) -> T:
        """Wait for something. Raises `ConnectionResetError` at once if the client closes."""
        try:
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(self._until_gone())
                found = await waiting
                watcher.cancel()
        except* ConnectionError:
            raise ConnectionResetError from None
        return found

    async def _until_gone(self) -> None:
        """Buffer what the client sends; raises `ConnectionResetError` when it closes."""
        ahead = 0
        while data := await self._reader.read(_READ):
            ahead += len(data)
            if ahead > _MAX_AHEAD:
                break
            self._http.receive_data(data)
        raise ConnectionResetError

    def _reset(self) -> None:
        """Reset the connection instead of closing it in order."""
        at_once = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, at_once
        )
        self._writer.transport.abort()
        raise ConnectionResetError


class _TooLargeError(Exception):
    """The body is over the limit."""


def _bytes(http: h11.Connection, event: h11.Event) -> bytes:
    return http.send(event) or b""
