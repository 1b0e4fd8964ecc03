"""Builds the `RunContext` of a run: servers, store, files, listeners."""

import contextlib
from collections.abc import AsyncIterator
from functools import partial

import msgspec

from poeflow.client.catalogue import stored_catalogue
from poeflow.engine.asking.context import RunContext
from poeflow.engine.asking.spending import Budget
from poeflow.engine.lock_update import LockUpdate
from poeflow.operations.flow_locks import lock_at, named_elsewhere
from poeflow.operations.locks import git_of, how_to_keep, written_in_git
from poeflow.operations.providers import Connections
from poeflow.operations.run_options import RunOptions, warner
from poeflow.operations.secret_inputs import hashed_variables
from poeflow.planning.checked import Checked
from poeflow.planning.selection import Selection
from poeflow.project.output_files import OutputFiles
from poeflow.project.project import Project
from poeflow.records import Recorder
from poeflow.settings import UserConfig
from poeflow.store.git import Git
from poeflow.store.ledger import Ledger
from poeflow.store.revisions.merges import committed_in, conflicts_in
from poeflow.store.workspace import Workspace


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
    """Yield the context of a run of `checked`. Raises `AccountError` or `UsageError`.

    Without `asks` the run connects to no server, needs no key and writes nothing.
    """
    async with contextlib.AsyncExitStack() as stack:
        connections = Connections(checked, options, config)
        if asks:
            has_answers = workspace.has_answers or bool(lock_update.names)
            await connections.open(stack, has_answers=has_answers)
        else:
            connections.note_servers()
        ledger, own = workspace.ledger(), (project, workspace, checked.file.path, options)
        context = _context(
            project,
            workspace,
            ledger=ledger,
            files=output_files(*own, lock_update=lock_update, ledger=ledger),
            connections=connections,
            options=options,
            budget=budget,
            asks=asks,
            selection=selection,
            recorder=recorder,
        )
        hashed = partial(hashed_variables, options.environ, makes_key=asks)
        yield msgspec.structs.replace(context, hashed=hashed, limiters=options.limiters)


def output_files(
    project: Project,
    workspace: Workspace,
    flow: str,
    options: RunOptions,
    *,
    lock_update: LockUpdate,
    ledger: Ledger,
) -> OutputFiles:
    """Return the output files of a flow at a project path; `lock_update` has the hashes of them."""
    lock, git = lock_at(workspace, flow, options), git_of(project, options)
    return OutputFiles(
        workspace.output_tree(),
        lock_update.written,
        lambda path: ledger.written(path) | lock_update.written_before_merge(path),
        named_elsewhere(project, workspace, flow, options),
        merged=written_in_git(lock, git),
        conflict=conflicts_in(git, lambda: lock_update.paths_written),
        committed=committed_in(git, lambda: lock_update.paths_written),
        keep=how_to_keep(options),
    )


def _context(
    project: Project,
    workspace: Workspace,
    *,
    ledger: Ledger,
    files: OutputFiles,
    connections: Connections,
    options: RunOptions,
    budget: Budget,
    asks: bool,
    selection: Selection,
    recorder: Recorder,
) -> RunContext:
    return RunContext(
        project=project,
        output_tree=workspace.output_tree(),
        trial_tree=workspace.trial_tree(options.models) if options.models else None,
        providers=connections.providers,
        answers=workspace.answers(on_corrupt=warner(options)),
        ledger=ledger,
        files=files,
        budget=budget,
        clock=options.clock,
        listen=options.listener,
        hears_text=options.hears_text and options.listen is not None,
        holds_results=options.holds_results,
        recorder=recorder,
        simulated=options.offline,
        downloads=connections.downloads,
        secrets=connections.secrets,
        keys=connections.keys,
        catalogue=stored_catalogue(project, options.environ)[0],
        selection=selection,
        asks=asks,
        force=options.force,
        prunes=options.prune_outputs,
        git=_git(project, options) if asks and options.merge_edits else None,
        stop=options.stop,
        cut_short=options.cut_short,
    )


def _git(project: Project, options: RunOptions) -> Git:
    """Return git, to merge edits; in a repository it also finds the text before an edit."""
    found = Git.find(project.root, options.environ)
    return found or Git(project.root, options.environ)
