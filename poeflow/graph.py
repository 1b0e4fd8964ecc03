"""Ordering and cycle-finding over step ids, on top of the standard library's `graphlib`."""

import graphlib
from collections.abc import Iterable, Mapping


class CycleError(ValueError):
    """The edges go round. `path` begins and ends with the same node, each needing the next."""

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(" -> ".join(path))
        self.path = path


def ordered(edges: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the nodes, each after all it needs. `edges` maps a node to what it needs.

    Needs outside the mapping are ignored. Raises `CycleError`.
    """
    known = {node: [need for need in needs if need in edges] for node, needs in edges.items()}
    try:
        return tuple(graphlib.TopologicalSorter(known).static_order())
    except graphlib.CycleError as error:
        raise CycleError(tuple(reversed(error.args[1]))) from None


def dependants(edges: Mapping[str, Iterable[str]], node: str) -> frozenset[str]:
    """Return all nodes that need `node`, directly or through others."""
    found: set[str] = set()
    frontier = {node}
    while frontier:
        frontier = {n for n, needs in edges.items() if n not in found and frontier & set(needs)}
        found |= frontier
    return frozenset(found)
