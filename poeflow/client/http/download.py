"""Fetches the media an answer names: public addresses only, a bounded size, no key, no cookies.

A model names them, so each is checked as if an attacker had written it: a host's name is resolved
once, and the connection goes to the address that was checked.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final, Protocol
from urllib.parse import urljoin

from poeflow.client.commands import adrive
from poeflow.client.failures import BY_STATUS, retry_after
from poeflow.client.http.aio import AsyncDirectResponse, Connection
from poeflow.client.http.connections import (
    ConnectionPool,
    Conversation,
    LostError,
    connection_error,
    lost,
    tls_context,
)
from poeflow.client.http.transport import AsyncResponse, async_transport_for
from poeflow.client.http.wire import Head, Origin, WireRequest, origin_of
from poeflow.client.retry import Policy
from poeflow.clock import Clock, spoken
from poeflow.errors import (
    AnswerTooLargeError,
    APIError,
    APIResponseError,
    APITimeoutError,
    InternalServerError,
    StepError,
)
from poeflow.redact import visible

MIB: Final = 1024 * 1024
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
EXPIRED: Final = "the address may have expired; ask again with --refresh"


def redirection_of(head: Head, url: str, place: str) -> str | None:
    """Return the address that `url` redirects to, None where it does not redirect.

    The address is not checked yet. Raises `StepError` where it is none.
    """
    if head.status not in _REDIRECTS:
        return None
    try:
        return urljoin(url, head.headers["location"])
    except (KeyError, ValueError):
        raise StepError(f"{place} redirects nowhere", hint=EXPIRED) from None


def check_head(head: Head, place: str, *, limit: int, now: float) -> None:
    """Raise the error that a response's head stands for, none where a file follows.

    `now` is in seconds since 1970, `place` for the message.
    """
    if head.status in (408, 429) or head.status >= 500:
        status_error = BY_STATUS.get(head.status, InternalServerError)
        wait = retry_after(head.headers, now=now)
        message = f"{place} is not there now ({head.status})"
        raise status_error(message, status_code=head.status, hint="try again", retry_after=wait)
    if head.status != 200:
        raise StepError(f"{place} is not to be had ({head.status})", hint=EXPIRED)
    media_type = head.headers.get("content-type", "").partition(";")[0].strip().lower()
    if _is_document(media_type):
        message = f"{place} holds {media_type}, no picture, film or sound"
        raise StepError(message, hint=EXPIRED)
    if head.headers.get("content-encoding", "identity").lower() != "identity":
        raise StepError(f"{place} comes compressed, which was not asked for", hint=EXPIRED)
    length = head.headers.get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise too_large(place, limit)


def _is_document(media_type: str) -> bool:
    """Tell whether it is text or markup, such as an error page, JSON or SVG."""
    kind, _, name = media_type.partition("/")
    return kind == "text" or name in ("json", "xml") or name.endswith(("+json", "+xml"))


def too_large(place: str, limit: int) -> StepError:
    return StepError(f"{place} is larger than {limit / MIB:g} MiB", hint="ask the bot for less")


_URL: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}|\[[0-9a-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!$-;=?-\[\]_a-z~]*|\?[!$-;=?-\[\]_a-z~]*)?"
    r"(?:#[!-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_LONGEST: Final = 4_096
_SHOWN: Final = 100
_ANOTHER: Final = "ask the bot again with --refresh"
_PORTS: Final = {"https": 443, "http": 80}
_UNICAST: Final = ip_network("2000::/3")
_SPECIAL: Final = tuple(
    ip_network(block)
    for block in (
        "192.88.99.0/24",  # 6to4 relays
        "2001::/23",  # Teredo, ORCHID and other protocols' own
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
"""What some of Python's releases call global, and is not one host's own address.

