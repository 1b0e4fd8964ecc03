"""Where settings come from: the environment for what decides where a key goes, nothing else.

A repository never moves the key: base URL and key are read here, from the mapping handed in.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from poeflow.errors import AccountError, UsageError
from poeflow.redact import Secret

KEY_VARIABLE: Final = "POE_API_KEY"
BASE_URL_VARIABLE: Final = "POE_BASE_URL"
DEFAULT_BASE_URL: Final = "https://api.poe.com/v1"
KEY_PAGE: Final = "https://poe.com/api_key"


def api_key_from(environ: Mapping[str, str]) -> Secret | None:
    """Return the key in `POE_API_KEY`, or None where it is unset or blank.

    Raises `AccountError`, naming the variable and never its value, where it cannot be a key.
    """
    text = environ.get(KEY_VARIABLE, "").strip()
    if not text:
        return None
    try:
        return Secret(text)
    except ValueError as error:
        raise AccountError(f"{KEY_VARIABLE}: {error}", hint=f"copy it from {KEY_PAGE}") from None


def base_url_from(environ: Mapping[str, str]) -> str | None:
    """Return `POE_BASE_URL` without a trailing slash, or None. Raises `UsageError`."""
    text = environ.get(BASE_URL_VARIABLE, "").strip()
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"{BASE_URL_VARIABLE} is not a web address",
            hint=f"it looks like {DEFAULT_BASE_URL}",
        )
    if parts.username or parts.password or parts.fragment or parts.query:
        raise UsageError(
            f"{BASE_URL_VARIABLE} holds a user name, query or fragment",
            hint="give scheme, host, port and path only",
        )
    return text.rstrip("/")
