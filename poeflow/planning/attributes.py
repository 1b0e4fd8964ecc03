"""What the results of steps have to give, as far as the flow itself tells."""

from typing import Final

from poeflow.flowfile.loops import is_fan_out
from poeflow.flowfile.model import Flow, Step
from poeflow.flowfile.step_settings import samples_of
from poeflow.planning.fan_out import Fields, own_names
from poeflow.templates.scopes import FAN_OUT_ATTRIBUTES, STEP_ATTRIBUTES

_NOT_OF_FLOWS: Final = frozenset(STEP_ATTRIBUTES - {"outputs", "status", "error", "key"})
_OF_ANSWERS: Final = ("media", "model", "reasoning", "tool_calls", "usage")
_OF_FLOW: Final = frozenset({"name", "description"})


def results_of(flow: Flow) -> Fields:
    """Return what each result in `.all` of a loop has: also what it ran over, unless a step's."""
    return tuple(
        (name, frozenset(_of_result(flow, name)))
        for name, step in flow.steps.items()
        if is_fan_out(step)
    )


def _of_result(flow: Flow, name: str) -> set[str]:
    step = flow.steps[name]
    found = {
        attribute for attribute in STEP_ATTRIBUTES if not _lacking_once(name, step, attribute)[0]
    }
    return found | own_names(flow, name)


def fields_of_answer(step: Step) -> Fields:
    """Return what `output` has where a step checks its answer."""
    found = {a for a in ("text", "data", "value") if not _lacking_once("", step, a)[0]}
    return (("output", frozenset(found)),)


FIELDS_OF_FLOW: Final[Fields] = (("flow", _OF_FLOW),)


def lacking(name: str, step: Step, attribute: str) -> tuple[str, str]:
    """Return why a step has nothing to give as `attribute`, and what to do; else two blanks."""
    if is_fan_out(step):
        if attribute in FAN_OUT_ATTRIBUTES:
            return "", ""
        hint = f'write steps.{name}.all, or steps.{name}["KEY"].{attribute}'
        return f'step "{name}" runs once for each item, so it has no single {attribute}', hint
    return _lacking_once(name, step, attribute)


def _lacking_once(name: str, step: Step, attribute: str) -> tuple[str, str]:
    """Return why one run of a step has nothing to give as `attribute`, and what to do."""
    use_text = f"write steps.{name}.text"
    output = step.output
    if attribute == "data" and output.format in (None, "text") and output.schema is None:
        hint = f"add output: {{format: json}} to it, or {use_text}"
        return f'step "{name}" has no data: it gives plain text', hint
    if attribute == "value" and output.one_of is None:
        hint = f"add output: {{one_of: [...]}} to it, or {use_text}"
        return f'step "{name}" has no value: it does not choose one of several', hint
    if attribute == "all" and samples_of(step).count == 1:
        return f'step "{name}" runs once, so it has no list of results', use_text
    if attribute == "outputs" and step.kind != "flow":
        return f'step "{name}" is no flow, so it has no outputs', use_text
    if attribute in _OF_ANSWERS and step.kind == "render":
        return f'step "{name}" asks no model, so it has no {attribute}', use_text
    if attribute in _NOT_OF_FLOWS and step.kind == "flow":
        hint = f"write steps.{name}.outputs.NAME"
        return f'step "{name}" is a flow, so it has no {attribute}', hint
    if attribute == "media" and output.media is None:
        hint = "add output: {media: FOLDER} to it"
        return f'step "{name}" keeps no media', hint
    return "", ""
