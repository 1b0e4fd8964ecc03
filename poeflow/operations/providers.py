"""Connects a run to its servers: addresses, keys and clients.

Only the user's own settings decide to which server a key is sent.
"""

import contextlib
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final
from urllib.parse import urlsplit

import msgspec

from poeflow.client.aio import AsyncPoeClient
from poeflow.client.failures import Server
from poeflow.client.http.wire import origin_of
from poeflow.client.media.download import MEDIA_HOSTS, DownloadRules
from poeflow.clock import Clock
from poeflow.engine.asking.context import Provider, no_key
from poeflow.errors import UsageError
from poeflow.flowfile.patterns import one_of
from poeflow.flowfile.project_settings import least
from poeflow.flowfile.step_settings import POE, providers_of
from poeflow.operations.run_options import RunOptions, warn_once
from poeflow.operations.secret_inputs import secret_inputs
from poeflow.planning.checked import Checked
from poeflow.redact import SHORTEST_MASKED, Keyring, Secret
from poeflow.settings import (
    BASE_URL_VARIABLE,
    DEFAULT_BASE_URL,
    UserConfig,
    api_key_from,
    base_url_from,
    keys_of,
    proxy_from,
)

_SIMULATED_KEY: Final = Secret("simulated-key")


class Connections:
    """The providers of a run, by name, and the origins of their addresses.

    `secrets` are the values of the flow's secret inputs, which only they are sent; `keys` are those
    of all servers of the user.
    """

    def __init__(self, checked: Checked, options: RunOptions, config: UserConfig) -> None:
        self.providers: dict[str, Provider] = {}
        self.origins: set[str] = set()
        self.secrets: Mapping[str, Secret] = {}
        self.keys = Keyring(*keys_of(options.environ, config.key_variables))
        self._checked = checked
        self._options = options
        self._config = config

    @property
    def downloads(self) -> DownloadRules:
        """The hosts that media may be fetched from."""
        return DownloadRules(
            hosts=(*MEDIA_HOSTS, *self._config.media_hosts),
            loopback=frozenset(self.origins),
            proxy_of=partial(proxy_from, self._options.environ),
        )

    def note_servers(self) -> None:
        """Note the names and origins of the servers, without connecting and without a key."""
        moved = base_url_from(self._options.environ)
        for name in _provider_names(self._checked):
            own = self._config.providers.get(name)
            is_poe = name == POE and not self._options.offline
            origin = self._config.origin_of(moved) if is_poe else name
            takes = self._options.offline or (own is not None and own.response_format)
            self.providers[name] = Provider(client=None, origin=origin, takes_schemas=takes)
            address = moved if name == POE else own.base_url if own is not None else None
            self.origins |= {_origin(address)} if address else set()

    async def open(self, stack: contextlib.AsyncExitStack, *, has_answers: bool) -> None:
        """Connect to every server that the flow names. Raises `AccountError` or `UsageError`.

        Without a key only stored answers can be used; `has_answers` says that there are some, in
        the store or by the lock.
        """
        flow, asked = self._checked.file.flow, self._options.limits
        pace = (
            least(flow.limits.requests_per_minute, asked.requests_per_minute),
            least(flow.limits.tokens_per_minute, asked.tokens_per_minute),
        )
        self.secrets = secret_inputs(flow, self._options.environ, makes_key=True).values
        for name in sorted(_provider_names(self._checked)):
            if self._options.offline:
                client, address = await _simulator_client(stack, self._options.clock)
                provider = Provider(client=client, origin=name, takes_schemas=True)
            else:
                provider, key, address = _provider(name, self._options, self._config)
                if key is not None and not key.is_masked:
                    warn_once(self._options, _unmasked(provider.variable))
                if provider.client is not None:
                    await stack.enter_async_context(provider.client)
                elif not has_answers:
                    raise no_key("nothing was answered before", name, provider)
            own = self._config.providers.get(name)
            limiter = self._options.limiters.of(
                name,
                _origin(address),
                per_minute=least(pace[0], None if own is None else own.requests_per_minute),
                tokens_per_minute=pace[1],
            )
            self.providers[name] = msgspec.structs.replace(provider, limiter=limiter)
            self.origins.add(_origin(address))


