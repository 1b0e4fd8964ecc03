"""The values of a flow's declared inputs: type checks, and files of inputs."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.model import Flow, InputSpec
from poeflow.flowfile.patterns import one_of
from poeflow.flowfile.yaml_messages import core_value
from poeflow.flowfile.yaml_tree import MAX_BYTES, Document, KeyPath, decode, parse, parse_value
from poeflow.ordering import CycleError, ordered
from poeflow.problems import Place, Problem, errors_only
from poeflow.project.project import FileProblem, Project
from poeflow.settings import secret_variable

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "file": (str,),
}


_LONGEST_CHAIN: Final = 100
"""Inputs through which a default is known without a run, each taking it from the next."""
_EXAMPLES: Final = {"array": '["x", "y"]', "object": '{"name": "x"}'}
"""Examples of lists and mappings on the command line."""


class InputProblem(msgspec.Struct, frozen=True):
    """A problem with the input `name`, at a `path` inside its value."""

    name: str
    message: str
    hint: str = ""
    path: KeyPath = ()


def resolve_inputs(
    flow: Flow, values: Mapping[str, Json], texts: Mapping[str, str]
) -> tuple[dict[str, Json], tuple[InputProblem, ...]]:
    """Return the inputs of a run and the problems with them.

    `values` are typed (from an inputs file or the library); `texts` come from the command line,
    win over `values`, and are read by the input's type.
    """
    problems = [
        InputProblem(name, f'unknown input "{name}"', one_of(name, flow.inputs))
        for name in {**values, **texts}
        if name not in flow.inputs
    ]
    result: dict[str, Json] = {}
    chosen: dict[str, Json | msgspec.UnsetType] = {}
    for name in default_order(flow):
        chosen[name] = _chosen(name, flow.inputs[name], values, texts)
        if chosen[name] is msgspec.UNSET and flow.inputs[name].default_from is not None:
            chosen[name] = chosen.get(str(flow.inputs[name].default_from), msgspec.UNSET)
    for name, spec in flow.inputs.items():
        value = chosen[name]
        if value is msgspec.UNSET and not spec.is_required:
            continue  # the input it takes its default from is missing
        if value is msgspec.UNSET:
            what = f" ({spec.description})" if spec.description else ""
            hint = f"pass --input {name}=...{what}"
            if spec.secret:
                hint = f"{how_to_give(name)}{what}"
            problems.append(InputProblem(name, f'the input "{name}" is missing', hint))
            continue
        message = value_problem(spec, value)
        if message:
            hint = spec.description
            if name in texts and spec.type in _EXAMPLES:
                hint = f"for example --input {name}='{_EXAMPLES[spec.type]}'"
            problems.append(InputProblem(name, f'the input "{name}" {message}', hint))
        result[name] = value
    return result, tuple(problems)


def how_to_give(name: str) -> str:
    """Return how the value of a secret input is given."""
    return f"set {secret_variable(name)}, or put it into a file and name that with --env-file"


def default_order(flow: Flow) -> tuple[str, ...]:
    """Return the inputs, each after the one it takes its default from; a ring is in any order."""
    if all(spec.default_from is None for spec in flow.inputs.values()):
        return tuple(flow.inputs)
    try:
        return ordered(default_edges(flow))
    except CycleError:
        return tuple(flow.inputs)


def default_edges(flow: Flow) -> dict[str, list[str]]:
    """Return for each input the one that it takes its default from."""
    return {name: [str(spec.default_from)] for name, spec in flow.inputs.items()}


def value_problem(spec: InputSpec, value: Json) -> str:
    """Return why `value` is not valid, as the end of a sentence; empty if it is valid."""
    if not _is_of_type(spec.type, value):
        return f"must be {with_article(spec.type)}, not {_shown(value)}"
    if spec.enum is not msgspec.UNSET and value not in spec.enum:
        return f"must be one of {', '.join(map(str, spec.enum))}, not {_shown(value)}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if spec.minimum is not None and value < spec.minimum:
            return f"must be at least {spec.minimum:g}, not {value}"
        if spec.maximum is not None and value > spec.maximum:
            return f"must be at most {spec.maximum:g}, not {value}"
    if isinstance(value, list) and spec.items is not msgspec.UNSET:
        return _item_problem(spec.items, value)
    return ""


class KnownValues(msgspec.Struct, frozen=True):
    """The values of an input that its declaration names; `is_whole` if it can have no other."""

    values: tuple[Json, ...]
    is_whole: bool


def known_values(flow: Flow, name: str) -> KnownValues:
    """Return the values of an input that are known without a run.

    A default is looked for in as many other inputs as anybody chains.
    """
    spec = flow.inputs[name]
    if spec.enum is not msgspec.UNSET:
        return KnownValues(tuple(spec.enum), is_whole=True)
    if spec.type == "boolean":
        return KnownValues((False, True), is_whole=True)
    for _ in range(_LONGEST_CHAIN):
        other = spec.default_from
        if other is None or other not in flow.inputs:
            break
        spec = flow.inputs[other]
    return KnownValues(() if spec.default is msgspec.UNSET else (spec.default,), is_whole=False)


def _chosen(
    name: str, spec: InputSpec, values: Mapping[str, Json], texts: Mapping[str, str]
) -> Json | msgspec.UnsetType:
    if name in texts:
        return read_text(spec, texts[name])
    return values.get(name, spec.default)


def read_text(spec: InputSpec, text: str) -> Json:
    """Read a command line value by the input's type; text of another type stays text."""
    readers: dict[str, Callable[[str], Json]] = {
        "integer": core_value,
        "number": core_value,
        "boolean": core_value,
        "array": parse_value,
        "object": parse_value,
    }
    reader = readers.get(spec.type)
    if reader is None:
        return text
    try:
        return reader(text.strip())
    except InvalidFlowError:
        return text


