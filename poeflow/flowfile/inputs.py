"""The inputs a flow declares, and the files that give them values."""

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.model import Flow, InputSpec
from poeflow.flowfile.patterns import one_of
from poeflow.flowfile.yaml_messages import core_value
from poeflow.flowfile.yaml_tree import MAX_BYTES, Document, decode, parse, parse_value
from poeflow.problems import Place, Problem, errors_only
from poeflow.project.project import FileProblem, Project

_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
    "file": (str,),
}


_EXAMPLES: Final = {"array": '["x", "y"]', "object": '{"name": "x"}'}
"""How values that are no plain text are written on the command line."""


class InputFault(msgspec.Struct, frozen=True):
    """What is wrong with the input `name`."""

    name: str
    message: str
    hint: str = ""


def gather(
    flow: Flow, values: Mapping[str, Json], texts: Mapping[str, str]
) -> tuple[dict[str, Json], tuple[InputFault, ...]]:
    """Return the inputs of a run and what is wrong with them.

    `values` are typed (from an inputs file or the library), `texts` come from the command line and
    win; a text is read as the input's type asks.
    """
    faults = [
        InputFault(name, f'unknown input "{name}"', one_of(name, flow.inputs))
        for name in {**values, **texts}
        if name not in flow.inputs
    ]
    result: dict[str, Json] = {}
    for name, spec in flow.inputs.items():
        value = _chosen(name, spec, values, texts)
        if value is msgspec.UNSET:
            what = f" ({spec.description})" if spec.description else ""
            hint = f"pass --input {name}=...{what}"
            faults.append(InputFault(name, f'the input "{name}" is missing', hint))
            continue
        message = misfit(spec, value)
        if message:
            hint = spec.description
            if name in texts and spec.type in _EXAMPLES:
                hint = f"for example --input {name}='{_EXAMPLES[spec.type]}'"
            faults.append(InputFault(name, f'the input "{name}" {message}', hint))
        result[name] = value
    return result, tuple(faults)


def misfit(spec: InputSpec, value: Json) -> str:
    """Return why `value` does not fit, as the end of a sentence; empty where it does."""
    if not _is_of(spec.type, value):
        return f"must be {_article(spec.type)}, not {_shown(value)}"
    if spec.enum is not msgspec.UNSET and value not in spec.enum:
        return f"must be one of {', '.join(map(str, spec.enum))}, not {_shown(value)}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        if spec.minimum is not None and value < spec.minimum:
            return f"must be at least {spec.minimum:g}, not {value}"
        if spec.maximum is not None and value > spec.maximum:
            return f"must be at most {spec.maximum:g}, not {value}"
    if isinstance(value, list) and spec.items is not msgspec.UNSET:
        return _misfit_of_items(spec.items, value)
    return ""


def _chosen(
    name: str, spec: InputSpec, values: Mapping[str, Json], texts: Mapping[str, str]
) -> Json | msgspec.UnsetType:
    if name in texts:
        return read_text(spec, texts[name])
    return values.get(name, spec.default)


def read_text(spec: InputSpec, text: str) -> Json:
    """Read a command line value as the input's type asks; text that does not fit stays text."""
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


def _misfit_of_items(items: dict[str, Json], value: list[Json]) -> str:
    kind, allowed = items.get("type"), items.get("enum")
    for index, item in enumerate(value):
        if isinstance(kind, str) and not _is_of(kind, item):
            return f"item {index + 1} must be {_article(kind)}, not {_shown(item)}"
        if isinstance(allowed, list) and item not in allowed:
            return f"item {index + 1} must be one of {', '.join(map(str, allowed))}"
    return ""


def _is_of(kind: str, value: Json) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES.get(kind, (object,)))


def _article(kind: str) -> str:
    return {"string": "text", "file": "a path", "boolean": "true or false"}.get(
        kind, f"an {kind}" if kind[0] in "aio" else f"a {kind}"
    )


def _shown(value: Json) -> str:
    text = repr(value) if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


SUFFIX: Final = ".inputs.yaml"


def beside(flow: str) -> str:
    """Return the project path of the file that brings inputs to `flow` by itself."""
    return flow.rsplit(".", 1)[0] + SUFFIX


def read(project: Project, path: str, *, shown: str) -> dict[str, Json] | None:
    """Return the inputs in the file at the project path `path`, None where there is none.

    Raises `InvalidFlowError` with every problem found.
    """
    if not project.has(path):
        return None
    try:
        data = project.read_bytes(path, limit=MAX_BYTES)
    except FileProblem as error:
        raise InvalidFlowError((Problem(Place(shown), error.message, error.hint),)) from None
    return values_of(data, shown=shown)


def values_of(data: bytes, *, shown: str) -> dict[str, Json]:
    """Return the inputs that the bytes of a file hold. Raises `InvalidFlowError`."""
    document = parsed(data, shown=shown)
    if errors_only(document.problems):
        raise InvalidFlowError(errors_only(document.problems))
    values = document.root.data if document.root is not None else {}
    if not isinstance(values, dict):
        raise AssertionError("what is no mapping is a problem")
    return values


def parsed(data: bytes, *, shown: str) -> Document:
    """Return a file of inputs with its places; its root is a mapping, or None where it is empty."""
    text = decode(data, shown)
    if isinstance(text, Problem):
        return Document(path=shown, text="", root=None, problems=(text,))
    document = parse(text, shown)
    if document.root is None or isinstance(document.root.data, dict):
        return document
    place = document.place(())
    problem = Problem(place, "the file must be a mapping", "write one NAME: VALUE a line")
    return msgspec.structs.replace(document, root=None, problems=(*document.problems, problem))
