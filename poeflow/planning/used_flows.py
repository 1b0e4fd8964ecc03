"""Loads and checks the flows that steps use, with their inputs; finds flows that use each other.

It also knows which of their inputs may differ if such a flow runs several times.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, Protocol, Self

import msgspec

from poeflow.answers.schema_errors import sentence
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.inputs import default_order, value_problem
from poeflow.flowfile.load import load_flow
from poeflow.flowfile.loops import OF_TURNS, is_fan_out
from poeflow.flowfile.model import Flow, InputSpec, Step
from poeflow.flowfile.patterns import one_of
from poeflow.lazy_pattern import lazy_pattern
from poeflow.planning.checked import Ancestors, Checked
from poeflow.planning.run_inputs import input_faults
from poeflow.problems import Place, Problem
from poeflow.project.project import FileProblem, Project
from poeflow.templates.environment import Environment
from poeflow.templates.sites import TemplateFinding

MAX_DEPTH: Final = 10
"""How deep the uses of flows may nest."""
_EXPRESSION: Final = lazy_pattern(r"\{\{(.*?)\}\}", re.DOTALL)
_NOT_NAMES: Final = lazy_pattern(r""" "[^"]*" | '[^']*' | \|\s*\w+ """, re.VERBOSE)
_NAME: Final = lazy_pattern(r"(?<![.\w])([a-zA-Z_]\w*)(?:\.(\w+))?")
_BRACES: Final = ("{{", "{%", "{#")


class Repetition(msgspec.Struct, frozen=True):
    """How often a used flow runs in one run; `changing` are the inputs that may differ then."""

    is_repeated: bool = False
    is_in_turns: bool = False
    changing: frozenset[str] = frozenset()

    def changes(self, text: str, *, of_turns: bool = False) -> bool:
        """Return whether a template in the flow may give another text each time.

        If its step takes turns, that is also what it takes from the turn before.
        """
        for expression in _EXPRESSION.findall(text) if "{%" not in text else [text]:
            for root, name in _NAME.findall(_NOT_NAMES.sub(" ", expression)):
                if root == "inputs":
                    if not name or name in self.changing:
                        return True
                elif not of_turns or root in OF_TURNS:
                    return True
        return False

    def of(self, step: Step, flow: Flow) -> "Repetition":
        """Return how often `flow` runs, which a step uses."""
        is_only_turns = step.repeat is not None and not is_fan_out(step) and not self.is_repeated
        given = step.with_ or {}
        changing = {
            name
            for name, value in given.items()
            if self.changes(msgspec.json.encode(value).decode(), of_turns=is_only_turns)
        }
        for name in default_order(flow):
            if name not in given and flow.inputs[name].default_from in changing:
                changing.add(name)
        return Repetition(
            self.is_repeated or is_fan_out(step) or step.repeat is not None,
            self.is_in_turns or step.repeat is not None,
            frozenset(changing),
        )


ONCE: Final = Repetition()


class FlowChecker(Protocol):
    """A function that checks a flow that another uses."""

    def __call__(
        self,
        project: Project,
        file: FlowFile,
        environment: Environment,
        *,
        ancestors: Ancestors,
        derived_inputs: frozenset[str],
    ) -> Checked: ...


class UsedFlows(msgspec.Struct, frozen=True, kw_only=True):
    """The used flows by step, and the problems in them or in their use."""

    children: Mapping[str, Checked]
    problems: tuple[Problem, ...]


class LoadedFlows(msgspec.Struct, frozen=True, kw_only=True):
    """The flows that the steps of `user` use, with the problems in them, or that with one."""

    user: FlowFile
    by_step: Mapping[str, tuple[FlowFile | None, tuple[Problem, ...]] | Problem]

    @classmethod
    def of(
        cls, project: Project, environment: Environment, file: FlowFile, *, ancestors: Ancestors
    ) -> Self:
        """Load every flow that `file` uses."""
        around, by_step = (*ancestors, file.path), {}
        for name, step in file.flow.steps.items():
            if step.use is not None:
                place = file.document.place(("steps", name, "use"))
                by_step[name] = _load(project, environment, step.use, ancestors=around, place=place)
        return cls(user=file, by_step=by_step)

    @property
    def outputs(self) -> tuple[tuple[str, frozenset[str]], ...]:
        """The names of the outputs of the flows by step, as far as they are known.

        A flow that declares none has those of its last steps.
        """
        found = ((step, one[0]) for step, one in self.by_step.items() if isinstance(one, tuple))
        return tuple(
            (step, frozenset(child.flow.outputs or child.flow.steps))
            for step, child in found
            if child is not None and child.is_sound
        )

    def checked(
        self,
        project: Project,
        environment: Environment,
        found: Iterable[TemplateFinding],
        *,
        ancestors: Ancestors,
        check: FlowChecker,
    ) -> UsedFlows:
        """Check every flow, each with the inputs it will have; `found` is what `user` says."""
        found, file = tuple(found), self.user
        late = _late_inputs(found)
        children: dict[str, Checked] = {}
        problems: list[Problem] = []
        for name, loaded in self.by_step.items():
            step, place = file.flow.steps[name], file.document.place(("steps", name, "use"))
            if isinstance(loaded, Problem):
                problems += [loaded] if file.is_sound else []
                continue
            child, own_problems = loaded
            problems += (_with_user(problem, place) for problem in own_problems)
            if child is None:
                continue
            problems += _arguments(file, name, step, child.flow.inputs)
            problems += _unmarked_secrets(file, name, found, child.flow.inputs)
            checked = check(
                project,
                child,
                environment,
                ancestors=(*ancestors, file.path),
                derived_inputs=_derived(child, late.get(name, set()), step.with_ or {}),
            )
            problems += (_with_user(p, place) for p in checked.problems if p not in own_problems)
            children[name] = checked
        return UsedFlows(children=children, problems=tuple(problems))


