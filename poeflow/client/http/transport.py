"""The transports of requests: our own, or httpx's if one is injected or a proxy is used.

The only module that imports httpx.
"""

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from poeflow.client.http.aio import AsyncDirectTransport
from poeflow.client.http.connections import connection_error, tls_context
from poeflow.client.http.sync import DirectTransport
from poeflow.client.http.wire import Head, ServerOrigin, WireRequest, origin_of
from poeflow.clock import Clock
from poeflow.errors import APIConnectionError, APITimeoutError, BlockedConnectionError

if TYPE_CHECKING:
    import httpx


_KEPT: Final = 20
_DEEPEST: Final = 8


class Response(Protocol):
    """`read` returns b"" at the end of the body; `abort` closes an unfinished response."""

    head: Head

    def read(self, timeout: float) -> bytes: ...

    def abort(self) -> None: ...


class Transport(Protocol):
    """Raises `APIConnectionError` and subclasses, and `TimeoutError` waiting for a response."""

    def send(
        self, request: WireRequest, *, connect: float, total: float, head: float
    ) -> Response: ...

    def close(self) -> None: ...


class AsyncResponse(Protocol):
    """The asynchronous form of the protocol above."""

    head: Head

    async def read(self, timeout: float) -> bytes: ...

    def abort(self) -> None: ...


class AsyncTransport(Protocol):
    """The asynchronous form of the protocol above."""

    async def send(
        self, request: WireRequest, *, connect: float, total: float, head: float
    ) -> AsyncResponse: ...

    async def aclose(self) -> None: ...


Injected: TypeAlias = "Transport | httpx.BaseTransport"
AsyncInjected: TypeAlias = "AsyncTransport | httpx.AsyncBaseTransport"


def transport_for(given: "Injected | None", *, proxy: str | None, clock: Clock) -> Transport:
    """Return the transport: the injected one, one through a proxy, or a direct one."""
    if given is None and proxy is None:
        return DirectTransport(clock)
    if given is None:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_KEPT)
        inner = httpx.HTTPTransport(proxy=proxy, verify=tls_context(), limits=limits)
        return _HttpxTransport(inner, proxy=_origin(proxy))
    if hasattr(given, "handle_request"):
        return _HttpxTransport(cast("httpx.BaseTransport", given))
    return given


def async_transport_for(
    given: "AsyncInjected | None", *, proxy: str | None, clock: Clock
) -> AsyncTransport:
    """Return the transport of the asynchronous client."""
    if given is None and proxy is None:
        return AsyncDirectTransport(clock)
    if given is None:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_KEPT)
        inner = httpx.AsyncHTTPTransport(proxy=proxy, verify=tls_context(), limits=limits)
        return _AsyncHttpxTransport(inner, proxy=_origin(proxy))
    if hasattr(given, "handle_async_request"):
        return _AsyncHttpxTransport(cast("httpx.AsyncBaseTransport", given))
    return given


class _HttpxTransport:
    def __init__(self, inner: "httpx.BaseTransport", *, proxy: ServerOrigin | None = None) -> None:
        self._inner = inner
        self._proxy = proxy

    def send(
        self, request: WireRequest, *, connect: float, total: float, head: float
    ) -> "_HttpxResponse":
        import httpx

        prepared = httpx.Request(
            request.method,
            f"{request.origin}{request.target}",
            headers=_headers(request),
            content=request.body.pieces() if request.body.segments else None,
            extensions={"timeout": _timeouts(connect, total, head)},
        )
        try:
            return _HttpxResponse(self._inner.handle_request(prepared), request.origin)
        except httpx.TransportError as error:
            raise _translated(error, request.origin, self._proxy) from None

    def close(self) -> None:
        self._inner.close()


class _HttpxResponse:
    def __init__(self, response: "httpx.Response", origin: ServerOrigin) -> None:
        self.head = _head(response)
        self._response = response
        self._origin = origin
        self._pieces = iter(cast("Iterable[bytes]", response.stream))

    def read(self, timeout: float) -> bytes:
        """Return the next bytes. httpx fixes its read timeout when the request is sent."""
        import httpx

        try:
            return next(filter(None, self._pieces), b"")
        except httpx.TransportError as error:
            raise _translated(error, self._origin) from None

    def abort(self) -> None:
        self._response.close()


