"""Asks the server what a run needs of it: that it answers, its clock, and the account's balance."""

from collections.abc import Iterator, Mapping
from typing import Final

from poeflow.client.failures import http_date
from poeflow.client.http.transport import transport_for
from poeflow.client.http.wire import Head, WireRequest, origin_of
from poeflow.client.sync import PoeClient
from poeflow.clock import Clock
from poeflow.digest import Json
from poeflow.errors import NotFoundError, PoeflowError
from poeflow.operations.machine.examination import Diagnosis, failed
from poeflow.operations.providers import poe_address
from poeflow.redact import Secret
from poeflow.settings import (
    DEFAULT_BASE_URL,
    KEY_VARIABLE,
    UserConfig,
    api_key_from,
    find_config,
    proxy_from,
)
from poeflow.version import __version__

_TIMEOUT: Final = 15.0
MAX_SKEW: Final = 120.0
"""Seconds that this machine's clock may differ from the server's."""


def ask_server(environ: Mapping[str, str], clock: Clock) -> Iterator[Diagnosis]:
    """Yield what the server says: that it answers, its clock, and the account's balance."""
    try:
        config = find_config(environ, project_root=None).config
        address = poe_address(environ, config) or DEFAULT_BASE_URL
        began = clock.monotonic()
        head = _head_of(address, proxy_from(environ, address), clock)
    except PoeflowError as error:
        yield failed("server", error)
        return
    except TimeoutError:
        text, hint = f"no response within {_TIMEOUT:.0f} s", "check the network and the proxy"
        yield Diagnosis(name="server", level="fault", text=text, hint=hint)
        return
    taken = clock.monotonic() - began
    text = f"{origin_of(address)} answers in {taken:.2f} s"
    yield Diagnosis(name="server", level="ok", text=text, facts={"url": address, "seconds": taken})
    yield _clock(head, clock.now())
    yield _balance(environ, config, address)


def _head_of(address: str, proxy: str | None, clock: Clock) -> Head:
    """Return the head of a response of the server, to a request without a key."""
    origin = origin_of(address)
    path = address.partition("://")[2].partition("/")[2]
    headers = (("user-agent", f"poeflow/{__version__}"), ("accept", "application/json"))
    request = WireRequest(
        origin=origin, target=f"/{path}/models".replace("//", "/"), method="GET", headers=headers
    )
    transport = transport_for(None, proxy=proxy, clock=clock)
    try:
        response = transport.send(request, connect=_TIMEOUT, total=_TIMEOUT, head=_TIMEOUT)
        response.abort()
    finally:
        transport.close()
    return response.head


def _clock(head: Head, now: float) -> Diagnosis:
    server = http_date(head.headers.get("date"))
    if server is None:
        return Diagnosis(name="clock", level="ok", text="the server does not say what time it is")
    ahead = now - server
    facts: dict[str, Json] = {"seconds_ahead": ahead}
    if abs(ahead) <= MAX_SKEW:
        text = f"within {MAX_SKEW:.0f} s of the server's"
        return Diagnosis(name="clock", level="ok", text=text, facts=facts)
    text = f"{abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} the server's"
    hint = "set it: certificates and times in the history depend on it"
    return Diagnosis(name="clock", level="warning", text=text, hint=hint, facts=facts)


def _balance(environ: Mapping[str, str], config: UserConfig, address: str) -> Diagnosis:
    try:
        key = api_key_from(environ)
        if key is None:
            text = "not known without a key"
            return Diagnosis(name="balance", level="warning", text=text, hint=f"set {KEY_VARIABLE}")
        points = _points(key, address, is_free=config.allows_insecure_poe)
    except NotFoundError:
        text = "the server has no accounts"
        return Diagnosis(name="balance", level="ok", text=text)
    except PoeflowError as error:
        return failed("balance", error)
    facts: dict[str, Json] = {"points": points}
    text = f"{points:,} points"
    if points <= 0:
        hint = "buy some, or use --offline"
        return Diagnosis(name="balance", level="fault", text=text, hint=hint, facts=facts)
    return Diagnosis(name="balance", level="ok", text=text, facts=facts)


def _points(key: Secret, address: str, *, is_free: bool) -> int:
    with PoeClient(
        api_key=key, base_url=address, attempts=1, timeout=_TIMEOUT, allow_insecure=is_free
    ) as client:
        return client.usage.current_balance().current_point_balance
