"""Which instances a run is about, from what a caller said."""

from poeflow.engine.plan import Plan
from poeflow.engine.selection import Selection, check_steps, up_to
from poeflow.records import RunFilter
from poeflow.store.history import History
from poeflow.store.workspace import Workspace
from poeflow.wiring.options import RunOptions


def selection_of(plan: Plan, options: RunOptions, workspace: Workspace) -> Selection:
    """Return which instances a run is about.

    Raises `UsageError` where one is not in the flow, `DiskError` where the history that tells what
    failed cannot be read.
    """
    check_steps(plan, options.steps)
    steps = frozenset(options.steps)
    named = up_to(plan, steps) if options.until else steps if options.only else frozenset()
    again = steps if options.refresh else frozenset()
    if options.failed:
        again |= _failed(plan, workspace, is_simulated=options.offline)
    return Selection(
        named=named,
        first=options.first,
        key=options.key,
        again=again,
        is_all_again=options.refresh and not steps,
    )


def _failed(plan: Plan, workspace: Workspace, *, is_simulated: bool) -> frozenset[str]:
    """Return the instances that failed in the flow's last run."""
    history = History(workspace.history_path, told=lambda _message: None)
    wanted = RunFilter(flow=plan.file.path, simulated=is_simulated, limit=1)
    return frozenset(
        one.id
        for run in history.runs(wanted)
        for one in history.instances(run.id)
        if one.status == "failed"
    )
