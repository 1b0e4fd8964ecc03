"""The synchronous transport: our own HTTP/1.1 on sockets, with a connection pool."""

import selectors
import socket
import ssl
from functools import cached_property
from typing import Final

from poeflow.client.http.commands import drive
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

_LARGE: Final = 64 * 1024
READ_OR_WRITE: Final = selectors.EVENT_READ | selectors.EVENT_WRITE
_Selector: Final[type[selectors.BaseSelector]] = getattr(
    selectors, "PollSelector", selectors.SelectSelector
)
"""`poll` has no limit on descriptors; Windows has no `poll`, and `select` without that limit."""


class Connection:
    """One open socket."""

    def __init__(self, opened: socket.socket, clock: Clock) -> None:
        self._socket = opened
        self._clock = clock

    @property
    def is_usable(self) -> bool:
        """Return whether nothing was received while idle: that would be the end of connection."""
        return not has_input(self._socket.fileno())

    def perform(self, command: Write | Receive) -> bytes:
        if command.timeout <= 0:
            raise TimeoutError
        self._socket.settimeout(command.timeout)
        if isinstance(command, Receive):
            return self._socket.recv(READ_SIZE)
        if len(command.data) < _LARGE or isinstance(self._socket, ssl.SSLSocket):
            self._socket.sendall(command.data)
            return b""
        return self._write(command.data, self._clock.monotonic() + command.timeout)

    def _write(self, data: bytes, ends: float) -> bytes:
        """Send, and return what the server sends before it has everything."""
        rest = memoryview(data)
        while rest:
            ready = self._ready(READ_OR_WRITE, ends - self._clock.monotonic())
            if not ready:
                raise TimeoutError
            if ready & selectors.EVENT_READ:
                early = self._socket.recv(READ_SIZE)
                if not early:
                    raise BrokenPipeError
                return early
            rest = rest[self._socket.send(rest) :]
        return b""

    def _ready(self, events: int, timeout: float) -> int:
        with _Selector() as selector:
            selector.register(self._socket, events)
            return sum(ready for _, ready in selector.select(timeout))

    def close(self) -> None:
        self._socket.close()


class DirectTransport:
    """Sends requests, one connection each; safe between threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pool: ConnectionPool[Connection] = ConnectionPool(clock.monotonic)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context()

    def send(
        self, request: WireRequest, *, connect: float, total: float, head: float
    ) -> "DirectResponse":
        """Send and return the response, its body unread.

        Raises `APIConnectionError`, `APITimeoutError` if connecting or sending took too long,
        and `TimeoutError` if the response did.
        """
        ends = self._clock.monotonic() + total
        idle = self._pool.take(request.origin)
        if idle is not None:
            try:
                return self._begin(idle, request, ends=ends, head=head)
            except LostError as error:
                if error.was_sent:  # the server may have read it, so the caller decides
                    raise ended_early(request.origin, was_sent=True) from None
        fresh = self._open(request.origin, connect)
        try:
            return self._begin(fresh, request, ends=ends, head=head)
        except LostError as error:
            raise ended_early(request.origin, was_sent=error.was_sent) from None

    def close(self) -> None:
        self._pool.close()

    def _open(self, origin: ServerOrigin, timeout: float) -> Connection:
        try:
            opened = socket.create_connection((origin.host, origin.port), timeout)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if origin.scheme == "https":
                opened = self._tls.wrap_socket(opened, server_hostname=origin.host)
        except TimeoutError:
            message = f"no connection to {origin} within {timeout:g} s"
            raise APITimeoutError(message, hint="check the network") from None
        except OSError as error:
            raise connection_error(error, origin) from None
        return Connection(opened, self._clock)

    def _begin(
        self, connection: Connection, request: WireRequest, *, ends: float, head: float
    ) -> "DirectResponse":
        conversation = Conversation(request, self._clock)
        try:
            found = drive(conversation.begin(ends=ends, head=head), connection.perform)
        except BaseException:
            connection.close()
            raise
        return DirectResponse(found, conversation, connection, self._pool, request.origin)


class DirectResponse:
    """A response whose body is read in pieces; at its end the connection returns to the pool."""

    def __init__(
        self,
        head: Head,
        conversation: Conversation,
        connection: Connection,
        pool: ConnectionPool[Connection],
        origin: ServerOrigin,
    ) -> None:
        self.head = head
        self._conversation = conversation
        self._connection: Connection | None = connection
        self._pool = pool
        self._origin = origin

    def read(self, timeout: float) -> bytes:
        """Return the next bytes of the body, b"" at its end. Raises as `send` does."""
        if self._connection is None:
            return b""
        data = drive(self._conversation.more(timeout), self._connection.perform)
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
