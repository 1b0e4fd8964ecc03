"""Files of inputs: a YAML or JSON mapping from names to values."""

from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.tree import Document
from poeflow.flowfile.yaml_tree import MAX_BYTES, decode, parse
from poeflow.problems import Place, Problem, errors_only
from poeflow.project.project import FileProblem, Project

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
