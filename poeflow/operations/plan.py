"""From a checked flow to its plan."""

from poeflow.errors import InvalidFlowError
from poeflow.flowfile.load import FlowFile
from poeflow.operations.budgets import user_config
from poeflow.operations.check import Checkup
from poeflow.operations.run_options import RunOptions
from poeflow.planning.allowance import MAX_INSTANCES
from poeflow.planning.plan import Plan, Planner
from poeflow.planning.run_inputs import Given, inputs_of
from poeflow.problems import errors_only
from poeflow.templates.texts import Texts


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
