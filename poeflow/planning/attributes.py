"""What names in templates have to give, as far as the flow itself tells: of items and results."""

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from poeflow.digest import Json
from poeflow.flowfile.loops import chained_to, is_fan_out, names_of
from poeflow.flowfile.model import Flow, Loop, Step, TextFile
from poeflow.flowfile.step_settings import samples_of
from poeflow.templates.sandbox import STRING_METHODS
from poeflow.templates.scopes import FAN_OUT_ATTRIBUTES, STEP_ATTRIBUTES
from poeflow.templates.values import OWN

Fields = tuple[tuple[str, frozenset[str]], ...]
FIELDS_OF_FLOW: Final[Fields] = (("flow", frozenset({"name", "description"})),)
_OF_LOOP: Final = frozenset({"index", "index0", "first", "last", "length"})
_STEPS: Final = re.compile(r"\bsteps\b")
_INPUTS: Final = re.compile(r"\binputs\s*(?:\.\s*(\w+)|\[\s*['\"](\w+)['\"]|)")
_NOT_OF_FLOWS: Final = frozenset(STEP_ATTRIBUTES - {"outputs", "status", "error", "key"})
_OF_ANSWERS: Final = ("media", "model", "reasoning", "tool_calls", "usage")


class Names(NamedTuple):
    """The names an instance's templates see, and those of them that come from a step."""

    known: frozenset[str]
    derived: frozenset[str]


def instance_names(flow: Flow, name: str, derived_inputs: frozenset[str]) -> Names:
    """Return the names that the templates of the step `name` see besides inputs and steps."""
    known = names_of(flow, name)
    texts = tuple(_loop_texts(flow.steps[_origin(flow, name)]))
    if any(_comes_from_step(text, derived_inputs) for text in texts):
        return Names(known, known - {"sample"})
    return Names(known, known & {"source"})


def fields_of(flow: Flow, name: str, items: Callable[[str], list[Json]]) -> Fields:
    """Return all that the names of an instance may be asked for, where that is known.

    `items` gives what a step runs over, none where only a run can tell.
    """
    origin = _origin(flow, name)
    step, known = flow.steps[origin], names_of(flow, name)
    fields = {"loop": _OF_LOOP, "source": STEP_ATTRIBUTES} if known else {}
    if step.matrix is not None:
        included = (key for entry in step.matrix.include for key in entry)
        fields["matrix"] = frozenset({*step.matrix.axes, *included})
    found = items(origin) if step.for_each is not None else []
    rows = [item for item in found if isinstance(item, dict)]
    if found and len(rows) == len(found):
        fields["item"] = frozenset(key for row in rows for key in row)
    elif found and all(isinstance(item, str) for item in found):
        fields["item"] = STRING_METHODS
    return tuple((known_name, fields[known_name]) for known_name in sorted(known & fields.keys()))


def results_of(flow: Flow) -> Fields:
    """Return what each result in `.all` of a loop has: also what it ran over, unless a step's."""
    return tuple(
        (name, frozenset(_of_result(flow, name)))
        for name, step in flow.steps.items()
        if is_fan_out(step)
    )


def fields_of_answer(step: Step) -> Fields:
    """Return what `output` has where a step checks its answer."""
    found = {a for a in ("text", "data", "value") if not _lacking_once("", step, a)[0]}
    return (("output", frozenset(found)),)


def lacking(name: str, step: Step, attribute: str) -> tuple[str, str]:
    """Return why a step has nothing to give as `attribute`, and what to do; else two blanks."""
    if is_fan_out(step):
        if attribute in FAN_OUT_ATTRIBUTES:
            return "", ""
        hint = f'write steps.{name}.all, or steps.{name}["KEY"].{attribute}'
        return f'step "{name}" runs once for each item, so it has no single {attribute}', hint
    return _lacking_once(name, step, attribute)


def _origin(flow: Flow, name: str) -> str:
    """Return the step whose items a step runs over, by way of others or itself."""
    origin, seen = name, {name}
    while (following := chained_to(flow, origin)) is not None and following not in seen:
        seen.add(following)
        origin = following
    return origin


def _loop_texts(step: Step) -> Iterator[str]:
    """Yield every text that decides what a step runs over."""
    loop = step.for_each
    stack: list[Json | TextFile] = [loop.in_ if isinstance(loop, Loop) else loop]
    if step.matrix is not None:
        stack += [*step.matrix.axes.values(), *step.matrix.include, *step.matrix.exclude]
    while stack:
        found = stack.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, list):
            stack += found
        elif isinstance(found, dict):
            stack += found.values()


def _comes_from_step(text: str, derived_inputs: frozenset[str]) -> bool:
    if _STEPS.search(text):
        return True
    used = {found[1] or found[2] for found in _INPUTS.finditer(text)}
    return bool(derived_inputs) and any(n is None or n in derived_inputs for n in used)


def _of_result(flow: Flow, name: str) -> set[str]:
    step = flow.steps[name]
    found = {
        attribute for attribute in STEP_ATTRIBUTES if not _lacking_once(name, step, attribute)[0]
    }
    return found | _own_names(flow, name)


def _own_names(flow: Flow, name: str) -> frozenset[str]:
    """Return what the results of a step carry of what it ran over: nothing that a step gave."""
    texts = _loop_texts(flow.steps[_origin(flow, name)])
    is_late = any(_comes_from_step(text, frozenset()) for text in texts)
    return frozenset() if is_late else names_of(flow, name) & {*OWN}


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
