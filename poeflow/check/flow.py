"""Everything that can be known about a flow without running it, beyond its shape.

Templates are compiled and never rendered; files named literally are looked at; nothing is sent.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from poeflow.check.attachments import attached
from poeflow.check.inputs import given
from poeflow.check.saves import Reads, saves
from poeflow.check.texts import Finding, findings
from poeflow.check.unsupported import unsupported
from poeflow.check.uses import step_uses, unused
from poeflow.files import Project
from poeflow.graph import CycleError, ordered
from poeflow.problems import Place, Problem, errors_only
from poeflow.spec.enough import enough
from poeflow.spec.load import FlowFile
from poeflow.templates.environment import Environment

Edges = dict[str, tuple[str, ...]]
_CYCLES: Final = 20
_SHOWN: Final = 8


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What checking found.

    `edges` maps each step to the steps it needs, in order of the file; `order` is empty where the
    edges go round.
    """

    file: FlowFile
    edges: Edges
    order: tuple[str, ...]
    problems: tuple[Problem, ...]


def check(project: Project, file: FlowFile, environment: Environment) -> Checked:
    """Check one flow whose shape is valid.

    `problems` are sorted by place; those of template files stand at their places in these files.
    """
    found = tuple(findings(project, file, environment))
    files = attached(project, file)
    inputs = given(project, file, environment.reader)
    reads = Reads(
        files=files.files | inputs.files | {path for f in found for path in f.files},
        globs=files.globs | {pattern for f in found for pattern in f.globs},
    )
    uses = _uses(file, found)
    order, cycles = _order(uses)
    problems = [
        *unsupported(file),
        *(problem for f in found for problem in f.problems),
        *step_uses(file, (reference for f in found for reference in f.references)),
        *files.problems,
        *inputs.problems,
        *saves(project, file, reads),
        *cycles,
    ]
    if file.is_sound and not errors_only(tuple(problems)):
        problems += unused(file, found)
    position = {name: index for index, name in enumerate(uses)}
    edges = {name: tuple(sorted(used, key=position.__getitem__)) for name, used in uses.items()}
    return Checked(file=file, edges=edges, order=order, problems=enough(problems))


Uses = dict[str, dict[str, Place]]
"""For each step the steps it needs, with the first place that says so."""


def _uses(file: FlowFile, found: Iterable[Finding]) -> Uses:
    uses: Uses = {name: {} for name in file.flow.steps}
    for name, step in file.flow.steps.items():
        for index, need in enumerate(step.needs):
            if need in uses:
                place = file.document.place(("steps", name, "needs", index))
                uses[name].setdefault(need, place)
    for finding in found:
        if finding.site.step is None or finding.site.early:
            continue
        for reference in finding.references:
            if reference.kind == "step":
                uses[finding.site.step].setdefault(reference.name, reference.place)
    return uses


def _order(uses: Mapping[str, Mapping[str, Place]]) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the order of the steps, or none and a problem for each way round."""
    problems: list[Problem] = []
    left = dict(uses)
    while len(problems) < _CYCLES:
        try:
            order = ordered(left)
        except CycleError as error:
            first, second = error.path[:2]
            problems.append(_round(error, uses[first][second]))
            left = {name: used for name, used in left.items() if name not in error.path}
        else:
            return (() if problems else order), problems
    return (), problems


def _round(error: CycleError, place: Place) -> Problem:
    step = error.path[0]
    if len(error.path) == 2:
        return Problem(place, f'step "{step}" needs itself', "name another step")
    way = " -> ".join([*error.path[:_SHOWN], *(["..."] if len(error.path) > _SHOWN else [])])
    return Problem(place, f"steps need each other: {way}", "remove one of these uses")