def _item_problem(items: dict[str, Json], value: list[Json]) -> str:
    kind, allowed = items.get("type"), items.get("enum")
    for index, item in enumerate(value):
        if isinstance(kind, str) and not _is_of_type(kind, item):
            return f"item {index + 1} must be {with_article(kind)}, not {_shown(item)}"
        if isinstance(allowed, list) and item not in allowed:
            return f"item {index + 1} must be one of {', '.join(map(str, allowed))}"
    return ""


def _is_of_type(kind: str, value: Json) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES.get(kind, (object,)))


def with_article(kind: str) -> str:
    """Return the type of an input in words, with an article: `an array`, `text`."""
    return {"string": "text", "file": "a path", "boolean": "true or false"}.get(
        kind, f"an {kind}" if kind[0] in "aio" else f"a {kind}"
    )


def _shown(value: Json) -> str:
    text = repr(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


SUFFIX: Final = ".inputs.yaml"


def inputs_path(flow: str) -> str:
    """Return the project path of the inputs file beside `flow`, which is read by default."""
    return flow.rsplit(".", 1)[0] + SUFFIX


def read_inputs(project: Project, path: str, *, shown: str) -> dict[str, Json] | None:
    """Return the inputs in the file at the project path `path`, None if there is no file.

    Raises `InvalidFlowError` with every problem found.
    """
    if not project.has(path):
        return None
    try:
        data = project.read_bytes(path, limit=MAX_BYTES)
    except FileProblem as error:
        raise InvalidFlowError((Problem(Place(shown), error.message, error.hint),)) from None
    return inputs_in(data, shown=shown)


def inputs_in(data: bytes, *, shown: str) -> dict[str, Json]:
    """Return the inputs in the bytes of a file. Raises `InvalidFlowError`."""
    document = parse_inputs(data, shown=shown)
    if errors_only(document.problems):
        raise InvalidFlowError(errors_only(document.problems))
    values = document.root.data if document.root is not None else {}
    if not isinstance(values, dict):
        raise AssertionError("another root than a mapping is a problem")
    return values


def parse_inputs(data: bytes, *, shown: str) -> Document:
    """Return an inputs file as a document; its root is a mapping, or None if it is empty."""
    text = decode(data, shown)
    if isinstance(text, Problem):
        return Document(path=shown, text="", root=None, problems=(text,))
    document = parse(text, shown)
    if document.root is None or isinstance(document.root.data, dict):
        return document
    place = document.place(())
    problem = Problem(place, "the file must be a mapping", "write one NAME: VALUE a line")
    return msgspec.structs.replace(document, root=None, problems=(*document.problems, problem))
