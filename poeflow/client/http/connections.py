"""What both transports share: the connection pool, the TLS context, and the steps of a request.

Errors of the operating system are converted to ours here.
"""

import contextlib
import select
import socket
import ssl
import sys
from collections.abc import Callable, Generator
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from poeflow.client.http.piece_counts import PieceCount
from poeflow.client.http.wire import Head, HttpCodec, ServerOrigin, WireRequest
from poeflow.clock import Clock
from poeflow.errors import APIConnectionError, APITimeoutError, BlockedConnectionError, UsageError

MAX_IDLE_SECONDS: Final = 60.0
C = TypeVar("C", bound="PooledConnection")

_REASONS: Final[tuple[tuple[type[OSError], str, str], ...]] = (
    (
        ssl.SSLCertVerificationError,
        "the certificate of {} is not trusted",
        "check the clock and SSL_CERT_FILE",
    ),
    (ssl.SSLError, "the secure connection to {} failed", "check the address and the proxy"),
    (socket.gaierror, "the name of {} could not be found", "check the network and the address"),
    (ConnectionRefusedError, "{} refused the connection", "check that a server runs there"),
    (ConnectionError, "the connection to {} broke", "try again"),
    (OSError, "{} could not be reached", "check the network"),
)
"""Message and hint by error class; the first match counts, `OSError` matches all."""

_OTHER_NAME: Final = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNSUPPORTED_PROTOCOL"})


def connection_error(
    error: OSError, origin: ServerOrigin, *, was_sent: bool = False
) -> APIConnectionError:
    """Return an error of the operating system as ours, without its own text."""
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _OTHER_NAME:
        message = f"the certificate of {origin} is for another host"
        return BlockedConnectionError(message, hint="check the base URL and the server there")
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        message = f"{origin} does not speak TLS as expected"
        return BlockedConnectionError(message, hint="check the port, and http or https")
    for error_class, message, hint in _REASONS:
        if isinstance(error, error_class):
            if error_class is ssl.SSLCertVerificationError:
                return BlockedConnectionError(message.format(origin), hint=hint)
            return APIConnectionError(message.format(origin), hint=hint, was_sent=was_sent)
    raise AssertionError("every OSError has a reason")


def cut_short(origin: ServerOrigin) -> APIConnectionError:
    """Return the error of a connection that ended inside a response."""
    message = f"the connection to {origin} ended inside the answer"
    return APIConnectionError(message, hint="try again", was_sent=True)


def tls_context() -> ssl.SSLContext:
    """Return a context that checks certificates against the system's authorities.

    OpenSSL itself reads `SSL_CERT_FILE` and `SSL_CERT_DIR`; if neither they nor the system have
    any authorities, certifi's are used.
    """
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not _has_folder():
        import certifi

        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def _has_folder() -> bool:
    """Return whether there is a folder of authorities, which OpenSSL reads only on demand."""
    return ssl.get_default_verify_paths().capath is not None


def ended_early(origin: ServerOrigin, *, was_sent: bool) -> APIConnectionError:
    """Return the error of a connection that ended before a response began."""
    message = f"the connection to {origin} ended before an answer came"
    return APIConnectionError(message, hint="try again", was_sent=was_sent)


def has_input(file: int) -> bool:
    """Return whether bytes, or the end of its connection, can be read from a socket at once."""
    if sys.platform == "win32":  # it has no poll; its select takes any descriptor
        return bool(select.select([file], [], [], 0)[0])
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(0))


class PooledConnection(Protocol):
    """A connection in the pool."""

    @property
    def is_usable(self) -> bool: ...

    def close(self) -> None: ...


