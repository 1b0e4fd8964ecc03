"""A document becomes a `Flow`: by one fast typed decode, and by the schema if that fails.

One with faults is repaired as far as possible, so that the rest is checked as well; the result is
only looked at, never run.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.flowfile.model import Flow
from poeflow.flowfile.schema import Fault, faults, validate
from poeflow.flowfile.yaml_tree import Document, KeyPath, Node
from poeflow.problems import Problem

SCHEMA: Final = "flow.schema.json"
_MODEL_KEYS: Final = frozenset(
    {
        *("model", "provider", "fallback", "system", "history", "attachments", "params"),
        *("extra_body", "tools", "tool_choice", "tools_mode", "parallel_tool_calls", "stream"),
        *("samples", "expect"),
    }
)
_KINDS: Final = ("prompt", "messages", "render", "use")
_NOT_BESIDE: Final = {
    "render": _MODEL_KEYS | {"prompt", "messages", "use"},
    "use": _MODEL_KEYS | {"prompt", "messages", "output"},
    "messages": frozenset({"prompt"}),
}
_RESERVED: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "n", "tools", "tool_choice"}
)
_CHECKS: Final = frozenset({"level"})


def build(document: Document) -> Flow | tuple[Problem, ...]:
    """Return the flow, or every problem its shape has. The schema is the contract for both."""
    flow = decode(document)
    if flow is not None:
        return flow
    problems = validate(document, SCHEMA)
    if problems:
        return problems
    return msgspec.convert(_without_extensions(document), Flow)


def decode(document: Document) -> Flow | None:
    """Return the flow where its shape is valid beyond doubt, without jsonschema; else None."""
    root = document.root
    if root is None or not isinstance(root.data, dict) or _has_null(root):
        return None
    if not all(_is_sound(path, node) for path, node in _shapes(root)):
        return None
    try:
        return msgspec.convert(_without_extensions(document), Flow)
    except msgspec.ValidationError:
        return None


def _without_extensions(document: Document) -> dict[str, Json]:
    data = document.root.data if document.root is not None else None
    if not isinstance(data, dict):
        raise AssertionError("the schema takes only mappings")
    return {key: value for key, value in data.items() if not key.startswith("x-")}


def _has_null(node: Node) -> bool:
    if node.data is None:
        return True
    return any(map(_has_null, node.values.values())) or any(map(_has_null, node.items))


def _shapes(root: Node) -> list[tuple[str, Node]]:
    """Return the nodes whose keys depend on each other, with what they are."""
    steps = root.values.get("steps")
    shapes: list[tuple[str, Node]] = []
    for step in steps.values.values() if steps is not None else ():
        shapes.append(("step", step))
        shapes += [("attachment", n) for n in _list(step, "attachments") if _is_mapping(n)]
        shapes += [("expectation", node) for node in _list(step, "expect")]
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


def _is_sound(shape: str, node: Node) -> bool:
    keys = node.keys.keys()
    match shape:
        case "step":
            rivals = all(not (keys & barred) for key, barred in _NOT_BESIDE.items() if key in keys)
            is_one_loop = not keys >= {"for_each", "matrix"}
            has_kind = bool(keys & set(_KINDS)) and ("with" not in keys or "use" in keys)
            return rivals and is_one_loop and has_kind
        case "message":
            role = node.values.get("role")
            return _is_sound_message(keys, role.data if role is not None else None)
        case "attachment":
            return len(keys & {"path", "url", "from"}) == 1
        case "expectation":
            return len(keys - _CHECKS) == 1
        case "extra_body":
            return not keys & _RESERVED
        case "part":
            return len(keys & {"text", "attach"}) == 1
        case "loop":
            return len(keys & {"in", "file"}) == 1
        case other:
            raise AssertionError(other)


def _is_sound_message(keys: AbstractSet[str], role: Json) -> bool:
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
_MAX_FAULTS: Final = 100
_STAND_INS: Final[dict[str, Json]] = {
    "steps": {"prompt": "-", "model": "Any-Bot", "output": {"format": "json"}},
    "models": {"model": "Any-Bot"},
    "inputs": {"type": "string"},
}
"""What takes the place of a whole entry that cannot be kept: its name stays known."""


def mended(document: Document, schema: str) -> Document | None:
    """Return `document` as `schema` takes it, every node at its own place.

    None where that would take too long, or too little would be left.
    """
    if document.root is None or document.root.size > _MAX_NODES:
        return None
    for _ in range(_ROUNDS):
        found = faults(document, schema)
        if not found:
            return document
        if len(found) > _MAX_FAULTS:
            return None
        root = _mended_root(document, found)
        if root is None:
            return None
        document = msgspec.structs.replace(document, root=root)
    return None


def _mended_root(document: Document, found: Iterable[Fault]) -> Node | None:
    """Mend from the end, so that what is left out moves nothing that is still to come."""
    root = document.root
    for fault in sorted(set(found), key=lambda fault: fault.path, reverse=True):
        if root is None or not fault.path:
            return None
        if _node(root, fault.path) is not None:
            root = _changed(root, fault.path, fault)
    return root


def _node(root: Node, path: KeyPath) -> Node | None:
    node: Node | None = root
    for step in path:
        node = node.child(step) if node is not None else None
    return node


def _changed(node: Node, path: KeyPath, fault: Fault) -> Node:
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return _changed_list(node, step, rest, fault)
    keys, values = dict(node.keys), dict(node.values)
    if rest:
        values[step] = _changed(values[step], rest, fault)
    else:
        key, value = keys.pop(step), values.pop(step)
        stand_in = _STAND_INS.get(str(fault.path[0])) if len(fault.path) == 2 else None
        if fault.rename and fault.rename not in keys:
            keys[fault.rename], values[fault.rename] = key, value
        elif stand_in is not None and not fault.is_name:
            keys[step], values[step] = key, _plain(stand_in, value)
    data: Json = {name: value.data for name, value in values.items()}
    return msgspec.structs.replace(node, keys=keys, values=values, data=data)


def _changed_list(node: Node, step: int, rest: KeyPath, fault: Fault) -> Node:
    items = list(node.items)
    if rest:
        items[step] = _changed(items[step], rest, fault)
    else:
        del items[step]
    data: Json = [item.data for item in items]
    return msgspec.structs.replace(node, items=tuple(items), data=data)


def _plain(data: Json, at: Node) -> Node:
    """Return a node that holds `data` where `at` stood."""
    values: dict[str, Node] = {}
    if isinstance(data, dict):
        values = {key: _plain(value, at) for key, value in data.items()}
    return msgspec.structs.replace(at, data=data, keys=values, values=values, items=())
