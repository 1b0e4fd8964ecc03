"""The file of a flow, with the document that it was built from, and the files of its parts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.flowfile.model import Flow
from poeflow.flowfile.yaml_tree import MAX_BYTES, MAX_NODES, Document, KeyPath, Node, decode, parse
from poeflow.problems import Place, Problem
from poeflow.project.project import FileProblem, Project


class FlowFile(msgspec.Struct, frozen=True, kw_only=True):
    """A flow and its source. `path` is canonical in the project: `//flows/notes.yaml`.

    `is_sound` if loading found no errors and dropped nothing; `whole` is the document before it
    dropped anything. `pinned_models` are the project's patterns of names that a model may have,
    None for any.
    """

    flow: Flow
    document: Document
    path: str
    is_sound: bool = True
    pinned_models: tuple[str, ...] | None = None
    whole: Document | None = None

    @property
    def name(self) -> str:
        """The flow's own name, else the file's stem."""
        return self.flow.name or self.path.rsplit("/", 1)[-1].rsplit(".", 1)[0]

    def early_names(self, inputs: Mapping[str, Json]) -> dict[str, Json]:
        """Return the names that templates can use before any step has run."""
        about: Json = {"name": self.name, "description": self.flow.description}
        return {"inputs": dict(inputs), "flow": about}


class PartFiles:
    """Reads the parts of a flow, or of the settings of a project, from their files, each once."""

    def __init__(self, project: Project, path: str) -> None:
        self._project = project
        self._path = path
        self._read: dict[str, Document] = {}

    def filled(self, document: Document) -> Document:
        """Return a flow with each of these parts in its place, and the problems of their files."""
        parts: dict[KeyPath, Node] = {}
        problems: list[Problem] = []
        left = MAX_NODES
        for path, named in named_parts(document):
            found = self._part(str(named.data), named.place(document.path))
            fault = _fault(str(path[-1]), found)
            problems += found.problems if fault is None else [fault]
            if found.root is None or fault is not None:
                continue
            left -= found.root.size
            if left < 0:
                message = "the parts of this flow that stand in files are too large together"
                problems.append(Problem(named.place(document.path), message, "shorten them"))
                break
            parts[path] = found.root
        problems = [*document.problems, *dict.fromkeys(problems)]
        root = document.root
        if root is not None and parts:
            root = _with_parts(root, parts)
        return msgspec.structs.replace(document, root=root, problems=tuple(problems))

    def _part(self, written: str, place: Place) -> Document:
        """Return the document in a file; its nodes say that they are from there."""
        if "{{" in written or "{%" in written:
            problem = Problem(place, "this file is read before any input is known", _NO_TEMPLATE)
            return Document(path=written, text="", root=None, problems=(problem,))
        try:
            canonical = self._project.canonical(written, relative_to=self._path)
            known = self._read.get(canonical)
            if known is None:
                known = self._read[canonical] = self._parsed(canonical)
        except FileProblem as error:
            problem = Problem(place, error.message, error.hint)
            return Document(path=written, text="", root=None, problems=(problem,))
        if known.root is None and not known.problems:
            problem = Problem(place, f"{canonical} is empty", "write the value into it")
            return msgspec.structs.replace(known, problems=(problem,))
        return known

    def _parsed(self, canonical: str) -> Document:
        """Read and parse a file. Raises `FileProblem`."""
        shown = self._project.shown(canonical, Path.cwd())
        text = decode(self._project.read_bytes(canonical, limit=MAX_BYTES), shown)
        if isinstance(text, Problem):
            return Document(path=shown, text="", root=None, problems=(text,))
        document = parse(text, shown)
        root = None if document.root is None else _from_file(document.root, shown)
        return msgspec.structs.replace(document, root=root)


_NO_TEMPLATE: Final = "name the file without a template"
_KINDS: Final[Mapping[str, tuple[type, str, str]]] = {
    "tools": (list, "a list", "for example - name: get_weather"),
    "response_format": (dict, "a mapping", "for example {type: json_object}"),
}
"""What each part must be, with an example."""


def _fault(key: str, part: Document) -> Problem | None:
    """Return a problem if a part that could be read is not what it must be."""
    kind, named, hint = _KINDS[key]
    if part.root is None or isinstance(part.root.data, kind):
        return None
    return Problem(part.place(()), f"{key} must be {named}", hint)


def named_parts(document: Document) -> Iterator[tuple[KeyPath, Node]]:
    """Yield the place of each part that is `{file: PATH}`, with the node of the path."""
    for key in ("models", "steps"):
        owners = document.node((key,))
        for name in owners.values if owners is not None else ():
            yield from _named_part(document, (key, name, "params", "response_format"))
            yield from _named_part(document, (key, name, "tools"))
    yield from _named_part(document, ("defaults", "params", "response_format"))


def _named_part(document: Document, path: KeyPath) -> Iterator[tuple[KeyPath, Node]]:
    node = document.node(path)
    if node is not None and node.values.keys() == {"file"}:
        named = node.values["file"]
        if isinstance(named.data, str) and named.data.strip():
            yield path, named


def _from_file(node: Node, file: str) -> Node:
    """Return a node of another file than the flow's."""
    return msgspec.structs.replace(
        node,
        file=file,
        keys={name: _from_file(key, file) for name, key in node.keys.items()},
        values={name: _from_file(value, file) for name, value in node.values.items()},
        items=tuple(_from_file(item, file) for item in node.items),
    )


def _with_parts(node: Node, parts: Mapping[KeyPath, Node]) -> Node:
    """Return a mapping with other values at the paths of `parts`."""
    own = parts.get(())
    if own is not None:
        return own
    below: dict[str | int, dict[KeyPath, Node]] = {}
    for path, part in parts.items():
        below.setdefault(path[0], {})[path[1:]] = part
    values = dict(node.values)
    for key, inner in below.items():
        values[str(key)] = _with_parts(values[str(key)], inner)
    data: Json = {name: value.data for name, value in values.items()}
    return msgspec.structs.replace(node, values=values, data=data)
