"""A client is set up: key and base URL from arguments or the environment, everything checked."""

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlsplit

from poeflow import settings
from poeflow.client.client_options import (
    Options,
    Validation,
    at_least_one,
    timeouts_from,
    validation_from,
)
from poeflow.client.commands import Conduct, Timeouts
from poeflow.client.failures import POE, Server
from poeflow.client.http.wire import origin_of
from poeflow.client.limits import Pace
from poeflow.client.retry import DEFAULT_ATTEMPTS, Policy
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
    server: Server | None = None,
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
        server=_server(server, url, is_given=keyless or api_key is not None),
        pace=Pace(per_minute=requests_per_minute),
        policy=Policy(attempts=at_least_one("attempts", attempts)),
        timeouts=timeouts_from(timeout, Timeouts()) if timeout is not None else Timeouts(),
    )
    settings.check_certificates(environ)
    proxy = settings.proxy_from(environ, url)
    return Options(
        key=key, base_url=url, conduct=conduct, validation=validation_from(validation), proxy=proxy
    )


def _server(named: Server | None, url: str, *, is_given: bool) -> Server:
    """Return whom hints speak of; where the caller does not say so, Poe or an address."""
    if named is None and origin_of(url) == origin_of(settings.DEFAULT_BASE_URL):
        named = POE
    if named is None:
        variable = "" if is_given else settings.KEY_VARIABLE
        named = Server(name=str(origin_of(url)), variable=variable, is_poe=False)
    return replace(named, base_url=url)


def checked_url(url: object, *, allow_insecure: bool) -> str:
    """Return a base URL without its last slash.

    Raises `UsageError`, also for plain http: it would show the key to everyone on the way.
    """
    if not isinstance(url, str):
        raise UsageError("base_url must be a text", hint=f"such as {settings.DEFAULT_BASE_URL}")
    url = settings.checked_base_url(url, named="base_url")
    parts, origin = urlsplit(url), origin_of(url)
    if parts.scheme == "http" and not origin.is_loopback and not allow_insecure:
        raise UsageError(
            f"base_url {origin} is not encrypted",
            hint="use https, or pass allow_insecure=True where the network is yours",
        )
    return url


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
    if not isinstance(given, str):
        raise UsageError("api_key must be a text or a Secret")
    try:
        return Secret(given)
    except ValueError as error:
        raise AccountError(f"api_key: {error}", hint=f"keys are at {settings.KEY_PAGE}") from None
