"""A flow with faults in its shape becomes one without, so that the rest can be checked as well.

Misspelt keys are put right and what is wrong is left out. The result is only looked at, never run.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.flowfile.schema import Fault, faults
from poeflow.flowfile.tree import Document, KeyPath, Node

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
