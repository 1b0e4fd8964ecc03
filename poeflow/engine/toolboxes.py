"""Which steps may run tools, and with what: decided for a whole run before anything is sent."""

from collections.abc import Iterator, Mapping

from poeflow.engine.tools import Toolbox
from poeflow.errors import UsageError
from poeflow.files import Project
from poeflow.planning.checked import Checked
from poeflow.spec.model import Step, Tool


class Toolboxes:
    """The tools of every step that runs some, by flow and step."""

    def __init__(self, boxes: Mapping[tuple[str, str], Toolbox]) -> None:
        self._boxes = boxes

    def of(self, flow: str, step: str) -> Toolbox | None:
        """Return the tools of a step, None where the calls are its result."""
        return self._boxes.get((flow, step))


def toolboxes(project: Project, checked: Checked, *, is_allowed: bool) -> Toolboxes:
    """Load the tools of a flow and of those it uses.

    Raises `UsageError` where there are some and the user did not allow it, or they cannot be
    loaded.
    """
    wanted = {(path, name): tools for path, name, tools in _running(checked)}
    if wanted and not is_allowed:
        path, name = next(iter(wanted))
        functions = ", ".join(sorted({tool.run or "" for t in wanted.values() for tool in t}))
        raise UsageError(
            f"{path}: step {name} runs Python functions of this project: {functions}",
            hint="look at them and add --allow-tools, or write tools_mode: return",
        )
    return Toolboxes(
        {where: Toolbox.load(tools, folder=project.root) for where, tools in wanted.items()}
    )


def _running(checked: Checked) -> Iterator[tuple[str, str, list[Tool]]]:
    for name, step in checked.file.flow.steps.items():
        if runs_tools(step):
            yield checked.file.path, name, list(step.tools or ())
    for child in checked.children.values():
        yield from _running(child)


def runs_tools(step: Step) -> bool:
    """Whether a step answers its model's calls itself."""
    has_functions = any(tool.run is not None for tool in step.tools or ())
    return has_functions and step.tools_mode != "return"
