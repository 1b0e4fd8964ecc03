"""How steps, inputs and aliases are used: what a step cannot give, and what nobody asks for."""

from collections.abc import Iterable, Iterator

from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.model import Flow
from poeflow.flowfile.step_settings import judges_of, model_of
from poeflow.planning.attributes import lacking
from poeflow.planning.template_checks import Finding
from poeflow.problems import Problem
from poeflow.templates.scopes import Reference


def step_uses(file: FlowFile, references: Iterable[Reference]) -> Iterator[Problem]:
    """Yield a problem for each use of something its step never has."""
    for reference in references:
        step = file.flow.steps.get(reference.name) if reference.kind == "step" else None
        if step is not None and reference.attribute is not None:
            message, hint = lacking(reference.name, step, reference.attribute)
            if message:
                yield Problem(reference.place, message, hint)


def unused(file: FlowFile, findings: Iterable[Finding]) -> Iterator[Problem]:
    """Yield a warning for each input and alias that nothing in a sound flow uses."""
    found = tuple(findings)
    used = {r.name for f in found for r in f.references if r.kind == "input"}
    is_open = any(finding.is_open for finding in found)
    for name in file.flow.inputs if not is_open else ():
        if name not in used:
            place = file.document.key_place(("inputs", name))
            hint = f"write {{{{ inputs.{name} }}}} where you want it, or remove it"
            yield Problem(place, f'the input "{name}" is never used', hint, "warning")
    named = _named_models(file.flow)
    for name in file.flow.models:
        node = file.document.node(("models", name))
        is_own = node is not None and not node.file
        if named is not None and name not in named and is_own:
            place = file.document.key_place(("models", name))
            hint = f"write model: {name} in a step, or remove it"
            yield Problem(place, f'the model alias "{name}" is never used', hint, "warning")


def _named_models(flow: Flow) -> set[str] | None:
    """Return what steps name as their models; None where a template decides."""
    steps = {name: step for name, step in flow.steps.items() if step.kind == "model"}
    given = [model_of(flow, name) for name in steps]
    named = {str(model.value) for model in given if model is not None}
    for step in steps.values():
        named |= {*(step.fallback or ()), *(j.model for j in judges_of(step) if j.model)}
    for alias in flow.models.values():
        named |= set(alias.fallback)
    return None if any("{" in name for name in named) else named
