"""Finds where in the user's files a change is that made an instance stale."""

from collections.abc import Iterator
from typing import Final

from poeflow.engine.recipe_parts import JUDGE_PROVIDER
from poeflow.flowfile.model import Flow
from poeflow.flowfile.step_settings import model_of, settings_of
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.check import Checkup
from poeflow.planning.checked import Checked
from poeflow.problems import Place
from poeflow.records import InstanceStatus, path_of

_CHANGE: Final = lazy_pattern(r"(.+) (?:changed|is new|is gone)")
_EDIT: Final = lazy_pattern(r"(.+) (?:was edited|has conflict marks)")
_LOOPS: Final = ("for_each", "matrix")
_FILES: Final = ("file", "reads", "attachment")


def place_of_step(found: Checkup, instance: str) -> Place | None:
    """Return where the step of an instance is written, in a used flow's file if it is of one.

    None if there is no such step.
    """
    flows = _flows_to(found, instance)
    if flows is None:
        return None
    checked, step = flows[-1]
    return checked.file.document.key_place(("steps", step))


def place_of_cause(found: Checkup, status: InstanceStatus) -> Place | None:
    """Return the place of the first change that made an instance stale, else that of its step.

    A change is in a key of the step, its model, its parameters, an input, or a file that it reads.
    What only follows from another step has no place of its own. None if there is no such step.
    """
    shown = found.environment.reader.shown
    flows = _flows_to(found, status.id)
    if status.state == "orphaned" or flows is None:
        return Place(shown(f"//{status.id}")) if status.state == "orphaned" else None
    for reason in status.reasons:
        edit = _EDIT.fullmatch(reason)
        if edit is not None and found.project.has(f"//{edit[1]}"):
            return Place(shown(f"//{edit[1]}"))
        change = _CHANGE.fullmatch(reason)
        place = None if change is None else _place_of_part(found, flows, change[1])
        if place is not None:
            return place
    return place_of_step(found, status.id)


def _flows_to(found: Checkup, instance: str) -> list[tuple[Checked, str]] | None:
    """Return the flows from the outer one down to that of an instance, each with its step."""
    checked, flows = found.checked, list[tuple[Checked, str]]()
    for step in path_of(instance):
        if checked is None or step not in checked.file.flow.steps:
            return None
        flows.append((checked, step))
        checked = checked.children.get(step)
    return flows or None


def _place_of_part(found: Checkup, flows: list[tuple[Checked, str]], part: str) -> Place | None:
    """Return where a part of a recipe is written; None if it is another step's result."""
    checked, step = flows[-1]
    kind, _, rest = part.partition(" ")
    if kind in _FILES and rest.startswith("//"):
        return Place(found.environment.reader.shown(rest))
    if part.startswith("steps."):
        return None
    if kind == "input" and len(flows) > 1:
        outer, user = flows[-2]
        given: KeyPath = ("steps", user, "with", rest)
        if outer.file.document.node(given) is not None:
            return outer.file.document.key_place(given)
    document = checked.file.document
    paths = (path for path in _paths(checked.file.flow, step, part) if document.node(path))
    return next((document.key_place(path) for path in paths), None)


def _paths(flow: Flow, step: str, part: str) -> Iterator[KeyPath]:
    """Yield the keys that may hold a part of a recipe, the most likely first."""
    kind, _, rest = part.partition(" ")
    if kind == "input":
        yield ("inputs", rest)
    if kind == "judge":
        alias = rest.removeprefix("model ")
        yield ("models", alias, "system" if alias == rest else "model")
        if part == JUDGE_PROVIDER:
            yield ("defaults", "provider")
        yield ("steps", step, "expect")
    if kind == "env":
        yield ("steps", step, kind)
    yield from _paths_of_setting(flow, step, part)
    yield ("steps", step, part)
    if part not in flow.steps[step].__struct_fields__:
        yield from (("steps", step, loop) for loop in _LOOPS)


def _paths_of_setting(flow: Flow, step: str, part: str) -> Iterator[KeyPath]:
    """Yield where the model of a step, or a setting that goes with it, is written."""
    model = model_of(flow, step)
    named = model.value if model is not None and isinstance(model.value, str) else None
    if part == "model":
        yield ("models", named or "", "model")
        yield from () if model is None else (model.path,)
        return
    settings = settings_of(flow, step, named=named)
    if part == "system" and settings.system is not None:
        yield settings.system
    layer, _, key = part.partition(".")
    layers = {"params": settings.params, "extra_body": settings.extra_body}
    if key in layers.get(layer, {}):
        yield layers[layer][key].path
