"""Orders step ids and finds cycles, with the standard library's `graphlib`."""

import graphlib
from collections.abc import Iterable, Mapping


class CycleError(ValueError):
    """The edges have a cycle.

    `path` begins and ends with the same node, the first of them in the mapping; each needs the
    next.
    """

    def __init__(self, path: tuple[str, ...]) -> None:
        super().__init__(" -> ".join(path))
        self.path = path


def ordered(edges: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """Return the nodes, each after all it needs. `edges` maps a node to those it needs.

    Needs outside the mapping are ignored. Raises `CycleError`.
    """
    known = {node: [need for need in needs if need in edges] for node, needs in edges.items()}
    try:
        return tuple(graphlib.TopologicalSorter(known).static_order())
    except graphlib.CycleError as error:
        ring = tuple(reversed(error.args[1][1:]))
    positions = {node: position for position, node in enumerate(ring)}
    first = next(positions[node] for node in edges if node in positions)
    raise CycleError((*ring[first:], *ring[: first + 1]))
