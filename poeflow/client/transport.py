"""What carries a request: our direct transports, or httpx's where one is injected or proxied.

The only module that imports httpx.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from poeflow.client.direct import tls_context
from poeflow.client.direct_aio import AsyncDirectTransport
from poeflow.client.direct_sync import DirectTransport
from poeflow.client.heads import Head
from poeflow.client.wire import Origin, WireRequest
from poeflow.clock import Clock
from poeflow.errors import APIConnectionError, APITimeoutError

if TYPE_CHECKING:
    import httpx


_KEPT: Final = 20


class Response(Protocol):
    """`read` returns b"" at the end of the body; `abort` closes what is not finished."""

    head: Head

    def read(self, timeout: float) -> bytes: ...

    def abort(self) -> None: ...


class Transport(Protocol):
    """Raises `APIConnectionError` and its kin, and `TimeoutError` while waiting for a response."""

    def send(
        self, request: WireRequest, *, connect: float, total: float, head: float
    ) -> Response: ...

    def close(self) -> None: ...


class AsyncResponse(Protocol):
    """The same, awaited."""

    head: Head

    async def read(self, timeout: float) -> bytes: ...

    def abort(self) -> None: ...


class AsyncTransport(Protocol):
    """The same, awaited."""

    async def send(
        self, request: WireRequest, *, connect: float, total: float, head: float
    ) -> AsyncResponse: ...

    async def aclose(self) -> None: ...


Injected: TypeAlias = "Transport | httpx.BaseTransport"
AsyncInjected: TypeAlias = "AsyncTransport | httpx.AsyncBaseTransport"


def transport_for(given: "Injected | None", *, proxy: str | None, clock: Clock) -> Transport:
    """Return what carries requests: what was injected, through a proxy, or directly."""
    if given is None and proxy is None:
        return DirectTransport(clock)
    if given is None:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_KEPT)
        inner = httpx.HTTPTransport(proxy=proxy, verify=tls_context(), limits=limits)
        return _HttpxTransport(inner)
    if hasattr(given, "handle_request"):
        return _HttpxTransport(cast("httpx.BaseTransport", given))
    return given


def async_transport_for(
    given: "AsyncInjected | None", *, proxy: str | None, clock: Clock
) -> AsyncTransport:
    """Return the same for the asynchronous client."""
    if given is None and proxy is None:
        return AsyncDirectTransport(clock)
    if given is None:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_KEPT)
        inner = httpx.AsyncHTTPTransport(proxy=proxy, verify=tls_context(), limits=limits)
        return _AsyncHttpxTransport(inner)
    if hasattr(given, "handle_async_request"):
        return _AsyncHttpxTransport(cast("httpx.AsyncBaseTransport", given))
    return given


class _HttpxTransport:
    def __init__(self, inner: "httpx.BaseTransport") -> None:
        self._inner = inner

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
            raise _translated(error, request.origin) from None

    def close(self) -> None:
        self._inner.close()


class _HttpxResponse:
    def __init__(self, response: "httpx.Response", origin: Origin) -> None:
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
    def __init__(self, inner: "httpx.AsyncBaseTransport") -> None:
        self._inner = inner

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
            raise _translated(error, request.origin) from None
        return _AsyncHttpxResponse(answered, request.origin)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _AsyncHttpxResponse:
    def __init__(self, response: "httpx.Response", origin: Origin) -> None:
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


def _translated(error: "httpx.TransportError", origin: Origin) -> OSError | APIConnectionError:
    """Say in our words what httpx met; its own may quote the request."""
    import httpx

    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return APITimeoutError(f"no connection to {origin} in time", hint="check the network")
        case httpx.WriteTimeout():
            return APITimeoutError("the request could not be sent in time", hint="attach less")
        case httpx.TimeoutException():
            return TimeoutError()
        case httpx.ProxyError():
            hint = "check HTTPS_PROXY and NO_PROXY"
            return APIConnectionError(f"the proxy in front of {origin} refused", hint=hint)
        case httpx.ConnectError():
            hint = "check the network, the proxy and SSL_CERT_FILE"
            return APIConnectionError(f"no connection to {origin}", hint=hint)
        case _:
            message = f"the connection to {origin} broke"
            return APIConnectionError(message, hint="try again", was_sent=True)
