"""Finds the stored state of a project; state that git tracks is not trusted."""

from poeflow.operations.run_options import RunOptions, warn_once
from poeflow.project.project import Project
from poeflow.project.state_folder import STATE_VARIABLE
from poeflow.store.workspace import TRUST, Workspace, tracked_state, tracked_words


def workspace_of(project: Project, options: RunOptions) -> Workspace:
    """Return the state of a project for reading. State that git tracks is used only if trusted.

    If it is not trusted, listeners are warned once. Raises `DiskError` if poeflow did not make
    what is there.
    """
    workspace = _workspace(project, options)
    if workspace.tracked:
        warn_once(options, f"{tracked_words(workspace.tracked)}, and so is not used: {TRUST}")
    return workspace


def writable_workspace(project: Project, options: RunOptions) -> Workspace:
    """Return the state of a project for reading and writing.

    Raises `UsageError` if git tracks it and the options do not trust it, and `DiskError` if
    poeflow did not make what is there.
    """
    workspace = _workspace(project, options)
    workspace.refuse_tracked()
    return workspace


def _workspace(project: Project, options: RunOptions) -> Workspace:
    tracked: tuple[str, ...] = ()
    if not options.trust_state:
        if project.root not in options.tracked:
            options.tracked[project.root] = tracked_state(project, options.environ)
        tracked = options.tracked[project.root]
    workspace = Workspace(project, options.environ, offline=options.offline, tracked=tracked)
    workspace.check()
    unused_store = workspace.unused_store
    if unused_store is not None:
        message = f"the answers in {unused_store.parent} are not used, as {STATE_VARIABLE} is set"
        warn_once(options, f"{message}; to use them, move that folder to {workspace.folder}")
    return workspace
