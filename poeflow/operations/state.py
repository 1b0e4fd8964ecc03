"""The state that a run or a look works with, or none of it where it came with the repository."""

from poeflow.operations.run_context import warn_once
from poeflow.operations.run_options import RunOptions
from poeflow.project.project import Project
from poeflow.store.workspace import TRUST, Workspace, tracked_state, tracked_words


def workspace_of(project: Project, options: RunOptions) -> Workspace:
    """Return the state of a project to look at. What git tracks is used only if options trust it.

    Listeners are warned, once. Raises `DiskError` if it is not what poeflow makes.
    """
    workspace = _workspace(project, options)
    if workspace.tracked:
        warn_once(options, f"{tracked_words(workspace.tracked)}, and so is not used: {TRUST}")
    return workspace


def own_workspace(project: Project, options: RunOptions) -> Workspace:
    """Return the state of a project to work with.

    Raises `UsageError` if git tracks it and the options do not trust it, and `DiskError` if it is
    not what poeflow makes.
    """
    workspace = _workspace(project, options)
    workspace.refuse_foreign()
    return workspace


def _workspace(project: Project, options: RunOptions) -> Workspace:
    tracked: tuple[str, ...] = ()
    if not options.trust_state:
        if project.root not in options.tracked:
            options.tracked[project.root] = tracked_state(project, options.environ)
        tracked = options.tracked[project.root]
    workspace = Workspace(project, offline=options.offline, tracked=tracked)
    workspace.check()
    return workspace
