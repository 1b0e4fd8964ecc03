"""Builds what a run works with: configuration, servers, budget, store.

Only the user's own settings decide where a key goes.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from poeflow.bots import Pricing
from poeflow.client.aio import AsyncPoeClient
from poeflow.client.catalogue import kept
from poeflow.client.failures import Server
from poeflow.client.http.download import MEDIA_HOSTS, Rules
from poeflow.client.http.wire import origin_of
from poeflow.costs import Prices
from poeflow.engine.budget import Budget, bounds
from poeflow.engine.context import OutputFiles, Provider, RunContext, no_key
from poeflow.engine.lock_update import LockUpdate
from poeflow.errors import UsageError
from poeflow.events import Event, Warned
from poeflow.flowfile.model import Limits
from poeflow.flowfile.patterns import one_of
from poeflow.flowfile.project_settings import read_shared
from poeflow.flowfile.step_settings import POE, providers_of
from poeflow.operations.run_options import RunOptions
from poeflow.planning.checked import Checked
from poeflow.planning.plan import Selection
from poeflow.project.project import Project
from poeflow.records import Recorder
from poeflow.redact import SHORTEST_MASKED, Keyring, Secret
from poeflow.settings import (
    BASE_URL_VARIABLE,
    DEFAULT_BASE_URL,
    KEY_VARIABLE,
    UserConfig,
    base_url_from,
    find_config,
    key_of,
    keys_of,
    proxy_from,
    server_of,
)
from poeflow.store.git import Git
from poeflow.store.workspace import Workspace


def user_config(project: Project, options: RunOptions) -> UserConfig:
    """Return the user's configuration: as given, else as their own file has it.

    Listeners are told, once, of one that is there and not used. Raises `UsageError`.
    """
    if options.config is not None:
        return options.config
    found = find_config(options.environ, project_root=project.root)
    if found.warning:
        warn_once(options, found.warning)
    return found.config


def warn_once(options: RunOptions, message: str) -> None:
    """Tell listeners of what is amiss and stops nothing, if none of them was told before."""
    if options.listen is not None and message not in options.told:
        options.told.add(message)
        options.listen(Warned(at=0.0, step=None, message=message))


def shared_budget(project: Project, options: RunOptions) -> Budget:
    """Return the budget of a command: the limits of caller, user and project, and CI's default."""
    config = user_config(project, options)
    own = Limits(
        max_requests=config.max_requests,
        max_tokens=config.max_tokens,
        max_cost_usd=config.max_cost_usd,
        max_points=config.max_points,
    )
    is_ci = bool(options.environ.get("CI")) and not options.offline
    shared = read_shared(project)
    limits = {
        "the command line": options.limits,
        "your configuration": own,
        shared.shown: shared.limits,
    }
    within, is_free = bounds(limits, is_ci=is_ci), _needs_no_price(options, config)
    return Budget(within, prices_of(project, options.environ), allow_unpriced=is_free)


def budget_of(project: Project, limits: Limits, options: RunOptions) -> Budget:
    """Return the budget of one flow with these limits, within the command's."""
    shared, own = options.budget or shared_budget(project, options), read_shared(project)
    within = bounds({"limits of the flow": limits, own.shown: own.limits}, is_ci=False)
    is_free = _needs_no_price(options, user_config(project, options))
    prices = prices_of(project, options.environ)
    return Budget(within, prices, shared=shared, allow_unpriced=is_free)


def _needs_no_price(options: RunOptions, config: UserConfig) -> bool:
    """Whether models whose price is not known may be asked although the cost is limited."""
    return options.offline or options.allow_unpriced or config.allow_unpriced


def prices_of(project: Project, environ: Mapping[str, str]) -> Prices:
    """Return the prices in the project's settings, else those of the server's kept catalogue."""
    catalogue, own = kept(project, server_of(environ))[0], read_shared(project).prices

    def price(model: str) -> Pricing | None:
        if model.casefold() in own:
            return own[model.casefold()]
        bot = catalogue.find(model) if catalogue is not None else None
        return bot.pricing if bot is not None else None

    return price


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


@contextlib.asynccontextmanager
async def run_context(
    project: Project,
    workspace: Workspace,
    checked: Checked,
    *,
    options: RunOptions,
    budget: Budget,
    config: UserConfig,
    lock_update: LockUpdate,
    asks: bool,
    selection: Selection,
    recorder: Recorder,
) -> AsyncIterator[RunContext]:
    """Yield what a run of `checked` works with. Raises `AccountError` or `UsageError`.

    Without `asks` it connects to nothing, needs no key and writes nothing.
    """
    async with contextlib.AsyncExitStack() as stack:
        found = Connections(checked, options, config)
        await _reach(found, stack if asks else None, workspace, lock_update)
        ledger, outputs = workspace.ledger(), workspace.outputs()
        yield RunContext(
            project=project,
            outputs=outputs,
            providers=found.providers,
            answers=workspace.answers(on_corrupt=warner(options)),
            ledger=ledger,
            files=OutputFiles(outputs, ledger, lock_update.written),
            budget=budget,
            clock=options.clock,
            listen=options.listen or unheard,
            recorder=recorder,
            simulated=options.offline,
            downloads=_downloads(found, options, config),
            keys=Keyring(*keys_of(options.environ, config.key_variables)),
            catalogue=kept(project, server_of(options.environ))[0],
            selection=selection,
            asks=asks,
            force=options.force,
            prunes=options.prune_outputs,
            git=_git(project, options) if options.merge_edits else None,
            stop=options.stop,
            cut_short=options.cut_short,
        )


async def _reach(
    found: Connections,
    stack: contextlib.AsyncExitStack | None,
    workspace: Workspace,
    lock_update: LockUpdate,
) -> None:
    """Connect to every server, or only name them where there is nothing to close them in."""
    if stack is None:
        found.name()
    else:
        has_answers = workspace.has_answers or bool(lock_update.names)
        await found.open(stack, has_answers=has_answers)


def _downloads(found: Connections, options: RunOptions, config: UserConfig) -> Rules:
    """Return what media may be fetched from where."""
    return Rules(
        hosts=(*MEDIA_HOSTS, *config.media_hosts),
        loopback=frozenset(found.origins),
        proxy_of=partial(proxy_from, options.environ),
    )


def _git(project: Project, options: RunOptions) -> Git:
    """Return who merges edits, and finds what was before them where there is a repository."""
    found = Git.find(project.root, options.environ)
    return found or Git(project.root, options.environ)


def unheard(_event: Event) -> None:
    """Listen to nothing."""


def warner(options: RunOptions) -> Callable[[str], None]:
    """Return what tells listeners of what is amiss and stops nothing."""
    listen = options.listen or unheard
    return lambda message: listen(Warned(at=0.0, step=None, message=message))
