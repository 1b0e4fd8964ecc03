"""What a run works with, put together: key, client, cache and ledger, or a simulator offline."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from poeflow.client.aio import AsyncPoeClient
from poeflow.clock import Clock, SystemClock
from poeflow.digest import Json
from poeflow.engine.means import Means, no_key
from poeflow.engine.plan import Plan
from poeflow.events import Event, Listener, Warned
from poeflow.files import Project
from poeflow.redact import Secret
from poeflow.settings import api_key_from, base_url_from, process_environment
from poeflow.store.workspace import Workspace

_SIMULATED_KEY: Final = Secret("simulated-key")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How to run a flow.

    `inputs` are typed values, `texts` those of a command line (they win and are read as the
    input's type asks), `inputs_file` a YAML or JSON file of values. Paths are relative to that
    file, else to `folder`. `refresh` asks again where an answer is stored; `offline` asks a
    simulator; `wait` is how many seconds to wait for another run to end.
    """

    inputs: Mapping[str, Json] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    inputs_file: Path | None = None
    folder: Path = field(default_factory=Path.cwd)
    offline: bool = False
    keep_going: bool = False
    refresh: bool = False
    concurrency: int | None = None
    wait: float = 10.0
    environ: Mapping[str, str] = field(default_factory=process_environment)
    listen: Listener | None = None
    clock: Clock = field(default_factory=SystemClock)


@contextlib.asynccontextmanager
async def means_of(
    project: Project, workspace: Workspace, plan: Plan, options: RunOptions
) -> AsyncIterator[Means]:
    listen = options.listen or _unheard
    async with contextlib.AsyncExitStack() as stack:
        key, client, provider = None, None, "poe"
        if plan.asks and options.offline:
            client = await stack.enter_async_context(_simulated_client(stack, plan))
        elif plan.asks:
            key = api_key_from(options.environ)
            base_url = base_url_from(options.environ)
            provider = base_url or provider
            if key is not None:
                client = await stack.enter_async_context(_client(plan, key, base_url))
            elif not workspace.has_answers:
                raise no_key("nothing was answered before")
        yield Means(
            project=project,
            outputs=workspace.outputs(),
            client=client,
            answers=workspace.answers(on_corrupt=_warner(listen)),
            ledger=workspace.ledger(),
            clock=options.clock,
            listen=listen,
            provider=provider,
            simulated=options.offline,
            key=key,
            refresh=options.refresh,
        )


def _client(plan: Plan, key: Secret, base_url: str | None) -> AsyncPoeClient:
    per_minute = plan.file.flow.limits.requests_per_minute
    return AsyncPoeClient(api_key=key, base_url=base_url, requests_per_minute=per_minute)


@contextlib.asynccontextmanager
async def _simulated_client(
    stack: contextlib.AsyncExitStack, plan: Plan
) -> AsyncIterator[AsyncPoeClient]:
    from poeflow.simulator.server import Simulator

    simulator = await stack.enter_async_context(Simulator(answers_unknown=True))
    async with _client(plan, _SIMULATED_KEY, simulator.base_url) as client:
        yield client


def _unheard(_event: Event) -> None:
    """Listen to nothing."""


def _warner(listen: Callable[[Event], None]) -> Callable[[str], None]:
    return lambda message: listen(Warned(at=0.0, step=None, message=message))
