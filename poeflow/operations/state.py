"""The state that a run or a look works with, or none of it where it came with the repository."""

from poeflow.operations.run_context import warn_once
from poeflow.operations.run_options import RunOptions
from poeflow.project.project import Project
from poeflow.store.workspace import TRUST, Workspace, tracked_state, tracked_words


def workspace_of(project: Project, options: RunOptions) -> Workspace:
    """Return the state of a project. What git tracks is used only where the options trust it.

    Listeners are told, once. Raises `DiskError` where it is not what poeflow makes.
    """
    if options.trust_state:
        return _sound(Workspace(project, offline=options.offline))
    if project.root not in options.tracked:
        options.tracked[project.root] = tracked_state(project, options.environ)
    tracked = options.tracked[project.root]
    if tracked:
        warn_once(options, f"{tracked_words(tracked)}, and so is not used: {TRUST}")
    return _sound(Workspace(project, offline=options.offline, tracked=tracked))


def _sound(workspace: Workspace) -> Workspace:
    workspace.check()
    return workspace