class _AsyncHttpxTransport:
    def __init__(
        self, inner: "httpx.AsyncBaseTransport", *, proxy: ServerOrigin | None = None
    ) -> None:
        self._inner = inner
        self._proxy = proxy

    async def send(
        self, request: WireRequest, *, connect: float, total: float, head: float
    ) -> "_AsyncHttpxResponse":
        import httpx

        async def pieces() -> AsyncIterator[bytes]:
            for piece in request.body.pieces():
                yield piece

        prepared = httpx.Request(
            request.method,
            f"{request.origin}{request.target}",
            headers=_headers(request),
            content=pieces() if request.body.segments else None,
            extensions={"timeout": _timeouts(connect, total, head)},
        )
        try:
            answered = await self._inner.handle_async_request(prepared)
        except httpx.TransportError as error:
            raise _translated(error, request.origin, self._proxy) from None
        return _AsyncHttpxResponse(answered, request.origin)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _AsyncHttpxResponse:
    def __init__(self, response: "httpx.Response", origin: ServerOrigin) -> None:
        self.head = _head(response)
        self._response = response
        self._origin = origin
        self._pieces = aiter(cast("AsyncIterable[bytes]", response.stream))
        self._is_at_end = False

    async def read(self, timeout: float) -> bytes:
        import httpx

        try:
            async with asyncio.timeout(timeout):
                async for piece in self._pieces:
                    if piece:
                        return piece
        except httpx.TransportError as error:
            raise _translated(error, self._origin) from None
        self._is_at_end = True
        await self._response.aclose()
        return b""

    def abort(self) -> None:
        if not self._is_at_end:
            closing = asyncio.ensure_future(self._response.aclose())
            closing.add_done_callback(lambda done: done.cancelled() or done.exception())


def _headers(request: WireRequest) -> list[tuple[str, str]]:
    headers = [("host", request.origin.authority), *request.headers]
    if request.method != "GET":
        headers.append(("content-length", str(request.body.length)))
    return headers


def _timeouts(connect: float, total: float, head: float) -> dict[str, float]:
    return {"connect": connect, "pool": connect, "write": total, "read": head}


def _head(response: "httpx.Response") -> Head:
    return Head(response.status_code, {k.lower(): v for k, v in response.headers.items()})


def _origin(proxy: str | None) -> ServerOrigin | None:
    return origin_of(proxy) if proxy is not None else None


def _translated(
    error: "httpx.TransportError", origin: ServerOrigin, proxy: ServerOrigin | None = None
) -> OSError | APIConnectionError:
    """Return an error of httpx as ours, without its text, which may quote the request."""
    import httpx

    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return APITimeoutError(f"no connection to {origin} in time", hint="check the network")
        case httpx.WriteTimeout():
            return APITimeoutError("the request could not be sent in time", hint="attach less")
        case httpx.TimeoutException():
            return TimeoutError()
        case httpx.ProxyError():
            return _refused_by_proxy(str(error)[:3], origin)
        case httpx.ConnectError():
            met = _system_error(error)
            if isinstance(met, ssl.SSLError):
                return connection_error(met, origin)
            if met is not None:
                return connection_error(met, proxy or origin)
            hint = "check the network, the proxy and SSL_CERT_FILE"
            return APIConnectionError(f"no connection to {origin}", hint=hint)
        case _:
            message = f"the connection to {origin} broke"
            return APIConnectionError(message, hint="try again", was_sent=True)


def _refused_by_proxy(status: str, origin: ServerOrigin) -> APIConnectionError:
    """Return the error of a proxy that refused, by its status."""
    if status == "407":
        hint = "check the user name and password in HTTPS_PROXY"
    elif status in ("403", "405"):
        hint = "it does not allow this host or port; ask its administrator, or set NO_PROXY"
    elif status.startswith("5"):
        hint = "it may not find or reach that host; check the base URL, HTTPS_PROXY and NO_PROXY"
    else:
        hint = "check HTTPS_PROXY and NO_PROXY"
    shown_status = f" ({status})" if status.isascii() and status.isdigit() else ""
    message = f"the proxy in front of {origin} refused{shown_status}"
    if status.startswith("4") and status not in ("408", "429"):
        return BlockedConnectionError(message, hint=hint)
    return APIConnectionError(message, hint=hint)


def _system_error(error: BaseException) -> OSError | None:
    """Return the most informative error of the operating system behind this one."""
    found: OSError | None = None
    cause: BaseException | None = error
    for _ in range(_DEEPEST):
        if isinstance(cause, OSError) and (found is None or type(found) is OSError):
            found = cause
        cause = (cause.__cause__ or cause.__context__) if cause is not None else None
    return found
