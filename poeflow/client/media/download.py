"""Downloads the media of an answer: only public addresses, bounded size, no key, no cookies.

A model writes the URLs, so each is checked like an attacker's: a host name is resolved once, and
the connection goes to the checked address.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from typing import Final, Protocol
from urllib.parse import urljoin

import msgspec

from poeflow.client.failures import error_class_of, retry_after
from poeflow.client.http.aio import AsyncConnection, AsyncDirectResponse, Internet
from poeflow.client.http.commands import adrive
from poeflow.client.http.connections import (
    ConnectionPool,
    Conversation,
    LostError,
    connection_error,
    ended_early,
)
from poeflow.client.http.transport import AsyncResponse, async_transport_for
from poeflow.client.http.wire import Head, ServerOrigin, WireRequest
from poeflow.client.media.media_targets import (
    MediaTarget,
    check_addresses,
    media_target,
    shown_address,
)
from poeflow.client.retry import RetryPolicy
from poeflow.clock import Clock, spoken
from poeflow.errors import (
    AnswerTooLargeError,
    APIError,
    APIResponseError,
    APITimeoutError,
    StepError,
)

MEDIA_HOSTS: Final = ("*.poecdn.net",)
"""Where Poe stores the media that bots make."""
MIB: Final = 1024 * 1024
MAX_FILES: Final = 100
_MAX_REDIRECTS: Final = 3
_ATTEMPTS: Final = 3
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_EXPIRED: Final = "the address may have expired; request it again with --refresh"


def _without_proxy(_url: str) -> None:
    """Return no proxy for any address."""


class DownloadRules(msgspec.Struct, frozen=True, kw_only=True):
    """What may be downloaded, and from where.

    `hosts` are exact names, or `*.name` for every name below it, with `:port` unless that is 443.
    `limit` is in bytes per file, `timeout` in seconds per attempt. `loopback` are origins such as
    `http://127.0.0.1:8123`, the simulator's or the configured API's, which may serve media too;
    origins on other machines are ignored. `proxy_of` returns the proxy for an address, or None.
    """

    hosts: Collection[str] = MEDIA_HOSTS
    limit: int = 50 * MIB
    timeout: float = 60.0
    loopback: Collection[str] = frozenset()
    proxy_of: Callable[[str], str | None] = _without_proxy


class Network(Protocol):
    """Resolves host names and connects to addresses; both raise `OSError`."""

    async def addresses(self, origin: ServerOrigin) -> tuple[str, ...]:
        """Return the IP addresses of an origin's host."""

    async def connect(self, origin: ServerOrigin, address: str) -> AsyncConnection:
        """Connect to an IP address; with https, check the origin's certificate."""


def wanted(
    urls: Iterable[str],
    rules: DownloadRules,
    *,
    is_stored: Callable[[str], bool] = lambda _url: False,
) -> tuple[str, ...]:
    """Return the addresses in an answer that may be downloaded; others may be links to pages.

    `data:` addresses, which contain the file, and those whose file `is_stored` are included. Raises
    `StepError` if there are addresses but none is allowed, with the reason for the first, and if
    over 100 are allowed.
    """
    found: list[str] = []
    refused: list[StepError] = []
    for url in urls:
        if url.startswith("data:"):
            found.append(url)
            continue
        try:
            media_target(url, hosts=rules.hosts, loopback=rules.loopback)
        except StepError as error:
            if not is_stored(url):
                refused.append(error)
                continue
        found.append(url)
    if refused and not found:
        raise refused[0]
    if len(found) > MAX_FILES:
        message = f"the answer names {len(found):,} files; at most {MAX_FILES} are fetched"
        raise StepError(message, hint="ask the bot for fewer")
    return tuple(found)


async def download(
    url: str, rules: DownloadRules, *, clock: Clock, network: Network | None = None
) -> bytes:
    """Download a file of an answer.

    A host name is resolved once, all its addresses must be public, and the connection is made to
    one of them; behind a proxy, which resolves names itself, only the name is checked. Redirects
    are checked in the same way. Errors that a retry can fix are tried three times. Several
    downloads can share a `network`, which reads the trusted certificates once.

    Raises `StepError` if the file is not allowed, is gone, too large, or a document instead of
    media; `APIConnectionError`, `APITimeoutError`, `APIResponseError` and the `APIStatusError` of
    408, 429 and from 500 on if the last attempt failed with it.
    """
    fetch = _Fetch(rules, clock, network or Internet())
    policy = RetryPolicy(attempts=_ATTEMPTS)
    began, attempt = clock.monotonic(), 0
    while True:
        attempt += 1
        try:
            return await fetch.attempt(url)
        except APIError as error:
            elapsed = clock.monotonic() - began
            wait = policy.wait_after(error, attempt=attempt, elapsed=elapsed, is_media=False)
            if wait is None:
                raise
        await clock.asleep(wait)


