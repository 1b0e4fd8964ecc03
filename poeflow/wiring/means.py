"""What a run works with, put together: providers, cache and ledger, budget."""

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from urllib.parse import urlsplit

from poeflow.catalogue import kept
from poeflow.check.checked import Checked
from poeflow.client.download import MEDIA_HOSTS, Rules
from poeflow.engine.budget import Budget
from poeflow.engine.means import Means, Provider, no_key
from poeflow.events import Event, Warned
from poeflow.files import Project
from poeflow.redact import Secret
from poeflow.settings import proxy_from
from poeflow.store.workspace import Workspace
from poeflow.user_config import UserConfig
from poeflow.wiring.options import RunOptions
from poeflow.wiring.providers import provider_names, provider_of, simulated


@contextlib.asynccontextmanager
async def means_of(
    project: Project,
    workspace: Workspace,
    checked: Checked,
    *,
    options: RunOptions,
    budget: Budget,
    config: UserConfig,
) -> AsyncIterator[Means]:
    """Yield what a run of `checked` works with. Raises `AccountError` or `UsageError`."""
    listen = options.listen or _unheard
    async with contextlib.AsyncExitStack() as stack:
        found = await _providers(stack, workspace, checked, options, config)
        yield Means(
            project=project,
            outputs=workspace.outputs(),
            providers=found.providers,
            answers=workspace.answers(on_corrupt=_warner(listen)),
            ledger=workspace.ledger(),
            budget=budget,
            clock=options.clock,
            listen=listen,
            simulated=options.offline,
            downloads=Rules(
                hosts=(*MEDIA_HOSTS, *config.media_hosts),
                loopback=frozenset(found.origins),
                proxy_of=partial(proxy_from, options.environ),
            ),
            keys=tuple(found.keys),
            catalogue=kept(project)[0],
            refresh=options.refresh,
        )


class _Found:
    """The providers of a run, by name, with their keys and the origins of their addresses."""

    def __init__(self) -> None:
        self.providers: dict[str, Provider] = {}
        self.keys: list[Secret] = []
        self.origins: set[str] = set()


async def _providers(
    stack: contextlib.AsyncExitStack,
    workspace: Workspace,
    checked: Checked,
    options: RunOptions,
    config: UserConfig,
) -> _Found:
    """Connect to every server the flow names. Raises `AccountError` or `UsageError`."""
    found = _Found()
    for name in sorted(provider_names(checked)):
        if options.offline:
            client, address = await simulated(stack, checked)
            provider = Provider(client=client, origin=name, takes_schemas=True)
        else:
            provider, key, address = provider_of(name, checked, options, config)
            if provider.client is not None:
                await stack.enter_async_context(provider.client)
            elif not workspace.has_answers:
                raise no_key("nothing was answered before", name, provider)
            found.keys += [key] if key is not None else []
        found.providers[name] = provider
        found.origins.add(_origin(address))
    return found


def _origin(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}"


def _unheard(_event: Event) -> None:
    """Listen to nothing."""


def _warner(listen: Callable[[Event], None]) -> Callable[[str], None]:
    return lambda message: listen(Warned(at=0.0, step=None, message=message))
