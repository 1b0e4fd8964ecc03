"""Decides which addresses media may be downloaded from, before and after name resolution.

A model writes the addresses, so each is checked like an attacker's. Nothing is sent here.
"""

import re
from collections.abc import Collection, Iterable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

import msgspec

from poeflow.client.http.wire import ServerOrigin, origin_of
from poeflow.errors import StepError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.redact import visible

_URL: Final = lazy_pattern(
    r"(?P<scheme>https?)://"
    r"(?P<host>(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}|\[[0-9a-f:.]{2,45}\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[!$-;=?-\[\]_a-z~]*|\?[!$-;=?-\[\]_a-z~]*)?"
    r"(?:#[!-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_LONGEST: Final = 4_096
_SHOWN: Final = 100
_ANOTHER: Final = "request it again with --refresh"
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
"""Networks that some Python releases treat as global, but are not addresses of single hosts.

IPv4-mapped and NAT64 addresses are outside 2000::/3. See
https://www.iana.org/assignments/iana-ipv6-special-registry.
"""


class MediaTarget(msgspec.Struct, frozen=True):
    """An address that may be requested; `target` is its path and query."""

    origin: ServerOrigin
    target: str
    is_loopback: bool

    @property
    def place(self) -> str:
        """Host and path, for a message; the query may contain a secret."""
        return shown_address(f"{self.origin}{self.target}")


def media_target(url: str, *, hosts: Collection[str], loopback: Collection[str]) -> MediaTarget:
    """Parse an address; `hosts` and `loopback` are those of `Rules`.

    Raises `StepError` if it is not allowed, before its host name is resolved.
    """
    read = _URL.fullmatch(url) if len(url) <= _LONGEST else None
    port = int(read["port"] or _PORTS[read["scheme"].lower()]) if read is not None else 0
    if read is None or not 0 < port < 65_536:
        message = f"{shown_address(url)} is not an address that media are fetched from"
        raise StepError(message, hint="it has the form https://HOST/PATH, without a user name")
    origin = ServerOrigin(read["scheme"].lower(), read["host"].lower().strip("[]"), port)
    path = read["path"] or "/"
    is_loopback = origin.is_loopback and origin in map(origin_of, loopback)
    target = MediaTarget(origin, path if path.startswith("/") else f"/{path}", is_loopback)
    if not is_loopback and origin.scheme != "https":
        raise StepError(f"{target.place} has no https, so it is not fetched", hint=_ANOTHER)
    if not is_loopback and not _is_listed(origin, hosts):
        message = f"{target.place} is not fetched: {origin.authority} is not among the media hosts"
        hint = f'if you trust it, add "{origin.authority}" to media_hosts in your own'
        raise StepError(message, hint=f"{hint} configuration")
    if _is_address(origin.host):
        check_addresses((origin.host,), target)
    return target


def check_addresses(addresses: Iterable[str], target: MediaTarget) -> tuple[str, ...]:
    """Return the IP addresses that a host name resolves to.

    Raises `StepError` if one of them is not public; those of loopback targets must all be
    loopback addresses.
    """
    given = tuple(addresses)
    if not all(map(_is_loopback if target.is_loopback else is_public, given)):
        where = "a machine other than this" if target.is_loopback else "a private network"
        message = f"{target.place} is not fetched: its name resolves to {where}"
        raise StepError(message, hint="check the name resolution of your network")
    return given


def is_public(address: str) -> bool:
    """Return whether an IP address is a public address of a single host."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    if isinstance(ip, IPv6Address) and (ip.scope_id is not None or ip not in _UNICAST):
        return False
    return not any(ip in block for block in _SPECIAL if block.version == ip.version)


def shown_address(url: str) -> str:
    """Return host and path of an address, for a message."""
    bare = re.split(r"[?#]", url.partition("://")[2], maxsplit=1)[0]
    authority, slash, path = bare.partition("/")
    place = visible(authority.rpartition("@")[2] + slash + path)
    return place if len(place) <= _SHOWN else f"{place[: _SHOWN - 1]}…"


def _is_listed(origin: ServerOrigin, hosts: Collection[str]) -> bool:
    """Return whether a host is listed: exactly, or by `*.` and a suffix of its name."""
    name = origin.authority
    patterns = [host.lower().removesuffix(f":{_PORTS['https']}") for host in hosts]
    return any(
        name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern
        for pattern in patterns
    )


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
