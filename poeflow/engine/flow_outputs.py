"""What a flow results in: the outputs it declares, else the texts of its last steps."""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from poeflow.digest import Json, encode_json
from poeflow.engine.flow_state import FlowState
from poeflow.engine.results import StepResult
from poeflow.engine.states import StepState

_STEP: Final = re.compile(r"\bsteps\W+(\w+)(?!\W+status\b)\b")
"""A step named in an output for more than whether it ran: that much the lock has."""


class FlowOutputs(NamedTuple):
    """The outputs by name, and the instances whose answers are current and not here.

    `missing` are the outputs that would be made of those, and so are left out.
    """

    values: dict[str, Json]
    absent: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def wanted(flow: FlowState) -> list[str]:
    """Return the steps whose answers the outputs are made of."""
    declared = flow.plan.file.flow.outputs
    return _named_in(flow, declared) if declared else _last_steps(flow)


def steps_run(flow: FlowState) -> list[str]:
    """Return the steps a run of a part of the flow is about."""
    return [step for step in flow.plan.order if flow.touches(step)]


def outputs_of(flow: FlowState) -> FlowOutputs:
    """Return the outputs whose answers are all here. Raises `TemplateError`."""
    declared = flow.plan.file.flow.outputs
    if not declared:
        return _texts(flow, _last_steps(flow))
    values = flow.values(flow.plan.order)
    outputs = {
        name: flow.plan.texts.value(("outputs", name), written, values)
        for name, written in declared.items()
        if not _absent(flow, _named_in(flow, written))
    }
    missing = tuple(name for name in declared if name not in outputs)
    return FlowOutputs(outputs, _absent(flow, wanted(flow)), missing)


def part_of_outputs(flow: FlowState) -> FlowOutputs:
    """Return the results of the last steps that have any, where a run is about a part of a flow."""
    ended = [
        step
        for step in steps_run(flow)
        if _shown(flow, step, flow.states[step]) is not None or _absent(flow, [step])
    ]
    needed = {need for step in ended for need in flow.plan.edges[step]}
    return _texts(flow, [step for step in ended if step not in needed])


def _texts(flow: FlowState, steps: Iterable[str]) -> FlowOutputs:
    """Return the texts of steps, those without any left out."""
    shown = {step: _shown(flow, step, flow.states[step]) for step in steps}
    return FlowOutputs(
        {step: value for step, value in shown.items() if value is not None},
        _absent(flow, shown),
        tuple(step for step in shown if shown[step] is None and _absent(flow, [step])),
    )


def _absent(flow: FlowState, steps: Iterable[str]) -> tuple[str, ...]:
    """Return the instances of steps the run is about whose answers are not here."""
    return tuple(
        one.name
        for step in steps
        for one in flow.states[step].instances
        if one.is_absent and not (one.is_left_out and flow.course.means.selection.named)
    )


def _named_in(flow: FlowState, written: Json | dict[str, Json]) -> list[str]:
    """Return the steps that outputs name."""
    named = set(_STEP.findall(encode_json(written).decode()))
    return [step for step in flow.plan.order if step in named]


def _last_steps(flow: FlowState) -> list[str]:
    """Return the steps nothing depends on."""
    needed = {need for needs in flow.plan.edges.values() for need in needs}
    return [step for step in flow.plan.order if step not in needed]


def _shown(flow: FlowState, step: str, state: StepState) -> Json:
    """Return a step's result where a flow declares none: one text, or those of a loop by key."""
    found = {
        one.key: _text(one.result) if one.result.source != "ran" else dict(one.result.outputs)
        for one in state.instances
        if one.result is not None
    }
    named = flow.course.means.selection.named
    is_one = len(found) == 1 and any(one.startswith(f"{flow.name(step)}[") for one in named)
    if None in found or is_one:
        return next(iter(found.values()))
    is_loop = any(one.key is not None for one in state.instances) or not state.instances
    return {key or "": value for key, value in found.items()} or None if is_loop else None


def _text(result: StepResult) -> str:
    """Return the word that was chosen, as it is declared, else the answer's text."""
    return result.text if result.value is None else result.value
