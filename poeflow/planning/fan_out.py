"""What steps run over, as far as the flow itself tells: their names, items and keys."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from poeflow.digest import Json
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import chained_to, is_fan_out, key_text, names_of
from poeflow.flowfile.model import Flow, Loop, Matrix, Step, TextFile
from poeflow.flowfile.tables import ROW_SUFFIXES
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.problems import Problem
from poeflow.templates.sandbox import STRING_METHODS
from poeflow.templates.scopes import STEP_ATTRIBUTES
from poeflow.templates.sites import has_template
from poeflow.templates.values import OWN

_TABLES: Final = (".csv", ".tsv", ".parquet")
_OF_LOOP: Final = frozenset({"index", "index0", "first", "last", "length"})
_STEPS: Final = re.compile(r"\bsteps\b")
_INPUTS: Final = re.compile(r"\binputs\s*(?:\.\s*(\w+)|\[\s*['\"](\w+)['\"]|)")
_PATTERN: Final = re.compile(r"(?!inputs\b|steps\b)[\w./*?-]*\*[\w./*?-]*\.[A-Za-z]\w*")
_KEY: Final = "add key: with an expression that names each, for example item.id"


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


Fields = tuple[tuple[str, frozenset[str]], ...]


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


def own_names(flow: Flow, name: str) -> frozenset[str]:
    """Return what the results of a step carry of what it ran over: nothing that a step gave."""
    texts = _loop_texts(flow.steps[_origin(flow, name)])
    is_late = any(_comes_from_step(text, frozenset()) for text in texts)
    return frozenset() if is_late else names_of(flow, name) & {*OWN}


def _origin(flow: Flow, name: str) -> str:
    """Return the step whose items a step runs over, by way of others or itself."""
    origin, seen = name, {name}
    while (following := chained_to(flow, origin)) is not None and following not in seen:
        seen.add(following)
        origin = following
    return origin


def loops(file: FlowFile) -> Iterator[Problem]:
    """Yield what is wrong with the items and keys of every step that runs over something."""
    for name, step in file.flow.steps.items():
        if not is_fan_out(step):
            continue
        yield from _for_each(file, name, step)
        if step.matrix is not None:
            yield from _matrix(file, name, step.matrix)


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


def _for_each(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    loop = step.for_each
    path: KeyPath = ("steps", name, "for_each")
    has_key = isinstance(loop, Loop) and loop.key is not None
    if isinstance(loop, Loop):
        if loop.file is not None and not has_key and loop.file.endswith(_TABLES):
            place = file.document.place((*path, "file"))
            yield Problem(place, "the rows of a table need keys", _KEY)
        loop, path = loop.in_, (*path, "in")
    if isinstance(loop, str) and loop.strip().endswith(ROW_SUFFIXES) and "/" in loop:
        hint = f"write for_each: {{file: {loop.strip()}}}"
        yield Problem(file.document.place(path), "this is read as an expression", hint)
    if isinstance(loop, str) and _PATTERN.fullmatch(loop.strip()):
        hint = f'write for_each: glob("{loop.strip()}")'
        yield Problem(file.document.place(path), "this is read as an expression", hint)
    if isinstance(loop, list) and not has_key:
        yield from _items(file, path, loop)


def _items(file: FlowFile, path: KeyPath, items: list[Json]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        place = file.document.place((*path, index))
        if isinstance(item, list | dict):
            hint = "write for_each: {in: [...], key: item.id}"
            yield Problem(place, "an item that is no text or number needs a key", hint)
        elif isinstance(item, str) and has_template(item):
            continue
        elif seen.setdefault(key_text(item), index) != index:
            message = f'two items have the key "{key_text(item)}"'
            yield Problem(place, message, "remove one of them")


def _matrix(file: FlowFile, name: str, matrix: Matrix) -> Iterator[Problem]:
    path: KeyPath = ("steps", name, "matrix")
    for axis, values in matrix.axes.items():
        own: KeyPath = (*path, "axes", axis)
        if isinstance(values, list):
            yield from _axis(file, own, values)
    for index, pairs in enumerate(matrix.exclude):
        yield from _unknown_axes(file, (*path, "exclude", index), pairs, matrix)


def _axis(file: FlowFile, path: KeyPath, values: list[Json]) -> Iterator[Problem]:
    if not values:
        place = file.document.place(path)
        yield Problem(place, f'the axis "{path[-1]}" has no value', "give it one")
    for key, count in Counter(map(key_text, values)).items():
        if count > 1:
            place = file.document.place(path)
            yield Problem(place, f'"{key}" is in the axis twice', "remove one of them")


def _unknown_axes(
    file: FlowFile, path: KeyPath, pairs: Mapping[str, Json], matrix: Matrix
) -> Iterator[Problem]:
    for axis in pairs:
        if axis not in matrix.axes:
            place = file.document.key_place((*path, axis))
            yield Problem(place, f'there is no axis "{axis}"', f"axes: {', '.join(matrix.axes)}")
