"""The servers a run asks: Poe, those of the user's configuration, or a simulator offline.

Only the user's own settings decide where a key goes.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

from poeflow.client.aio import AsyncPoeClient
from poeflow.client.failures import Server
from poeflow.client.http.wire import origin_of
from poeflow.engine.context import Provider
from poeflow.errors import UsageError
from poeflow.flowfile.hints import one_of
from poeflow.flowfile.step_settings import POE, providers_of
from poeflow.operations.run_options import RunOptions
from poeflow.planning.checked import Checked
from poeflow.redact import Secret
from poeflow.settings import BASE_URL_VARIABLE, DEFAULT_BASE_URL, KEY_VARIABLE, base_url_from
from poeflow.user_config import UserConfig, key_of

_SIMULATED_KEY: Final = Secret("simulated-key")


def provider_names(checked: Checked) -> Iterator[str]:
    yield from providers_of(checked.file.flow)
    for child in checked.children.values():
        yield from provider_names(child)


def provider_of(
    name: str, checked: Checked, options: RunOptions, config: UserConfig
) -> tuple[Provider, Secret | None, str]:
    """Return a provider, its key and its address: only the user's own settings decide these."""
    per_minute = checked.file.flow.limits.requests_per_minute
    if name == POE:
        return _poe(options, config, per_minute)
    own = config.providers.get(name)
    if own is None:
        hint = one_of(name, (POE, *config.providers))
        raise UsageError(f'provider "{name}" is not in your configuration', hint=hint)
    key = key_of(own.key_variable, options.environ) if own.key_variable is not None else None
    client = None
    if key is not None or not own.needs_key:
        check_encrypted(own.base_url, name, is_allowed=own.allow_insecure)
        slower = [limit for limit in (per_minute, own.requests_per_minute) if limit is not None]
        client = AsyncPoeClient(
            api_key=key,
            keyless=key is None,
            base_url=own.base_url,
            allow_insecure=own.allow_insecure,
            server=Server(name=f"provider {name}", variable=own.key_variable or "", is_poe=False),
            concurrency=own.concurrency,
            requests_per_minute=min(slower, default=None),
        )
    provider = Provider(
        client=client,
        origin=name,
        variable=own.key_variable or "",
        takes_schemas=own.response_format,
    )
    return provider, key, own.base_url


def _poe(
    options: RunOptions, config: UserConfig, per_minute: int | None
) -> tuple[Provider, Secret | None, str]:
    key, client = key_of(KEY_VARIABLE, options.environ), None
    moved = poe_address(options.environ, config)
    if key is not None:
        client = AsyncPoeClient(
            api_key=key,
            base_url=moved or DEFAULT_BASE_URL,
            allow_insecure=config.allows_insecure_poe,
            requests_per_minute=per_minute,
        )
    return Provider(client=client, origin=config.origin_of(moved)), key, moved or DEFAULT_BASE_URL


def poe_address(environ: Mapping[str, str], config: UserConfig) -> str | None:
    """Return `POE_BASE_URL`, None where it is not set. Raises `UsageError`.

    It may be plain http beyond this machine only where the user's configuration says so.
    """
    moved = base_url_from(environ)
    if moved is not None:
        check_encrypted(moved, POE, is_allowed=config.allows_insecure_poe)
    return moved


def check_encrypted(url: str, provider: str, *, is_allowed: bool) -> None:
    """Raise `UsageError` for plain http to another machine that the user did not allow."""
    origin = origin_of(url)
    if origin.scheme == "http" and not origin.is_loopback and not is_allowed:
        where = f"{BASE_URL_VARIABLE}, {origin}," if provider == POE else f"{provider}, {origin},"
        hint = (
            "use https; or, where the network is your own, write allow_insecure = true under"
            f" [providers.{provider}] in your own configuration (`poeflow config` says where)"
        )
        raise UsageError(f"{where} is not encrypted", hint=hint)


async def simulated(
    stack: contextlib.AsyncExitStack, checked: Checked
) -> tuple[AsyncPoeClient, str]:
    from poeflow.simulator.server import Simulator

    simulator = await stack.enter_async_context(Simulator(answers_unknown=True))
    client = AsyncPoeClient(
        api_key=_SIMULATED_KEY,
        base_url=simulator.base_url,
        requests_per_minute=checked.file.flow.limits.requests_per_minute,
    )
    return await stack.enter_async_context(client), simulator.base_url
