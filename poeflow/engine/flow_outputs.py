"""What a flow results in: the outputs it declares, else the texts of its last steps."""

import re
from typing import Final

from poeflow.digest import Json, encode_json
from poeflow.engine.flow_state import FlowState
from poeflow.engine.states import StepState

_STEP: Final = re.compile(r"\bsteps\W+(\w+)")


def wanted(flow: FlowState) -> list[str]:
    """Return the steps whose answers the outputs are made of."""
    declared = flow.plan.file.flow.outputs
    if not declared:
        return _last_steps(flow)
    named = set(_STEP.findall(encode_json(declared).decode()))
    return [step for step in flow.plan.order if step in named]


def outputs_of(flow: FlowState) -> dict[str, Json]:
    """Return the outputs, once all they are made of is here. Raises `TemplateError`."""
    declared = flow.plan.file.flow.outputs
    if declared:
        values = flow.values(flow.plan.order)
        return {
            name: flow.plan.texts.value(("outputs", name), written, values)
            for name, written in declared.items()
        }
    results = {step: _shown(flow.states[step]) for step in _last_steps(flow)}
    return {step: shown for step, shown in results.items() if shown is not None}


def part_of_outputs(flow: FlowState) -> dict[str, Json]:
    """Return the results of the last steps that have any, where a run is about a part of a flow."""
    ended = [step for step in flow.plan.order if _shown(flow.states[step])]
    needed = {need for step in ended for need in flow.plan.edges[step]}
    return {step: _shown(flow.states[step]) for step in ended if step not in needed}


def _last_steps(flow: FlowState) -> list[str]:
    """Return the steps nothing depends on."""
    needed = {need for needs in flow.plan.edges.values() for need in needs}
    return [step for step in flow.plan.order if step not in needed]


def _shown(state: StepState) -> Json:
    """Return a step's result where a flow declares none."""
    if len(state.instances) == 1 and state.instances[0].key is None:
        result = state.instances[0].result
        if result is None:
            return None
        return dict(result.outputs) if result.source == "ran" else result.text
    return {
        one.key or "": one.result.text if one.result.source != "ran" else dict(one.result.outputs)
        for one in state.instances
        if one.result is not None
    }
