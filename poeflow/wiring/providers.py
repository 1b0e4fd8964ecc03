"""The servers a run asks: Poe, those of the user's configuration, or a simulator offline.

Only the user's own settings decide where a key goes.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

from poeflow.client.aio import AsyncPoeClient
from poeflow.engine.means import Provider
from poeflow.errors import UsageError
from poeflow.planning.checked import Checked
from poeflow.redact import Secret
from poeflow.settings import DEFAULT_BASE_URL, KEY_VARIABLE, base_url_from
from poeflow.spec.hints import one_of
from poeflow.spec.resolve import POE, providers_of
from poeflow.user_config import UserConfig, key_of
from poeflow.wiring.options import RunOptions

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
        key = key_of(KEY_VARIABLE, options.environ)
        moved = base_url_from(options.environ)
        client = None
        if key is not None:
            client = AsyncPoeClient(api_key=key, base_url=moved, requests_per_minute=per_minute)
        return Provider(client=client, origin=moved or POE), key, moved or DEFAULT_BASE_URL
    own = config.providers.get(name)
    if own is None:
        hint = one_of(name, (POE, *config.providers))
        raise UsageError(f'provider "{name}" is not in your configuration', hint=hint)
    key = key_of(own.key_variable, options.environ)
    client = None
    if key is not None:
        slower = [limit for limit in (per_minute, own.requests_per_minute) if limit is not None]
        client = AsyncPoeClient(
            api_key=key,
            base_url=own.base_url,
            concurrency=own.concurrency,
            requests_per_minute=min(slower, default=None),
        )
    provider = Provider(
        client=client, origin=name, variable=own.key_variable, takes_schemas=own.response_format
    )
    return provider, key, own.base_url


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