def poe_address(environ: Mapping[str, str], config: UserConfig) -> str | None:
    """Return `POE_BASE_URL`, None if it is not set. Raises `UsageError`.

    Plain http beyond this machine needs permission in the user's configuration.
    """
    moved = base_url_from(environ)
    if moved is not None:
        _check_encrypted(moved, POE, is_allowed=config.allows_insecure_poe)
    return moved


def _provider_names(checked: Checked) -> Iterator[str]:
    yield from providers_of(checked.file.flow)
    for child in checked.children.values():
        yield from _provider_names(child)


async def _simulator_client(
    stack: contextlib.AsyncExitStack, clock: Clock
) -> tuple[AsyncPoeClient, str]:
    from poeflow.simulator.server import Simulator

    simulator = await stack.enter_async_context(Simulator(answers_unknown=True))
    client = AsyncPoeClient(
        api_key=_SIMULATED_KEY,
        base_url=simulator.base_url,
        clock=clock,
    )
    return await stack.enter_async_context(client), simulator.base_url


def _provider(
    name: str, options: RunOptions, config: UserConfig
) -> tuple[Provider, Secret | None, str]:
    """Return a provider, its key and its address, all from the user's own settings."""
    if name == POE:
        return _poe(options, config)
    own = config.providers.get(name)
    if own is None:
        hint = one_of(name, (POE, *config.providers))
        raise UsageError(f'provider "{name}" is not in your configuration', hint=hint)
    variable = own.key_variable
    key = None if variable is None else api_key_from(options.environ, variable=variable)
    client = None
    if key is not None or not own.needs_key:
        _check_encrypted(own.base_url, name, is_allowed=own.allow_insecure)
        client = AsyncPoeClient(
            api_key=key,
            keyless=key is None,
            base_url=own.base_url,
            allow_insecure=own.allow_insecure,
            server=Server(name=f"provider {name}", variable=own.key_variable or "", is_poe=False),
            concurrency=own.concurrency,
            clock=options.clock,
            requests_per_minute=options.limiters.of_provider(name, _origin(own.base_url)),
        )
    provider = Provider(
        client=client,
        origin=name,
        variable=own.key_variable or "",
        takes_schemas=own.response_format,
    )
    return provider, key, own.base_url


def _poe(options: RunOptions, config: UserConfig) -> tuple[Provider, Secret | None, str]:
    key, client = api_key_from(options.environ), None
    moved = poe_address(options.environ, config)
    address = moved or DEFAULT_BASE_URL
    if key is not None:
        client = AsyncPoeClient(
            api_key=key,
            base_url=address,
            allow_insecure=config.allows_insecure_poe,
            clock=options.clock,
            requests_per_minute=options.limiters.of_provider(POE, _origin(address)),
        )
    return Provider(client=client, origin=config.origin_of(moved)), key, address


def _check_encrypted(url: str, provider: str, *, is_allowed: bool) -> None:
    """Raise `UsageError` for plain http to another machine that the user did not allow."""
    origin = origin_of(url)
    if origin.scheme == "http" and not origin.is_loopback and not is_allowed:
        where = f"{BASE_URL_VARIABLE}, {origin}," if provider == POE else f"{provider}, {origin},"
        hint = (
            "use https; or, if the network is your own, write allow_insecure = true under"
            f" [providers.{provider}] in your own configuration (`poeflow config` says where)"
        )
        raise UsageError(f"{where} is not encrypted", hint=hint)


def _unmasked(variable: str) -> str:
    return (
        f"the key in {variable} is shorter than {SHORTEST_MASKED} characters, and so is not masked"
        " in what is shown and stored"
    )


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
