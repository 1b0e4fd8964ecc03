"""The flows that steps use: read, checked with what they are given, and free of rounds."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

import msgspec

from poeflow.flowfile.inputs import misfit
from poeflow.flowfile.load import FlowFile, load
from poeflow.flowfile.model import InputSpec, Step
from poeflow.flowfile.patterns import one_of
from poeflow.planning.checked import Checked, Way
from poeflow.planning.template_checks import Finding
from poeflow.problems import Place, Problem
from poeflow.project.project import FileProblem, Project
from poeflow.templates.environment import Environment

MAX_DEPTH: Final = 10
"""How deep flows may use each other."""
_BRACES: Final = ("{{", "{%", "{#")


class Check(Protocol):
    """How to check a flow that another uses."""

    def __call__(
        self,
        project: Project,
        file: FlowFile,
        environment: Environment,
        *,
        way: Way,
        derived_inputs: frozenset[str],
    ) -> Checked: ...


class UsedFlows(msgspec.Struct, frozen=True, kw_only=True):
    """The flows by the step that uses each, and what is wrong with them or their use."""

    children: Mapping[str, Checked]
    problems: tuple[Problem, ...]


def used_flows(
    project: Project,
    environment: Environment,
    file: FlowFile,
    found: Iterable[Finding],
    *,
    way: Way,
    check: Check,
) -> UsedFlows:
    """Check every flow that `file` uses, each with the inputs it will have."""
    using = {name: step for name, step in file.flow.steps.items() if step.use is not None}
    if not using:
        return UsedFlows(children={}, problems=())
    late = _late_inputs(found)
    children: dict[str, Checked] = {}
    problems: list[Problem] = []
    for name, step in using.items():
        place = file.document.place(("steps", name, "use"))
        loaded = _loaded(project, environment, str(step.use), way=(*way, file.path), place=place)
        if isinstance(loaded, Problem):
            problems += [loaded] if file.is_sound else []
            continue
        child, own_problems = loaded
        problems += (_told(problem, place) for problem in own_problems)
        if child is None:
            continue
        problems += _arguments(file, name, step, child.flow.inputs)
        checked = check(
            project,
            child,
            environment,
            way=(*way, file.path),
            derived_inputs=frozenset(late.get(name, ())),
        )
        problems += (_told(p, place) for p in checked.problems if p not in own_problems)
        children[name] = checked
    return UsedFlows(children=children, problems=tuple(problems))


def _late_inputs(found: Iterable[Finding]) -> dict[str, set[str]]:
    """Return for each step the inputs of its flow that come from another step."""
    late: dict[str, set[str]] = {}
    for finding in found:
        path = finding.site.path
        if len(path) > 3 and path[2] == "with" and finding.is_late:
            late.setdefault(str(path[1]), set()).add(str(path[3]))
    return late


def _loaded(
    project: Project,
    environment: Environment,
    written: str,
    *,
    way: Way,
    place: Place,
) -> tuple[FlowFile | None, tuple[Problem, ...]] | Problem:
    """Read the flow a step of the last one on the `way` names, or say why that cannot be."""
    if any(brace in written for brace in _BRACES):
        return Problem(place, "the flow to use is not a template", "name one file, and use if:")
    try:
        path = project.canonical(written, relative_to=way[-1])
        project.size_of(path)
    except FileProblem as error:
        return Problem(place, error.message, error.hint)
    if path in way:
        rounds = " -> ".join([*way[way.index(path) :], path])
        return Problem(place, f"these flows use each other: {rounds}", "remove one of these uses")
    if len(way) > MAX_DEPTH:
        message = f"flows use each other over {MAX_DEPTH} deep"
        return Problem(place, message, "use fewer")
    loaded = load(project, path, shown=environment.reader.shown(path), tells_shared=False)
    return loaded.file or loaded.draft, loaded.problems


def _told(problem: Problem, place: Place) -> Problem:
    """Return a problem of a used flow with the place that uses it."""
    if "(used by " in problem.message:
        return problem
    message = f"{problem.message} (used by {place.path}:{place.line}:{place.column})"
    return msgspec.structs.replace(problem, message=message)


def _arguments(
    file: FlowFile, name: str, step: Step, inputs: Mapping[str, InputSpec]
) -> Iterator[Problem]:
    """Check what a step passes against what its flow takes."""
    given = step.with_ or {}
    for key, value in given.items():
        place = file.document.key_place(("steps", name, "with", key))
        if key not in inputs:
            yield Problem(place, f'{step.use} has no input "{key}"', one_of(key, inputs))
        elif not _is_template(value):
            reason = misfit(inputs[key], value)
            if reason:
                place = file.document.place(("steps", name, "with", key))
                yield Problem(place, f'the input "{key}" {reason}', inputs[key].description)
    for key, spec in inputs.items():
        if spec.default is msgspec.UNSET and key not in given:
            place = file.document.key_place(("steps", name, "use"))
            message = f'{step.use} needs the input "{key}"'
            yield Problem(place, message, f"add with: {{{key}: ...}}")


def _is_template(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_is_template, value.values()))
    if isinstance(value, list):
        return any(map(_is_template, value))
    return isinstance(value, str) and "{{" in value
