"""A checked flow and the options of a command become a plan, and the instances that are meant."""

from poeflow.errors import InvalidFlowError
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import is_fan_out
from poeflow.operations.check import Checkup
from poeflow.operations.run_context import user_config
from poeflow.operations.run_options import RunOptions
from poeflow.planning.instances import MAX_INSTANCES
from poeflow.planning.plan import (
    Plan,
    Planner,
    Selection,
    check_glob,
    check_keys,
    check_steps,
    up_to,
)
from poeflow.planning.run_inputs import Given, inputs_of
from poeflow.problems import errors_only
from poeflow.records import RunFilter
from poeflow.store.history import History
from poeflow.store.workspace import Workspace
from poeflow.templates.sites import Texts


def planned(
    found: Checkup, options: RunOptions, *, most: int = MAX_INSTANCES
) -> tuple[Plan, Planner]:
    """Plan a flow that was checked. Raises `InvalidFlowError` or `UsageError`.

    It has so many instances at `most`, or as the user's configuration says.
    """
    if found.checked is None or errors_only(found.problems):
        raise InvalidFlowError(errors_only(found.problems))
    given = Given(
        inputs=options.inputs,
        texts=options.texts,
        inputs_file=options.inputs_file,
        folder=options.folder,
    )
    inputs = inputs_of(found.project, found.checked.file, given)
    reader = found.environment.reader
    texts: dict[str, Texts] = {}

    def make_texts(file: FlowFile) -> Texts:
        """Return the texts of a flow, for all who use it the same."""
        if file.path not in texts:
            texts[file.path] = Texts(file, reader, found.environment)
        return texts[file.path]

    allowed = user_config(found.project, options).max_instances
    planner = Planner(found.project, make_texts, max_instances=allowed or most)
    return planner.plan(found.checked, inputs, concurrency=options.concurrency), planner


def selection_of(plan: Plan, options: RunOptions, workspace: Workspace) -> Selection:
    """Return which instances a run is about.

    Raises `UsageError` where one is not in the flow, `DiskError` where the history that tells what
    failed cannot be read.
    """
    check_steps(plan.checked, options.steps)
    steps = frozenset(options.steps)
    loops = {step: [one.instance.key for one in found] for step, found in plan.prepared.items()}
    for step, keys in loops.items():
        check_keys(step, keys, steps)
    named = up_to(plan, steps) if options.until else steps if options.only else frozenset()
    again = steps if options.refresh else frozenset()
    if options.failed:
        again |= _failed(plan, workspace, is_simulated=options.offline)
    selection = Selection(
        named=named,
        first=options.first,
        key=options.key,
        again=again,
        is_all_again=options.refresh and not steps,
        wanted=steps,
    )
    if options.key is not None and all(_is_known(plan, step) for step in plan.order):
        own = {step: keys for step, keys in loops.items() if selection.touches(step)}
        check_glob({step: keys for step, keys in own.items() if _is_loop(plan, step)}, options.key)
    return selection


def _is_loop(plan: Plan, step: str) -> bool:
    return is_fan_out(plan.flow.steps[step])


def _is_known(plan: Plan, step: str) -> bool:
    """Whether all loops of a step are known before a run."""
    return step in plan.prepared if _is_loop(plan, step) else step not in plan.checked.children


def _failed(plan: Plan, workspace: Workspace, *, is_simulated: bool) -> frozenset[str]:
    """Return the instances that failed in the flow's last run."""
    if workspace.is_foreign:
        return frozenset()
    history = History(workspace.history_path, told=lambda _message: None)
    wanted = RunFilter(flow=plan.file.path, simulated=is_simulated, limit=1)
    return frozenset(
        one.id
        for run in history.runs(wanted)
        for one in history.instances(run.id)
        if one.status == "failed"
    )
