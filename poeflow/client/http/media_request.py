"""One request for a media file: to an address that was checked, or through a proxy.

It carries no key and no cookies, and its connection is closed after it.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Final, Protocol

from poeflow.client.commands import adrive
from poeflow.client.http.aio import AsyncDirectResponse, Connection
from poeflow.client.http.connections import (
    ConnectionPool,
    Conversation,
    LostError,
    connection_error,
    lost,
)
from poeflow.client.http.media_targets import Target, checked
from poeflow.client.http.transport import AsyncResponse, async_transport_for
from poeflow.client.http.wire import Origin, WireRequest
from poeflow.clock import Clock

AGES: Final = 86_400.0
"""For clocks of single steps, in seconds, where the caller bounds all of them together."""
_CONNECT: Final = 10.0
_MAX_ADDRESSES: Final = 6
_HEADERS: Final = (
    ("accept", "*/*"),
    ("accept-encoding", "identity"),
    ("connection", "close"),
    ("user-agent", "poeflow"),
)


class Network(Protocol):
    """Finds hosts and connects to them; both raise `OSError`."""

    async def addresses(self, origin: Origin) -> tuple[str, ...]:
        """Return the IP addresses of an origin's host."""

    async def connect(self, origin: Origin, address: str) -> Connection:
        """Connect to an IP address and, with https, have it prove that it is the origin."""


@contextlib.asynccontextmanager
async def answered(
    target: Target, *, network: Network, proxy: str | None, clock: Clock
) -> AsyncIterator[AsyncResponse]:
    """Ask for a target, without a key or cookies; the response's body is unread.

    A `proxy` finds the host by itself, so only its name was checked; what is on this machine is
    never asked for through one. Raises `StepError` where the host's name leads where it should
    not, `APIConnectionError` and `APIResponseError`. The caller bounds the time.
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
    request: WireRequest, target: Target, *, network: Network, clock: Clock
) -> AsyncIterator[AsyncResponse]:
    conversation = Conversation(request, clock)
    pool: ConnectionPool[Connection] = ConnectionPool(clock.monotonic)
    pool.close()  # nothing is kept: the next file may come from anywhere
    connection = await _connected(target, network)
    try:
        ends = clock.monotonic() + AGES
        head = await adrive(conversation.begin(ends=ends, head=AGES), connection.perform)
        yield AsyncDirectResponse(head, conversation, connection, pool, target.origin)
    except LostError as error:
        raise lost(target.origin, was_sent=error.was_sent) from None
    finally:
        connection.close()


@contextlib.asynccontextmanager
async def _through(request: WireRequest, proxy: str, clock: Clock) -> AsyncIterator[AsyncResponse]:
    transport = async_transport_for(None, proxy=proxy, clock=clock)
    try:
        yield await transport.send(request, connect=_CONNECT, total=AGES, head=AGES)
    finally:
        await transport.aclose()


async def _connected(target: Target, network: Network) -> Connection:
    """Connect to the first of a host's addresses that takes it."""
    failure: OSError = socket.gaierror()
    try:
        found = await network.addresses(target.origin)
    except OSError as error:
        raise connection_error(error, target.origin) from None
    for address in checked(dict.fromkeys(found), target)[:_MAX_ADDRESSES]:
        try:
            async with asyncio.timeout(_CONNECT):
                return await network.connect(target.origin, address)
        except OSError as error:
            failure = error
    raise connection_error(failure, target.origin)
