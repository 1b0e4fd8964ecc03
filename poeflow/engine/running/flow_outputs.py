"""What a flow gives at its end: its declared outputs, or the texts of its last steps."""

from collections.abc import Iterable

import msgspec

from poeflow.digest import Json
from poeflow.engine.flow_state import FlowState
from poeflow.engine.results import StepResult
from poeflow.engine.step_state import StepOutcome
from poeflow.planning.checked import last_steps, steps_mentioned, steps_named, steps_shown


class FlowOutputs(msgspec.Struct, frozen=True):
    """The outputs by name, and the instances whose answers are current but not stored here.

    `missing` are the outputs that need those answers, and so are left out.
    """

    values: dict[str, Json]
    absent: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def steps_run(flow: FlowState) -> list[str]:
    """Return the selected steps of a run of a part of the flow."""
    return [step for step in flow.plan.order if flow.touches(step)]


def outputs_of(flow: FlowState) -> FlowOutputs:
    """Return the outputs whose answers are all stored here. Raises `TemplateError`."""
    declared = flow.plan.flow.outputs
    if not declared:
        return _texts(flow, last_steps(flow.plan.checked))
    values = flow.values(steps_mentioned(flow.plan.checked, declared))
    outputs = {
        name: flow.plan.texts.value(("outputs", name), written, values)
        for name, written in declared.items()
        if not _absent(flow, steps_named(flow.plan.checked, written))
    }
    missing = tuple(name for name in declared if name not in outputs)
    return FlowOutputs(outputs, _absent(flow, steps_shown(flow.plan.checked)), missing)


def part_of_outputs(flow: FlowState) -> FlowOutputs:
    """Return the results of the last steps that have any, if a part of a flow is selected."""
    ended = [
        step
        for step in steps_run(flow)
        if _shown(flow, step, flow.outcomes[step]) is not None or _absent(flow, [step])
    ]
    needed = {need for step in ended for need in flow.plan.edges[step]}
    return _texts(flow, [step for step in ended if step not in needed])


def _texts(flow: FlowState, steps: Iterable[str]) -> FlowOutputs:
    """Return the texts of those steps that have one."""
    shown = {step: _shown(flow, step, flow.outcomes[step]) for step in steps}
    return FlowOutputs(
        {step: value for step, value in shown.items() if value is not None},
        _absent(flow, shown),
        tuple(step for step in shown if shown[step] is None and _absent(flow, [step])),
    )


def _absent(flow: FlowState, steps: Iterable[str]) -> tuple[str, ...]:
    """Return the selected instances of steps whose answers are not stored here."""
    return tuple(
        one.name
        for step in steps
        if flow.outcomes[step].is_absent
        for one in flow.outcomes[step].instances
        if one.is_absent and not (one.is_left_out and flow.run_state.selection.only)
    )


def _shown(flow: FlowState, step: str, state: StepOutcome) -> Json:
    """Return a step's result if a flow declares none: one text, or those of a loop by key."""
    is_flow = flow.plan.steps[step].kind == "flow"
    found = {
        one.key: dict(one.result.outputs) if is_flow else _text(one.result)
        for one in state.instances
        if one.result is not None
    }
    only = flow.run_state.selection.only
    is_one = len(found) == 1 and any(one.startswith(f"{flow.name(step)}[") for one in only)
    if None in found or is_one:
        return next(iter(found.values()))
    is_loop = any(one.key is not None for one in state.instances) or not state.instances
    return {key or "": value for key, value in found.items()} or None if is_loop else None


def _text(result: StepResult) -> str:
    """Return the chosen word as declared, else the answer's text."""
    return result.text if result.value is None else result.value