IPv4-mapped and NAT64 addresses lie outside of 2000::/3. See
https://www.iana.org/assignments/iana-ipv6-special-registry.
"""


@dataclass(frozen=True, slots=True)
class Target:
    """An address that may be asked; `target` is its path and query."""

    origin: Origin
    target: str
    is_loopback: bool

    @property
    def place(self) -> str:
        """Host and path, for a message; the query may be a password to the file."""
        return place_of(f"{self.origin}{self.target}")


def place_of(url: str) -> str:
    """Return host and path of any address, for a message."""
    bare = re.split(r"[?#]", url.partition("://")[2], maxsplit=1)[0]
    authority, slash, path = bare.partition("/")
    place = visible(authority.rpartition("@")[2] + slash + path)
    return place if len(place) <= _SHOWN else f"{place[: _SHOWN - 1]}…"


def target_of(url: str, *, hosts: Collection[str], loopback: Collection[str]) -> Target:
    """Read an address; `hosts` and `loopback` are those of `Rules`.

    Raises `StepError` where it may not be asked, wherever its host's name leads.
    """
    read = _URL.fullmatch(url) if len(url) <= _LONGEST else None
    port = int(read["port"] or _PORTS[read["scheme"].lower()]) if read is not None else 0
    if read is None or not 0 < port < 65_536:
        message = f"{place_of(url)} is not an address that media are fetched from"
        raise StepError(message, hint="it has the form https://HOST/PATH, without a user name")
    origin = Origin(read["scheme"].lower(), read["host"].lower().strip("[]"), port)
    path = read["path"] or "/"
    is_loopback = origin.is_loopback and origin in map(origin_of, loopback)
    target = Target(origin, path if path.startswith("/") else f"/{path}", is_loopback)
    if not is_loopback and origin.scheme != "https":
        raise StepError(f"{target.place} has no https, so it is not fetched", hint=_ANOTHER)
    if not is_loopback and not _is_listed(origin, hosts):
        message = f"{target.place} is not fetched: {origin.authority} is not among the media hosts"
        hint = f'where you trust it, add "{origin.authority}" to media_hosts in your own'
        raise StepError(message, hint=f"{hint} configuration")
    if _is_address(origin.host):
        checked((origin.host,), target)
    return target


def checked(addresses: Iterable[str], target: Target) -> tuple[str, ...]:
    """Return the IP addresses a host's name led to.

    Raises `StepError` where one of them is not on the open internet; what should be on this
    machine must lead there and nowhere else.
    """
    given = tuple(addresses)
    if not all(map(_is_loopback if target.is_loopback else is_public, given)):
        where = "a machine other than this" if target.is_loopback else "a private network"
        message = f"{target.place} is not fetched: its name leads to {where}"
        raise StepError(message, hint="check what your network answers for that name")
    return given


def is_public(address: str) -> bool:
    """Tell whether an IP address is one host's own on the open internet."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    if isinstance(ip, IPv6Address) and (ip.scope_id is not None or ip not in _UNICAST):
        return False
    return not any(ip in block for block in _SPECIAL if block.version == ip.version)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _is_listed(origin: Origin, hosts: Collection[str]) -> bool:
    """Tell whether a host is named: exactly, or by `*.` and what its name ends in."""
    name = origin.authority
    patterns = [host.lower().removesuffix(f":{_PORTS['https']}") for host in hosts]
    return any(
        name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern
        for pattern in patterns
    )


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


class Internet:
    """The machine's own network."""

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context()

    async def addresses(self, origin: Origin) -> tuple[str, ...]:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        return tuple(str(address[0]) for *_, address in found)

    async def connect(self, origin: Origin, address: str) -> Connection:
        is_secure = origin.scheme == "https"
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            Connection,
            address,
            origin.port,
            ssl=self._tls if is_secure else None,
            server_hostname=origin.host if is_secure else None,
        )
        return connection


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


MEDIA_HOSTS: Final = ("*.poecdn.net",)
"""Where Poe keeps what its bots made."""
MAX_FILES: Final = 100
MAX_REDIRECTS: Final = 3
_ATTEMPTS: Final = 3


