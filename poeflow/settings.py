"""Where settings come from: the environment for what decides where a key goes, nothing else.

A repository never moves the key: base URL and key are read here, from the mapping handed in.
"""

import os
import re
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from poeflow.errors import AccountError, UsageError
from poeflow.redact import Secret

KEY_VARIABLE: Final = "POE_API_KEY"
BASE_URL_VARIABLE: Final = "POE_BASE_URL"
DEFAULT_BASE_URL: Final = "https://api.poe.com/v1"
KEY_PAGE: Final = "https://poe.com/api_key"
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_NUMBERS: Final = re.compile(
    r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}", re.IGNORECASE
)
_ENTRY: Final = re.compile(
    r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<bare>[^\[\]:]+|[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:./]*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
"""A host, a domain or a network; an IPv6 address with a port stands in brackets."""


def api_key_from(environ: Mapping[str, str], *, variable: str = KEY_VARIABLE) -> Secret | None:
    """Return the key in `variable`, or None where it is unset or blank.

    Raises `AccountError`, naming the variable and never its value, where it cannot be a key.
    """
    text = environ.get(variable, "").strip()
    if not text:
        return None
    try:
        return Secret(text)
    except ValueError as error:
        is_poe = variable == KEY_VARIABLE and not environ.get(BASE_URL_VARIABLE)
        hint = f"copy it from {KEY_PAGE}" if is_poe else "check the variable"
        raise AccountError(f"{variable}: {error}", hint=hint) from None


def base_url_from(environ: Mapping[str, str]) -> str | None:
    """Return `POE_BASE_URL` without a trailing slash, or None. Raises `UsageError`."""
    text = environ.get(BASE_URL_VARIABLE, "").strip()
    return checked_base_url(text, named=BASE_URL_VARIABLE) if text else None


def server_of(environ: Mapping[str, str]) -> str:
    """Return the base URL of what is called Poe, with none or a wrong one set Poe's own."""
    try:
        return base_url_from(environ) or DEFAULT_BASE_URL
    except UsageError:  # it is told where something would be sent
        return DEFAULT_BASE_URL


def checked_base_url(text: str, *, named: str) -> str:
    """Return a base URL without a trailing slash. Raises `UsageError`, calling it `named`."""
    if not _VISIBLE.fullmatch(text):
        message = f"{named} holds a space, a control character or another that no address has"
        raise UsageError(message, hint="type it anew")
    parts = _split(text)
    if parts is None or parts.scheme not in ("http", "https"):
        raise UsageError(f"{named} is not a web address", hint=f"it looks like {DEFAULT_BASE_URL}")
    if "@" in parts.netloc or parts.fragment or parts.query:
        raise UsageError(
            f"{named} holds a user name, query or fragment",
            hint="give scheme, host, port and path only",
        )
    return text.rstrip("/")


def process_environment() -> Mapping[str, str]:
    """Return the environment this process was given; what else reads it is handed a mapping."""
    return os.environ


def proxy_from(environ: Mapping[str, str], url: str) -> str | None:
    """Return the proxy for `url`, from `HTTPS_PROXY` or else `ALL_PROXY`; None for none.

    Loopback goes direct, by whatever name, and so does what `NO_PROXY` lists: hosts, domains,
    networks such as `10.0.0.0/8`, each with a port or without. A proxy needs no scheme. Raises
    `UsageError`, without the address (it may hold a password), where it is none.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    is_here = is_loopback(host) or host.endswith(".localhost")
    if parts.scheme != "https" or is_here or _is_excepted(environ, host, parts.port or 443):
        return None
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        proxy = (environ.get(name) or environ.get(name.lower()) or "").strip()
        if proxy:
            return _checked_proxy(proxy, name)
    return None


def _checked_proxy(text: str, name: str) -> str:
    proxy = text if "://" in text else f"http://{text}"
    parts = _split(proxy) if _VISIBLE.fullmatch(proxy) else None
    if parts is not None and parts.scheme.startswith("socks"):
        message = f"{name} is a SOCKS proxy, which is not supported"
        raise UsageError(message, hint="name an http proxy, or except the host with NO_PROXY")
    if parts is None or parts.scheme not in ("http", "https"):
        hint = "it looks like http://proxy.example:3128"
        raise UsageError(f"{name} is not a web address", hint=hint)
    return proxy


def is_loopback(host: str) -> bool:
    """Whether a host is this machine: `localhost`, or an address of loopback by any spelling."""
    if host.lower().rstrip(".") == "localhost":
        return True
    address = _address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address is not None and (mapped or address).is_loopback


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address a host is, also written as `127.1` or `0x7f000001`; None for a name."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        pass
    if not _NUMBERS.fullmatch(host):
        return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _split(url: str) -> SplitResult | None:
    """Return the parts of an address that has a host and a sound port, else None."""
    try:
        parts = urlsplit(url)
        is_sound = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if is_sound else None


def check_certificates(environ: Mapping[str, str]) -> None:
    """Raise `UsageError` where `SSL_CERT_FILE` names no file: OpenSSL would not say so."""
    named = environ.get("SSL_CERT_FILE", "")
    if named and not Path(named).is_file():
        raise UsageError("SSL_CERT_FILE names no file", hint="unset it, or name a PEM file")


def _is_excepted(environ: Mapping[str, str], host: str, port: int) -> bool:
    listed = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    return any(_excepts(entry.strip().lower(), host, port) for entry in listed.split(","))


def _excepts(entry: str, host: str, port: int) -> bool:
    """Whether one entry of `NO_PROXY` names a host."""
    match = _ENTRY.fullmatch(entry)
    if match is None or (match["port"] and int(match["port"]) != port):
        return False
    named = match["bracketed"] or match["bare"]
    if named == "*":
        return True
    address = _address(host)
    if address is not None:
        try:
            return address in ip_network(named, strict=False)
        except ValueError:
            return False
    name = named.lstrip("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))