def _late_inputs(found: Iterable[TemplateFinding]) -> dict[str, set[str]]:
    """Return for each step the inputs of its flow that come from another step."""
    late: dict[str, set[str]] = {}
    for finding in found:
        path = finding.site.path
        if len(path) > 3 and path[2] == "with" and finding.is_late:
            late.setdefault(str(path[1]), set()).add(str(path[3]))
    return late


def _derived(child: FlowFile, late: Collection[str], given: Collection[str]) -> frozenset[str]:
    """Return the inputs of a used flow that come from a step, also as another one's default."""
    derived = set(late)
    for name in default_order(child.flow):
        if name not in given and child.flow.inputs[name].default_from in derived:
            derived.add(name)
    return frozenset(derived)


def _load(
    project: Project,
    environment: Environment,
    written: str,
    *,
    ancestors: Ancestors,
    place: Place,
) -> tuple[FlowFile | None, tuple[Problem, ...]] | Problem:
    """Return the flow that a step of the last ancestor names, or the problem with it."""
    if any(brace in written for brace in _BRACES):
        return Problem(place, "the flow to use is not a template", "name one file, and use if:")
    try:
        path = project.canonical(written, relative_to=ancestors[-1])
        project.size_of(path)
    except FileProblem as error:
        return Problem(place, error.message, error.hint)
    if path in ancestors:
        rounds = " -> ".join([*ancestors[ancestors.index(path) :], path])
        return Problem(place, f"these flows use each other: {rounds}", "remove one of these uses")
    if len(ancestors) > MAX_DEPTH:
        message = f"flows use each other over {MAX_DEPTH} deep"
        return Problem(place, message, "use fewer")
    loaded = load_flow(project, path, shown=environment.reader.shown(path), tells_shared=False)
    return loaded.file or loaded.draft, loaded.problems


def _with_user(problem: Problem, place: Place) -> Problem:
    """Return a problem of a used flow, with the place of its use added to the message."""
    if "(used by " in problem.message:
        return problem
    message = f"{problem.message} (used by {place.path}:{place.line}:{place.column})"
    return msgspec.structs.replace(problem, message=message)


def _arguments(
    file: FlowFile, name: str, step: Step, inputs: Mapping[str, InputSpec]
) -> Iterator[Problem]:
    """Check the values that a step passes against the inputs of its flow."""
    given = step.with_ or {}
    for key, value in given.items():
        place = file.document.key_place(("steps", name, "with", key))
        if key not in inputs:
            yield Problem(place, f'{step.use} has no input "{key}"', one_of(key, inputs))
        elif inputs[key].secret and not _is_template(value):
            place = file.document.place(("steps", name, "with", key))
            hint = "pass on a secret input of this flow"
            yield Problem(place, f'the input "{key}" is a secret', hint)
        elif not _is_template(value):
            reason = value_problem(inputs[key], value)
            if reason:
                place = file.document.place(("steps", name, "with", key))
                yield Problem(place, f'the input "{key}" {reason}', inputs[key].description)
                continue
            for path, message in input_faults(inputs[key], value):
                place = file.document.place(("steps", name, "with", key, *path))
                whole = f'the input "{key}": {sentence(path, message)}'
                yield Problem(place, whole, inputs[key].description)
    for key, spec in inputs.items():
        if spec.is_required and key not in given:
            place = file.document.key_place(("steps", name, "use"))
            message = f'{step.use} needs the input "{key}"'
            yield Problem(place, message, f"add with: {{{key}: ...}}")


def _unmarked_secrets(
    file: FlowFile, name: str, found: Iterable[TemplateFinding], inputs: Mapping[str, InputSpec]
) -> Iterator[Problem]:
    """Warn about secrets that a step passes to an input which is not marked as one."""
    secrets = {own for own, spec in file.flow.inputs.items() if spec.secret}
    for finding in found if secrets else ():
        path = finding.site.path
        key = str(path[3]) if path[:3] == ("steps", name, "with") and len(path) > 3 else ""
        if key not in inputs or inputs[key].secret:
            continue
        for one in finding.references:
            if one.kind == "input" and one.name in secrets:
                message = f'the secret "{one.name}" is not given here; its stand-in is'
                hint = f'mark the input "{key}" of the used flow: secret: true'
                yield Problem(one.place, message, hint, "warning")


def _is_template(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_is_template, value.values()))
    if isinstance(value, list):
        return any(map(_is_template, value))
    return isinstance(value, str) and "{{" in value
