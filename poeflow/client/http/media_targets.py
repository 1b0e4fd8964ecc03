"""Which addresses media may be fetched from, decided before and after a host's name is resolved.

A model names them, so each is read as if an attacker had written it. Nothing is asked here.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from poeflow.client.http.wire import Origin, origin_of
from poeflow.errors import StepError
from poeflow.redact import visible

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


def place_of(url: str) -> str:
    """Return host and path of any address, for a message."""
    bare = re.split(r"[?#]", url.partition("://")[2], maxsplit=1)[0]
    authority, slash, path = bare.partition("/")
    place = visible(authority.rpartition("@")[2] + slash + path)
    return place if len(place) <= _SHOWN else f"{place[: _SHOWN - 1]}…"


def _is_listed(origin: Origin, hosts: Collection[str]) -> bool:
    """Tell whether a host is named: exactly, or by `*.` and what its name ends in."""
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