class _Fetch:
    """One attempt to download a file, with its redirects."""

    def __init__(self, rules: DownloadRules, clock: Clock, network: Network) -> None:
        self._rules = rules
        self._clock = clock
        self._network = network

    async def attempt(self, url: str) -> bytes:
        try:
            async with asyncio.timeout(self._rules.timeout):
                return await self._followed(url)
        except TimeoutError:
            message = f"{shown_address(url)} did not arrive within {spoken(self._rules.timeout)}"
            raise APITimeoutError(message, hint="try again") from None
        except AnswerTooLargeError as error:  # a retry would not help
            raise StepError(f"{shown_address(url)} could not be read: {error.message}") from None
        except APIResponseError as error:
            message = f"{shown_address(url)} could not be read: {error.message}"
            raise APIResponseError(message, hint="try again") from None

    async def _followed(self, url: str) -> bytes:
        at = url
        for hop in range(_MAX_REDIRECTS + 1):
            try:
                found = await self._asked(at)
            except StepError as error:
                if not hop:
                    raise
                message = f"{shown_address(url)} redirects: {error.message}"
                raise StepError(message, hint=error.hint) from None
            if isinstance(found, bytes):
                return found
            at = found
        message = f"{shown_address(url)} redirects more than {_MAX_REDIRECTS} times"
        raise StepError(message, hint=_EXPIRED)

    async def _asked(self, url: str) -> bytes | str:
        """Return the file at an address, or the address it redirects to."""
        target = media_target(url, hosts=self._rules.hosts, loopback=self._rules.loopback)
        limit = self._rules.limit
        proxy = self._rules.proxy_of(str(target.origin))
        async with _response(
            target, network=self._network, proxy=proxy, clock=self._clock
        ) as response:
            elsewhere = _redirection_of(response.head, url, target.place)
            if elsewhere is not None:
                return elsewhere
            _check_head(response.head, target.place, limit=limit, now=self._clock.now())
            body = bytearray()
            while data := await response.read(_AGES):
                body += data
                if len(body) > limit:
                    raise _too_large(target.place, limit)
            return bytes(body)


def _redirection_of(head: Head, url: str, place: str) -> str | None:
    """Return the address that `url` redirects to, None if it does not redirect.

    The address is not checked yet. Raises `StepError` if it is not an address.
    """
    if head.status not in _REDIRECTS:
        return None
    try:
        return urljoin(url, head.headers["location"])
    except (KeyError, ValueError):
        raise StepError(f"{place} redirects nowhere", hint=_EXPIRED) from None


def _check_head(head: Head, place: str, *, limit: int, now: float) -> None:
    """Raise the error of a response's head, if it is not that of a media file.

    `now` is in seconds since 1970, `place` for the message.
    """
    if head.status in (408, 429) or head.status >= 500:
        status_error = error_class_of(head.status)
        wait = retry_after(head.headers, now=now)
        message = f"{place} is not available now ({head.status})"
        raise status_error(message, status_code=head.status, hint="try again", retry_after=wait)
    if head.status != 200:
        raise StepError(f"{place} is not available ({head.status})", hint=_EXPIRED)
    media_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if _is_document(media_type):
        message = f"{place} is {media_type}, not an image, video or audio"
        raise StepError(message, hint=_EXPIRED)
    if head.headers.get("content-encoding", "identity").lower() != "identity":
        raise StepError(f"{place} is compressed, which was not requested", hint=_EXPIRED)
    length = head.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise _too_large(place, limit)


def _is_document(media_type: str) -> bool:
    """Return whether it is text or markup, such as an error page, JSON or SVG."""
    kind, _, name = media_type.partition("/")
    return kind == "text" or name in ("json", "xml") or name.endswith(("+json", "+xml"))


def _too_large(place: str, limit: int) -> StepError:
    return StepError(f"{place} is larger than {limit / MIB:g} MiB", hint="ask the bot for less")


_AGES: Final = 86_400.0
"""The time limit of single steps in seconds, as the caller limits all steps together."""
_CONNECT: Final = 10.0
_MAX_ADDRESSES: Final = 6
_HEADERS: Final = (
    ("accept", "*/*"),
    ("accept-encoding", "identity"),
    ("connection", "close"),
    ("user-agent", "poeflow"),
)


@contextlib.asynccontextmanager
async def _response(
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
        ends = clock.monotonic() + _AGES
        head = await adrive(conversation.begin(ends=ends, head=_AGES), connection.perform)
        yield AsyncDirectResponse(head, conversation, connection, pool, target.origin)
    except LostError as error:
        raise ended_early(target.origin, was_sent=error.was_sent) from None
    finally:
        connection.close()


@contextlib.asynccontextmanager
async def _through(request: WireRequest, proxy: str, clock: Clock) -> AsyncIterator[AsyncResponse]:
    transport = async_transport_for(None, proxy=proxy, clock=clock)
    try:
        yield await transport.send(request, connect=_CONNECT, total=_AGES, head=_AGES)
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
