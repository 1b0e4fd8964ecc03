"""What both direct transports share: idle connections, the TLS context, and one border.

There an operating system's error becomes ours.
"""

import socket
import ssl
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from poeflow.client.http.wire import Origin
from poeflow.errors import APIConnectionError, BlockedConnectionError

MAX_IDLE_SECONDS: Final = 60.0
C = TypeVar("C", bound="Kept")

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
"""The first class that fits says what is told; `OSError` is last and fits all."""

_OTHER_NAME: Final = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNSUPPORTED_PROTOCOL"})


def connection_error(
    error: OSError, origin: Origin, *, was_sent: bool = False
) -> APIConnectionError:
    """Translate what the operating system said; its own text never reaches a user."""
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _OTHER_NAME:
        message = f"the certificate that {origin} shows is for another host"
        return BlockedConnectionError(message, hint="check the base URL, and who answers there")
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        message = f"{origin} does not speak TLS as expected"
        return BlockedConnectionError(message, hint="check the port, and http or https")
    for error_class, message, hint in _REASONS:
        if isinstance(error, error_class):
            if error_class is ssl.SSLCertVerificationError:
                return BlockedConnectionError(message.format(origin), hint=hint)
            return APIConnectionError(message.format(origin), hint=hint, was_sent=was_sent)
    raise AssertionError("every OSError has a reason")


def cut_short(origin: Origin) -> APIConnectionError:
    """Return the error of a connection that ended inside a response."""
    message = f"the connection to {origin} ended inside the answer"
    return APIConnectionError(message, hint="try again", was_sent=True)


def tls_context() -> ssl.SSLContext:
    """Return a context that checks certificates against the system's authorities.

    `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured by OpenSSL itself; where neither they nor the
    system bring any authority, certifi's are used.
    """
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not _has_folder():
        import certifi

        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def _has_folder() -> bool:
    """Tell whether authorities lie in a folder, which is read only when one is needed."""
    return ssl.get_default_verify_paths().capath is not None


def lost(origin: Origin, *, was_sent: bool) -> APIConnectionError:
    """Return the error of a new connection that ended before an answer began."""
    message = f"the connection to {origin} ended before an answer came"
    return APIConnectionError(message, hint="try again", was_sent=was_sent)


class Kept(Protocol):
    """A connection as the shelf sees it."""

    @property
    def is_usable(self) -> bool: ...

    def close(self) -> None: ...


class Shelf(Generic[C]):
    """Idle connections of every origin; the one put back last is taken first, in O(1)."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._idle: dict[Origin, list[tuple[C, float]]] = {}
        self._is_open = True

    def take(self, origin: Origin) -> C | None:
        """Return a connection that is usable and was idle for less than a minute, or None."""
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

    def release(self, origin: Origin, connection: C, *, is_reusable: bool) -> None:
        """Keep a connection whose response is read, or close it."""
        if is_reusable and self._is_open:
            self._idle.setdefault(origin, []).append((connection, self._clock()))
        else:
            connection.close()

    def close(self) -> None:
        """Close what is idle, now and from now on."""
        self._is_open = False
        for idle in self._idle.values():
            while idle:
                idle.pop()[0].close()