def _without_proxy(_url: str) -> None:
    """Find no proxy before any address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may be fetched, from where.

    `hosts` are exact names, or `*.name` for every name below it, with `:port` where that is not
    443. `limit` is in bytes a file, `timeout` in seconds an attempt. `loopback` are origins such
    as `http://127.0.0.1:8123`, the simulator's or the configured API's, which may serve media
    too; those beyond this machine are ignored. `proxy_of` gives the proxy that stands before an
    address, None where there is none.
    """

    hosts: Collection[str] = MEDIA_HOSTS
    limit: int = 50 * MIB
    timeout: float = 60.0
    loopback: Collection[str] = frozenset()
    proxy_of: Callable[[str], str | None] = _without_proxy


def wanted(urls: Iterable[str], rules: Rules) -> tuple[str, ...]:
    """Return those of an answer's addresses that may be asked; it may link to pages as well.

    One that holds its file itself (`data:`) is wanted and never asked. Raises `StepError` where
    there are addresses but none may be asked, telling why for the first, and where more than 100
    may.
    """
    found: list[str] = []
    refused: list[StepError] = []
    for url in urls:
        if url.startswith("data:"):
            found.append(url)
            continue
        try:
            target_of(url, hosts=rules.hosts, loopback=rules.loopback)
        except StepError as error:
            refused.append(error)
        else:
            found.append(url)
    if refused and not found:
        raise refused[0]
    if len(found) > MAX_FILES:
        message = f"the answer names {len(found):,} files; at most {MAX_FILES} are fetched"
        raise StepError(message, hint="ask the bot for fewer")
    return tuple(found)


async def download(
    url: str, rules: Rules, *, clock: Clock, network: Network | None = None
) -> bytes:
    """Fetch a file that an answer names.

    A host's name is resolved once, every address it leads to must be public, and the connection
    is made to one of those; behind a proxy, which finds hosts by itself, the name alone counts.
    Redirects are checked in the same way. What a retry can fix is tried three times. A `network`
    that several downloads share reads the trusted certificates once.

    Raises `StepError` where the file may not be fetched, is gone, too large, or a document
    instead of media; `APIConnectionError`, `APITimeoutError`, `APIResponseError` and the
    `APIStatusError` of 408, 429 and from 500 on where the last attempt failed so.
    """
    fetch = _Fetch(rules, clock, network or Internet())
    policy = Policy(attempts=_ATTEMPTS)
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
    """One attempt at a file, and the redirects it takes."""

    def __init__(self, rules: Rules, clock: Clock, network: Network) -> None:
        self._rules = rules
        self._clock = clock
        self._network = network

    async def attempt(self, url: str) -> bytes:
        try:
            async with asyncio.timeout(self._rules.timeout):
                return await self._followed(url)
        except TimeoutError:
            message = f"{place_of(url)} did not arrive within {spoken(self._rules.timeout)}"
            raise APITimeoutError(message, hint="try again") from None
        except AnswerTooLargeError as error:  # it would be so the next time too
            raise StepError(f"{place_of(url)} could not be read: {error.message}") from None
        except APIResponseError as error:
            message = f"{place_of(url)} could not be read: {error.message}"
            raise APIResponseError(message, hint="try again") from None

    async def _followed(self, url: str) -> bytes:
        at = url
        for hop in range(MAX_REDIRECTS + 1):
            try:
                found = await self._asked(at)
            except StepError as error:
                if not hop:
                    raise
                message = f"{place_of(url)} redirects: {error.message}"
                raise StepError(message, hint=error.hint) from None
            if isinstance(found, bytes):
                return found
            at = found
        message = f"{place_of(url)} redirects more than {MAX_REDIRECTS} times"
        raise StepError(message, hint=EXPIRED)

    async def _asked(self, url: str) -> bytes | str:
        """Return the file at an address, or the address it redirects to."""
        target = target_of(url, hosts=self._rules.hosts, loopback=self._rules.loopback)
        limit = self._rules.limit
        proxy = self._rules.proxy_of(str(target.origin))
        async with answered(
            target, network=self._network, proxy=proxy, clock=self._clock
        ) as response:
            elsewhere = redirection_of(response.head, url, target.place)
            if elsewhere is not None:
                return elsewhere
            check_head(response.head, target.place, limit=limit, now=self._clock.now())
            body = bytearray()
            while data := await response.read(AGES):
                body += data
                if len(body) > limit:
                    raise too_large(target.place, limit)
            return bytes(body)
