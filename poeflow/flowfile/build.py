"""Builds a `Flow` from a document: by a fast typed decode, or by the schema if that fails.

Before that, parts that stand in files of their own are put in their places. Invalid parts can be
dropped, so that the rest is checked as well; such a flow is never run.
"""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Final

import msgspec

from poeflow.bots import RESERVED_KEYS
from poeflow.digest import Json
from poeflow.flowfile.model import Flow
from poeflow.flowfile.schema import (
    FLOW_SCHEMA,
    InvalidPart,
    companions,
    invalid_parts,
    kinds_of_step,
    rivals,
    validate,
)
from poeflow.flowfile.yaml_tree import (
    MAX_BYTES,
    MAX_NODES,
    Document,
    KeyPath,
    Node,
    decode,
    merged_mapping,
    parse,
)
from poeflow.problems import Place, Problem
from poeflow.project.project import FileProblem, Project

SCHEMA: Final = FLOW_SCHEMA
_BESIDE_A_CHECK: Final = frozenset({"level", "weight"})
_RIVALS_IN_LOOPS: Final = (frozenset({"key", "group_by"}), frozenset({"limit", "sample"}))


def build(document: Document) -> Flow | tuple[Problem, ...]:
    """Return the flow, or every problem with the schema, which both ways of decoding follow."""
    flow = decode_valid(document)
    if flow is not None:
        return flow
    problems = validate(document, SCHEMA)
    if problems:
        return problems
    return msgspec.convert(_without_extensions(document), Flow)


def decode_valid(document: Document) -> Flow | None:
    """Return the flow without using jsonschema, None unless it is certainly valid."""
    root = document.root
    if root is None or not isinstance(root.data, dict):
        return None
    if _has_null(root) and _nulls(root) > _nulls_that_leave_out(root):
        return None
    if not all(_is_valid(path, node) for path, node in _shapes(root)):
        return None
    try:
        return msgspec.convert(_without_extensions(document), Flow)
    except msgspec.ValidationError:
        return None


def _without_extensions(document: Document) -> dict[str, Json]:
    data = document.root.data if document.root is not None else None
    if not isinstance(data, dict):
        raise AssertionError("the schema accepts only mappings")
    return {key: value for key, value in data.items() if not key.startswith("x-")}


def _has_null(node: Node) -> bool:
    if node.data is None:
        return True
    return any(map(_has_null, node.values.values())) or any(map(_has_null, node.items))


def _nulls(node: Node) -> int:
    """Return how many nulls there are in a value."""
    return (node.data is None) + sum(map(_nulls, (*node.values.values(), *node.items)))


def _nulls_that_leave_out(root: Node) -> int:
    """Return how many nulls stand for what is not to be taken from an alias or `defaults`."""
    owners = [node for key, node in root.values.items() if key == "defaults"]
    for key in ("models", "steps"):
        owners += root.values[key].values.values() if key in root.values else ()
    found = 0
    for owner in owners:
        for key in ("params", "extra_body"):
            found += _nulls(owner.values[key]) if key in owner.values else 0
        system = owner.values.get("system")
        found += system is not None and system.data is None
    return found


def _shapes(root: Node) -> list[tuple[str, Node]]:
    """Return the nodes whose keys depend on each other, each with its kind."""
    steps = root.values.get("steps")
    shapes: list[tuple[str, Node]] = []
    for step in steps.values.values() if steps is not None else ():
        shapes.append(("step", step))
        shapes += [("attachment", n) for n in _list(step, "attachments") if _is_mapping(n)]
        for node in _list(step, "expect"):
            shapes.append(("expectation", node))
            shapes += [("judge", one) for key, one in node.values.items() if key == "judge"]
        shapes += [("extra_body", node) for key, node in step.values.items() if key == "extra_body"]
        loop = step.values.get("for_each")
        if loop is not None and _is_mapping(loop):
            shapes.append(("loop", loop))
        for message in _list(step, "messages"):
            shapes.append(("message", message))
            for part in _list(message, "content"):
                shapes.append(("part", part))
                attach = part.values.get("attach")
                if attach is not None and _is_mapping(attach):
                    shapes.append(("attachment", attach))
    models = root.values.get("models")
    owners = list(models.values.values()) if models is not None else []
    owners += [node for key, node in root.values.items() if key == "defaults"]
    shapes += [("extra_body", o.values["extra_body"]) for o in owners if "extra_body" in o.values]
    return shapes


def _is_mapping(node: Node) -> bool:
    return isinstance(node.data, dict)


def _list(node: Node, key: str) -> tuple[Node, ...]:
    child = node.values.get(key)
    return child.items if child is not None else ()


