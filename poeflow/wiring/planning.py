"""From a checked flow to its plan."""

from poeflow.engine.inputs import Given, inputs_of
from poeflow.engine.plan import Plan, Planner
from poeflow.engine.texts import Texts
from poeflow.errors import InvalidFlowError
from poeflow.problems import errors_only
from poeflow.wiring.checkup import Checkup
from poeflow.wiring.options import RunOptions


def planned(found: Checkup, options: RunOptions) -> tuple[Plan, Planner]:
    """Plan a flow that was checked. Raises `InvalidFlowError` or `UsageError`."""
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
    planner = Planner(found.project, lambda file: Texts(file, reader, found.environment))
    return planner.plan(found.checked, inputs, concurrency=options.concurrency), planner
