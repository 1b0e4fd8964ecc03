"""A client is set up: key and base URL from arguments or the environment, everything checked."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from poeflow import settings
from poeflow.client.commands import Conduct, Timeouts
from poeflow.client.limits import Pace
from poeflow.client.options import Options, Validation, at_least_one, timeouts_from
from poeflow.client.retry import DEFAULT_ATTEMPTS, Policy
from poeflow.client.wire import origin_of
from poeflow.clock import Clock
from poeflow.errors import AccountError, UsageError
from poeflow.redact import Scrubber, Secret


def options_from(
    *,
    api_key: str | Secret | None,
    base_url: str | None,
    allow_insecure: bool,
    clock: Clock,
    attempts: int = DEFAULT_ATTEMPTS,
    timeout: float | Timeouts | None = None,
    concurrency: int | None = None,
    requests_per_minute: int | None = None,
    validation: Validation | None = None,
    keyless: bool = False,
) -> Options:
    """Return a client's options; key and base URL fall back to the environment.

    One that is `keyless` sends no key. Raises `AccountError` without a key, `UsageError` where an
    argument is wrong.
    """
    environ = settings.process_environment()
    url = checked_url(
        base_url or settings.base_url_from(environ) or settings.DEFAULT_BASE_URL,
        allow_insecure=allow_insecure,
    )
    key = None if keyless else _key(api_key, environ)
    for name, limit in (("concurrency", concurrency), ("requests_per_minute", requests_per_minute)):
        if limit is not None:
            at_least_one(name, limit)
    conduct = Conduct(
        clock=clock,
        scrubber=Scrubber(*([key] if key is not None else [])),
        pace=Pace(per_minute=requests_per_minute),
        policy=Policy(attempts=at_least_one("attempts", attempts)),
        timeouts=timeouts_from(timeout, Timeouts()) if timeout is not None else Timeouts(),
    )
    settings.check_certificates(environ)
    proxy = settings.proxy_from(environ, url)
    return Options(key=key, base_url=url, conduct=conduct, validation=validation, proxy=proxy)


def checked_url(url: str, *, allow_insecure: bool) -> str:
    """Return a base URL without its last slash.

    Raises `UsageError`, also for plain http: it would show the key to everyone on the way.
    """
    try:
        parts, origin = urlsplit(url), origin_of(url)
    except ValueError:
        raise UsageError("base_url is not a web address") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            "base_url is not a web address", hint=f"it looks like {settings.DEFAULT_BASE_URL}"
        )
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise UsageError("base_url may hold no user name, query or fragment")
    if parts.scheme == "http" and not origin.is_loopback and not allow_insecure:
        raise UsageError(
            f"base_url {origin} is not encrypted",
            hint="use https, or pass allow_insecure=True where the network is yours",
        )
    return url.rstrip("/")


def _key(given: str | Secret | None, environ: Mapping[str, str]) -> Secret:
    """Return the key a client was given, else that of the environment. Raises `AccountError`."""
    if isinstance(given, Secret):
        return given
    if given is None:
        found = settings.api_key_from(environ)
        if found is None:
            hint = f"set {settings.KEY_VARIABLE}; keys are at {settings.KEY_PAGE}"
            raise AccountError("there is no API key", hint=hint)
        return found
    try:
        return Secret(given)
    except ValueError as error:
        raise AccountError(f"api_key: {error}", hint=f"keys are at {settings.KEY_PAGE}") from None