def _is_valid(shape: str, node: Node) -> bool:
    keys = node.keys.keys()
    match shape:
        case "step":
            has_no_rival = not any(keys & barred for key, barred in rivals().items() if key in keys)
            is_paired = all(one in keys for key, one in companions().items() if key in keys)
            return has_no_rival and is_paired and bool(keys & kinds_of_step())
        case "message":
            role = node.values.get("role")
            return _is_valid_message(keys, role.data if role is not None else None)
        case "attachment":
            return len(keys & {"path", "url", "from"}) == 1
        case "expectation":
            return len(keys - _BESIDE_A_CHECK) == 1
        case "judge":
            barred = {"rubrics"} if "rubric" in keys else {"examples"}
            return bool(keys & {"rubric", "rubrics"}) and not keys & barred
        case "extra_body":
            return not keys & RESERVED_KEYS
        case "part":
            return len(keys & {"text", "attach"}) == 1
        case "loop":
            has_no_rival = not any(pair <= keys for pair in _RIVALS_IN_LOOPS)
            has_sample = "seed" not in keys or "sample" in keys
            return len(keys & {"in", "file", "glob"}) == 1 and has_no_rival and has_sample
        case other:
            raise AssertionError(other)


def _is_valid_message(keys: AbstractSet[str], role: Json) -> bool:
    if "few_shot" in keys:
        return len(keys) == 1
    match role:
        case None:
            return False
        case "tool":
            return keys >= {"content", "tool_call_id"} and "tool_calls" not in keys
        case "assistant":
            return bool(keys & {"content", "tool_calls"}) and "tool_call_id" not in keys
        case _:
            return "content" in keys and not keys & {"tool_calls", "tool_call_id"}


_ROUNDS: Final = 6
_MAX_NODES: Final = 20_000
_MAX_INVALID: Final = 100
_PLACEHOLDERS: Final[dict[str, Json]] = {
    "steps": {"prompt": "-", "model": "Any-Bot", "output": {"format": "json"}},
    "models": {"model": "Any-Bot"},
    "inputs": {"type": "string"},
}
"""What replaces a whole entry that is invalid, so that its name stays known."""


def drop_invalid_parts(document: Document, schema: str) -> Document | None:
    """Return `document` without the parts that `schema` does not allow; places stay the same.

    None if that would take too long or leave too little.
    """
    if document.root is None or document.root.size > _MAX_NODES:
        return None
    for _ in range(_ROUNDS):
        found = invalid_parts(document, schema)
        if not found:
            return document
        if len(found) > _MAX_INVALID:
            return None
        root = _without_invalid_parts(document, found)
        if root is None:
            return None
        document = msgspec.structs.replace(document, root=root)
    return None


def _without_invalid_parts(document: Document, found: Iterable[InvalidPart]) -> Node | None:
    """Drop parts from the end, so that the paths of earlier parts stay valid."""
    root = document.root
    for part in sorted(set(found), key=lambda part: part.path, reverse=True):
        if root is None or not part.path:
            return None
        if _node(root, part.path) is not None:
            root = _replace(root, part.path, part)
    return root


def _node(root: Node, path: KeyPath) -> Node | None:
    node: Node | None = root
    for step in path:
        node = node.child(step) if node is not None else None
    return node


def _replace(node: Node, path: KeyPath, part: InvalidPart) -> Node:
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return _replace_item(node, step, rest, part)
    keys, values = dict(node.keys), dict(node.values)
    if rest:
        values[step] = _replace(values[step], rest, part)
    else:
        key, value = keys.pop(step), values.pop(step)
        placeholder = _PLACEHOLDERS.get(str(part.path[0])) if len(part.path) == 2 else None
        if part.rename and part.rename not in keys:
            keys[part.rename], values[part.rename] = key, value
        elif part.under:
            whole = values.get(part.under) or _node_with({}, value)
            values[part.under] = merged_mapping(whole, {str(step): value, **whole.values}, node)
            keys.setdefault(part.under, key)
        elif placeholder is not None and not part.is_name:
            keys[step], values[step] = key, _node_with(placeholder, value)
    data: Json = {name: value.data for name, value in values.items()}
    return msgspec.structs.replace(node, keys=keys, values=values, data=data)


def _replace_item(node: Node, step: int, rest: KeyPath, part: InvalidPart) -> Node:
    items = list(node.items)
    if rest:
        items[step] = _replace(items[step], rest, part)
    else:
        del items[step]
    data: Json = [item.data for item in items]
    return msgspec.structs.replace(node, items=tuple(items), data=data)


def _node_with(data: Json, at: Node) -> Node:
    """Return a node with `data` at the place of `at`."""
    values: dict[str, Node] = {}
    if isinstance(data, dict):
        values = {key: _node_with(value, at) for key, value in data.items()}
    return msgspec.structs.replace(at, data=data, keys=values, values=values, items=())


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
