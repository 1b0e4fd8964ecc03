"""Which steps may run tools, and with what: decided for a whole run before anything is sent."""

from collections.abc import Callable, Iterator, Mapping

from poeflow.engine.tools import RefusedToolbox, Toolbox
from poeflow.errors import UsageError
from poeflow.flowfile.model import Step, Tool
from poeflow.planning.checked import Checked
from poeflow.project.project import Project

Where = tuple[str, str]
"""A flow by its project path, and a step of it."""
Tools = tuple[Tool, ...]


class Toolboxes:
    """The tools of every step that runs some, by flow and step; `refused` are not allowed to."""

    def __init__(self, boxes: Mapping[Where, Toolbox], refused: Mapping[Where, Tools] = {}) -> None:
        self._boxes = boxes
        self._refused = refused

    def of(self, flow: str, step: str) -> Toolbox | RefusedToolbox | None:
        """Return the tools of a step, None where the calls are its result."""
        if (flow, step) in self._refused:
            return RefusedToolbox(_not_allowed({(flow, step): self._refused[flow, step]}))
        return self._boxes.get((flow, step))


def toolboxes(project: Project, checked: Checked, runs: Callable[[str], bool]) -> Toolboxes:
    """Load the tools of those steps of a flow that run, and of the flows these use.

    `runs` tells whether a step of the outermost flow does. Raises `UsageError` if one cannot be
    loaded.
    """
    wanted = {where: tools for name, where, tools in running_tools(checked) if runs(name)}
    return Toolboxes(
        {where: Toolbox.load(list(tools), folder=project.root) for where, tools in wanted.items()}
    )


def refused_toolboxes(checked: Checked, runs: Callable[[str], bool]) -> Toolboxes:
    """Return no tools, for a run whose user did not allow any.

    Raises `UsageError` if one of the steps that run, as `runs` tells, has some.
    """
    every = tuple(running_tools(checked))
    wanted = {where: tools for name, where, tools in every if runs(name)}
    if wanted:
        raise _not_allowed(wanted)
    return Toolboxes({}, {where: tools for _, where, tools in every})


def running_tools(checked: Checked) -> Iterator[tuple[str, Where, Tools]]:
    """Yield the steps that run tools, each with the step of the outermost flow it belongs to."""
    for name, step in checked.file.flow.steps.items():
        if runs_tools(step):
            yield name, (checked.file.path, name), tuple(step.tools or ())
    for name, child in checked.children.items():
        yield from ((name, where, tools) for _, where, tools in running_tools(child))


def _not_allowed(wanted: Mapping[Where, Tools]) -> UsageError:
    path, name = next(iter(wanted))
    functions = ", ".join(sorted({tool.run or "" for tools in wanted.values() for tool in tools}))
    return UsageError(
        f"{path}: step {name} runs Python functions of this project: {functions}",
        hint="look at them and add --allow-tools, or write tools_mode: return",
    )


def runs_tools(step: Step) -> bool:
    """Whether a step answers its model's calls itself."""
    has_functions = any(tool.run is not None for tool in step.tools or ())
    return has_functions and step.tools_mode != "return"
