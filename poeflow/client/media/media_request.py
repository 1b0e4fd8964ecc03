"""One request for a media file: to a checked address, or through a proxy.

It has no key and no cookies, and its connection is closed afterwards.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Final, Protocol

from poeflow.client.http.aio import AsyncConnection, AsyncDirectResponse
from poeflow.client.http.commands import adrive
from poeflow.client.http.connections import (
    ConnectionPool,
    Conversation,
    LostError,
    connection_error,
    ended_early,
)
from poeflow.client.http.transport import AsyncResponse, async_transport_for
from poeflow.client.http.wire import ServerOrigin, WireRequest
from poeflow.client.media.media_targets import MediaTarget, check_addresses
from poeflow.clock import Clock

AGES: Final = 86_400.0
"""The time limit of single steps in seconds, as the caller limits all steps together."""
_CONNECT: Final = 10.0
_MAX_ADDRESSES: Final = 6
_HEADERS: Final = (
    ("accept", "*/*"),
    ("accept-encoding", "identity"),
    ("connection", "close"),
    ("user-agent", "poeflow"),
)


class Network(Protocol):
    """Resolves host names and connects to addresses; both raise `OSError`."""

    async def addresses(self, origin: ServerOrigin) -> tuple[str, ...]:
        """Return the IP addresses of an origin's host."""

    async def connect(self, origin: ServerOrigin, address: str) -> AsyncConnection:
        """Connect to an IP address; with https, check the origin's certificate."""


@contextlib.asynccontextmanager
async def media_response(
    target: MediaTarget, *, network: Network, proxy: str | None, clock: Clock
) -> AsyncIterator[AsyncResponse]:
    """Request a target without key or cookies and return the response, its body unread.

    A `proxy` resolves the name itself, so only the name is checked; loopback targets never use a
    proxy. Raises `StepError` if the name resolves to a forbidden address, `APIConnectionError`
    and `APIResponseError`. The caller limits the time.
    """
    request = WireRequest(
        origin=target.origin, target=target.target, method="GET", headers=_HEADERS
    )
    if proxy is None or target.is_loopback:
        asked = _directly(request, target, network=network, clock=clock)
    else:
        asked = _through(request, proxy, clock)
    async with asked as response:
        yield response


@contextlib.asynccontextmanager
async def _directly(
    request: WireRequest, target: MediaTarget, *, network: Network, clock: Clock
) -> AsyncIterator[AsyncResponse]:
    conversation = Conversation(request, clock)
    pool: ConnectionPool[AsyncConnection] = ConnectionPool(clock.monotonic)
    pool.close()  # connections are not reused: the next file may be on any host
    connection = await _connected(target, network)
    try:
        ends = clock.monotonic() + AGES
        head = await adrive(conversation.begin(ends=ends, head=AGES), connection.perform)
        yield AsyncDirectResponse(head, conversation, connection, pool, target.origin)
    except LostError as error:
        raise ended_early(target.origin, was_sent=error.was_sent) from None
    finally:
        connection.close()


@contextlib.asynccontextmanager
async def _through(request: WireRequest, proxy: str, clock: Clock) -> AsyncIterator[AsyncResponse]:
    transport = async_transport_for(None, proxy=proxy, clock=clock)
    try:
        yield await transport.send(request, connect=_CONNECT, total=AGES, head=AGES)
    finally:
        await transport.aclose()


async def _connected(target: MediaTarget, network: Network) -> AsyncConnection:
    """Connect to the first of a host's addresses that accepts a connection."""
    failure: OSError = socket.gaierror()
    try:
        found = await network.addresses(target.origin)
    except OSError as error:
        raise connection_error(error, target.origin) from None
    for address in check_addresses(dict.fromkeys(found), target)[:_MAX_ADDRESSES]:
        try:
            async with asyncio.timeout(_CONNECT):
                return await network.connect(target.origin, address)
        except OSError as error:
            failure = error
    raise connection_error(failure, target.origin)
