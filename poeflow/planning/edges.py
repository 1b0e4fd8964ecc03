"""What steps need of each other: edges and their order, read off the templates' findings."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import chained_to
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.ordering import CycleError, ordered
from poeflow.planning.checked import Uses
from poeflow.planning.template_checks import Finding
from poeflow.problems import Place, Problem

Needs = dict[str, dict[str, Place]]
"""For each step the steps it needs, with the first place that says so."""
_CYCLES: Final = 20
_LOOKS: Final = 100_000
"""How many steps are looked at for all of these together: each takes another look at all."""
_SHOWN: Final = 8


def uses_of(file: FlowFile, found: Iterable[Finding]) -> dict[str, Uses]:
    """Return what the texts of each step use; settings that all share count for each."""
    own: dict[str | None, list[Finding]] = defaultdict(list)
    for finding in found:
        if finding.site.path[0] != "outputs":
            own[finding.site.step].append(finding)
    return {step: _uses(file, own[step] + own[None]) for step in file.flow.steps}


def _uses(file: FlowFile, found: list[Finding]) -> Uses:
    """Join what findings use. A text that includes a file by a value may use any input."""
    references = [reference for finding in found for reference in finding.references]
    inputs = {r.name for r in references if r.kind == "input"}
    if any(finding.is_open for finding in found):
        inputs = set(file.flow.inputs)
    return Uses(
        inputs=frozenset(inputs),
        steps=frozenset((r.name, r.attribute) for r in references if r.kind == "step"),
        names=frozenset(r.name for r in references if r.kind == "name"),
    )


def chains(file: FlowFile, found: Iterable[Finding]) -> dict[str, str]:
    """Return the steps that run over the instances of another and need no more of it than that."""
    sources = {name: chained_to(file.flow, name) for name in file.flow.steps}
    wide = {
        finding.site.step
        for finding in found
        for reference in finding.references
        if finding.site.step is not None
        and finding.site.path[2] != "for_each"
        and reference.kind == "step"
        and reference.name == sources[finding.site.step]
    }
    return {
        name: source
        for name, source in sources.items()
        if source is not None and name not in wide and source not in file.flow.steps[name].needs
    }


def lost_sources(file: FlowFile, found: Iterable[Finding]) -> Iterator[Problem]:
    """Yield a problem where a step has no `source`, as it needs more than that instance."""
    found = tuple(found)
    kept = chains(file, found)
    for finding in found:
        step = finding.site.step
        source = None if step is None or step in kept else chained_to(file.flow, step)
        for reference in finding.references if source is not None else ():
            if (reference.kind, reference.name) == ("name", "source"):
                message = f'there is no source, as step "{step}" needs all of {source}'
                hint = f"write steps.{source}[key] in its place"
                yield Problem(reference.place, message, hint)


def tested(file: FlowFile, found: Iterable[Finding]) -> dict[str, frozenset[str]]:
    """Return for each step the steps whose status its `if` looks at."""
    looked_at: dict[str, frozenset[str]] = dict.fromkeys(file.flow.steps, frozenset())
    for finding in found:
        step = finding.site.step
        if step is not None and finding.site.path == ("steps", step, "if"):
            statuses = (r for r in finding.references if r.attribute == "status")
            looked_at[step] = frozenset(reference.name for reference in statuses)
    return looked_at


def needs_of(file: FlowFile, found: Iterable[Finding]) -> Needs:
    uses: Needs = {name: {} for name in file.flow.steps}
    for name, step in file.flow.steps.items():
        named: list[tuple[KeyPath, str]] = [
            (("needs", index), need) for index, need in enumerate(step.needs)
        ]
        if step.history is not None:
            named.append((("history",), step.history))
        for key, need in named:
            if need in uses:
                place = file.document.place(("steps", name, *key))
                uses[name].setdefault(need, place)
    for finding in found:
        if finding.site.step is None or finding.site.early:
            continue
        for reference in finding.references:
            if reference.kind == "step":
                uses[finding.site.step].setdefault(reference.name, reference.place)
    return uses


def order_of(uses: Mapping[str, Mapping[str, Place]]) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the order of the steps, or none and a problem for each way round."""
    problems: list[Problem] = []
    left = dict(uses)
    looks = 0
    while len(problems) < _CYCLES and looks < _LOOKS:
        looks += len(left)
        try:
            order = ordered(left)
        except CycleError as error:
            first, second = error.path[:2]
            problems.append(_round(error, uses[first][second]))
            ring = set(error.path)
            left = {name: used for name, used in left.items() if name not in ring}
        else:
            return (() if problems else order), problems
    return (), problems


def _round(error: CycleError, place: Place) -> Problem:
    step = error.path[0]
    if len(error.path) == 2:
        return Problem(place, f'step "{step}" needs itself', "name another step")
    way = " -> ".join([*error.path[:_SHOWN], *(["..."] if len(error.path) > _SHOWN else [])])
    return Problem(place, f"steps need each other: {way}", "remove one of these uses")
