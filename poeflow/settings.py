"""Where settings come from: the environment for what decides where a key goes, nothing else.

A repository never moves the key: base URL and key are read here, from the mapping handed in.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from poeflow.errors import AccountError, UsageError
from poeflow.redact import Secret

KEY_VARIABLE: Final = "POE_API_KEY"
BASE_URL_VARIABLE: Final = "POE_BASE_URL"
DEFAULT_BASE_URL: Final = "https://api.poe.com/v1"
KEY_PAGE: Final = "https://poe.com/api_key"


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


def checked_base_url(text: str, *, named: str) -> str:
    """Return a base URL without a trailing slash. Raises `UsageError`, calling it `named`."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{named} is not a web address", hint=f"it looks like {DEFAULT_BASE_URL}")
    if parts.username or parts.password or parts.fragment or parts.query:
        raise UsageError(
            f"{named} holds a user name, query or fragment",
            hint="give scheme, host, port and path only",
        )
    return text.rstrip("/")


def process_environment() -> Mapping[str, str]:
    """Return the environment this process was given; what else reads it is handed a mapping."""
    return os.environ


def proxy_from(environ: Mapping[str, str], url: str) -> str | None:
    """Return the proxy `HTTPS_PROXY` sets for `url`, or None: loopback and `NO_PROXY` go direct.

    Raises `UsageError`, without the address (it may hold a password), where it is none.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme != "https" or host == "localhost" or _is_excepted(environ, host):
        return None
    proxy = (environ.get("HTTPS_PROXY") or environ.get("https_proxy") or "").strip()
    if not proxy:
        return None
    if urlsplit(proxy).scheme not in ("http", "https") or not urlsplit(proxy).hostname:
        raise UsageError(
            "HTTPS_PROXY is not a web address", hint="it looks like http://proxy.example:3128"
        )
    return proxy


def check_certificates(environ: Mapping[str, str]) -> None:
    """Raise `UsageError` where `SSL_CERT_FILE` names no file: OpenSSL would not say so."""
    named = environ.get("SSL_CERT_FILE", "")
    if named and not Path(named).is_file():
        raise UsageError("SSL_CERT_FILE names no file", hint="unset it, or name a PEM file")


def _is_excepted(environ: Mapping[str, str], host: str) -> bool:
    listed = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    for entry in listed.split(","):
        name = entry.strip().partition(":")[0].lstrip(".").lower()
        if name and (name in ("*", host) or host.endswith(f".{name}")):
            return True
    return False
