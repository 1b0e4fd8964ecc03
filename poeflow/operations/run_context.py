"""What a run works with, put together: providers, cache and ledger, budget."""

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import partial

from poeflow.client.catalogue import kept
from poeflow.client.http.download import MEDIA_HOSTS, Rules
from poeflow.engine.budget import Budget
from poeflow.engine.context import Means
from poeflow.engine.lock_update import Memory
from poeflow.engine.output_files import OutputFiles
from poeflow.events import Event, Warned
from poeflow.operations.connections import Connections
from poeflow.operations.run_options import RunOptions
from poeflow.planning.checked import Checked
from poeflow.planning.selection import Selection
from poeflow.project.project import Project
from poeflow.records import Recorder
from poeflow.redact import Keyring
from poeflow.settings import proxy_from, server_of
from poeflow.store.git import Git
from poeflow.store.workspace import Workspace
from poeflow.user_config import UserConfig, keys_of


@contextlib.asynccontextmanager
async def means_of(
    project: Project,
    workspace: Workspace,
    checked: Checked,
    *,
    options: RunOptions,
    budget: Budget,
    config: UserConfig,
    memory: Memory,
    asks: bool,
    selection: Selection,
    recorder: Recorder,
) -> AsyncIterator[Means]:
    """Yield what a run of `checked` works with. Raises `AccountError` or `UsageError`.

    Without `asks` it connects to nothing, needs no key and writes nothing.
    """
    async with contextlib.AsyncExitStack() as stack:
        found = Connections(checked, options, config)
        await _reach(found, stack if asks else None, workspace, memory)
        ledger, outputs = workspace.ledger(), workspace.outputs()
        yield Means(
            project=project,
            outputs=outputs,
            providers=found.providers,
            answers=workspace.answers(on_corrupt=warner(options)),
            ledger=ledger,
            files=OutputFiles(outputs, ledger, memory.written),
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
    memory: Memory,
) -> None:
    """Connect to every server, or only name them where there is nothing to close them in."""
    if stack is None:
        found.name()
    else:
        has_answers = workspace.has_answers or bool(memory.names)
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