class ConnectionPool(Generic[C]):
    """Idle connections by origin; the one released last is taken first, in O(1).

    A pool that nobody holds closes them, as a client that is not closed is no leak.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._idle: dict[ServerOrigin, list[tuple[C, float]]] = {}
        self._is_open = True

    def take(self, origin: ServerOrigin) -> C | None:
        """Return a usable connection that was idle for less than a minute, or None."""
        idle = self._idle.get(origin)
        while idle:
            try:
                connection, since = idle.pop()
            except IndexError:  # another thread took the last one
                return None
            if self._clock() - since < MAX_IDLE_SECONDS and connection.is_usable:
                return connection
            connection.close()
        return None

    def release(self, origin: ServerOrigin, connection: C, *, is_reusable: bool) -> None:
        """Put a connection whose response is read into the pool, or close it."""
        if is_reusable and self._is_open:
            self._idle.setdefault(origin, []).append((connection, self._clock()))
        else:
            connection.close()

    def close(self) -> None:
        """Close idle connections, and from now on those that are released."""
        self._is_open = False
        for idle in list(self._idle.values()):
            with contextlib.suppress(IndexError):  # another thread took the last one
                while idle:
                    idle.pop()[0].close()

    __del__ = close


T = TypeVar("T")
READ_SIZE: Final = 256 * 1024


class LostError(Exception):
    """A connection ended before the first byte of the response."""

    def __init__(self, *, was_sent: bool) -> None:
        super().__init__()
        self.was_sent = was_sent


class Write(msgspec.Struct, frozen=True):
    """Send all of `data` within `timeout` seconds; bytes that arrive meanwhile may be returned.

    `is_last` if nothing follows, so that they need not be checked for.
    """

    data: bytes
    timeout: float
    is_last: bool


class Receive(msgspec.Struct, frozen=True):
    """Return the bytes that arrive within `timeout` seconds, b"" at the end."""

    timeout: float


Steps: TypeAlias = Generator[Write | Receive, bytes, T]


class Conversation:
    """The steps of one request.

    They raise `APIConnectionError`, `APITimeoutError` if sending took too long, and
    `TimeoutError` if the response did.
    """

    def __init__(self, request: WireRequest, clock: Clock) -> None:
        self._request = request
        self._clock = clock
        self._codec = HttpCodec()
        self._first = b""
        self._was_sent = False
        self._pieces = PieceCount()

    @property
    def may_reuse(self) -> bool:
        return self._was_sent and self._codec.may_reuse

    def begin(self, *, ends: float, head: float) -> Steps[Head]:
        """Send the request and return the response's head, all before the time `ends`.

        `head` limits the seconds from the sent request to the head. Raises also `LostError`.
        """
        data = yield from self._write(ends)
        sent_at = self._clock.monotonic()
        ends = min(ends, sent_at + head)
        has_begun = False
        while True:
            if not data:
                data = yield from self._receive(ends, has_begun=has_begun)
            if not data and not has_begun:
                raise LostError(was_sent=self._was_sent)
            if not data:
                raise cut_short(self._request.origin)
            found = self._codec.receive_head(data)
            if found is not None:
                self._first = self._codec.first_body()
                return msgspec.structs.replace(found, sent_at=sent_at)
            has_begun = True
            data = b""

    def at_hand(self) -> bytes | None:
        """Return the next bytes of the body if they are here, b"" at its end, else None."""
        if self._first:
            first, self._first = self._first, b""
            return first
        return b"" if self._codec.is_complete else None

    def more(self, timeout: float) -> Steps[bytes]:
        """Return the next bytes of the body, b"" at its end."""
        if (found := self.at_hand()) is not None:
            return found
        self._codec.check()
        ends = self._clock.monotonic() + timeout
        while not self._codec.is_complete:
            data = yield from self._receive(ends, has_begun=True)
            if not data and not self._codec.end():
                raise cut_short(self._request.origin)
            self._pieces.add(len(data))
            if data and (body := self._codec.receive_body(data)):
                return body
        return b""

    def _receive(self, ends: float, *, has_begun: bool) -> Steps[bytes]:
        try:
            return (yield Receive(ends - self._clock.monotonic()))
        except TimeoutError:
            raise
        except OSError as error:
            if not has_begun:
                raise LostError(was_sent=self._was_sent) from error
            raise connection_error(error, self._request.origin, was_sent=True) from None

    def _write(self, ends: float) -> Steps[bytes]:
        """Send everything, and return what the server sent before it had all of it.

        The server may close the connection early; its response can still be read.
        """
        waiting = self._head_bytes()
        try:
            for piece in self._request.body.pieces():
                if len(waiting) + len(piece) <= READ_SIZE:
                    waiting += piece
                    continue
                early = yield Write(waiting, ends - self._clock.monotonic(), is_last=False)
                if early:
                    return early
                waiting = piece
            early = yield Write(waiting, ends - self._clock.monotonic(), is_last=True)
        except TimeoutError:
            message = "the request could not be sent in time"
            raise APITimeoutError(message, hint="raise the timeout, or attach less") from None
        except OSError:
            return b""
        self._was_sent = True
        return early

    def _head_bytes(self) -> bytes:
        try:
            return self._request.head()
        except ValueError as error:
            raise UsageError(str(error), hint="check extra_headers and extra_query") from None
