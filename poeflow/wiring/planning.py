"""From a checked flow to its plan."""

from poeflow.engine.allowance import MAX_INSTANCES
from poeflow.engine.inputs import Given, inputs_of
from poeflow.engine.plan import Plan, Planner
from poeflow.engine.texts import Texts
from poeflow.errors import InvalidFlowError
from poeflow.problems import errors_only
from poeflow.spec.load import FlowFile
from poeflow.wiring.budgets import user_config
from poeflow.wiring.checkup import Checkup
from poeflow.wiring.options import RunOptions


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
