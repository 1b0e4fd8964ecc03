"""The servers of one run, connected to, or only named where nothing is asked."""

import contextlib
from urllib.parse import urlsplit

from poeflow.engine.context import Provider, no_key
from poeflow.flowfile.step_settings import POE
from poeflow.operations.budgets import warn_once
from poeflow.operations.providers import provider_names, provider_of, simulated
from poeflow.operations.run_options import RunOptions
from poeflow.planning.checked import Checked
from poeflow.redact import SHORTEST_MASKED
from poeflow.settings import base_url_from
from poeflow.user_config import UserConfig


class Connections:
    """The providers of a run, by name, and the origins of their addresses."""

    def __init__(self, checked: Checked, options: RunOptions, config: UserConfig) -> None:
        self.providers: dict[str, Provider] = {}
        self.origins: set[str] = set()
        self._checked = checked
        self._options = options
        self._config = config

    def name(self) -> None:
        """Note what the servers a flow names are called; no key is looked at."""
        moved = base_url_from(self._options.environ)
        for name in provider_names(self._checked):
            own = self._config.providers.get(name)
            is_poe = name == POE and not self._options.offline
            origin = self._config.origin_of(moved) if is_poe else name
            takes = self._options.offline or (own is not None and own.response_format)
            self.providers[name] = Provider(client=None, origin=origin, takes_schemas=takes)
            address = moved if name == POE else own.base_url if own is not None else None
            self.origins |= {_origin(address)} if address else set()

    async def open(self, stack: contextlib.AsyncExitStack, *, has_answers: bool) -> None:
        """Connect to every server the flow names. Raises `AccountError` or `UsageError`.

        Without a key only what was answered before can be used; `has_answers` tells that there is
        some, in the store or by the lock.
        """
        for name in sorted(provider_names(self._checked)):
            if self._options.offline:
                client, address = await simulated(stack, self._checked)
                provider = Provider(client=client, origin=name, takes_schemas=True)
            else:
                provider, key, address = provider_of(
                    name, self._checked, self._options, self._config
                )
                if key is not None and not key.is_masked:
                    warn_once(self._options, _unmasked(provider.variable))
                if provider.client is not None:
                    await stack.enter_async_context(provider.client)
                elif not has_answers:
                    raise no_key("nothing was answered before", name, provider)
            self.providers[name] = provider
            self.origins.add(_origin(address))


def _unmasked(variable: str) -> str:
    return (
        f"the key in {variable} is shorter than {SHORTEST_MASKED} characters, and so is not masked"
        " in what is shown and kept"
    )


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"
