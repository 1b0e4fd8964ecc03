"""What checking a flow found: the data that `check` hands on to whoever plans a run."""

from collections.abc import Mapping

import msgspec

from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.problems import Problem

Edges = dict[str, tuple[str, ...]]
Way = tuple[str, ...]
"""The canonical paths of the flows on the way to one that others use, outermost first."""


class Uses(msgspec.Struct, frozen=True, kw_only=True):
    """What the texts of one step use: inputs, attributes of steps, names such as `item`.

    An attribute is None where all of a step is used.
    """

    inputs: frozenset[str] = frozenset()
    steps: frozenset[tuple[str, str | None]] = frozenset()
    names: frozenset[str] = frozenset()


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A flow, looked at.

    `edges` maps each step to the steps it needs, in order of the file; `order` is empty where the
    edges go round. `varying` are the places of texts that differ from instance to instance, `late`
    those of texts that wait for a step. `tested` are the steps whose status a step's `if` looks
    at. `chains` maps a step that runs over the instances of another to that one, where it needs
    no more of it than the instance at hand. `uses` has what each step's texts use, `children` are
    the flows that steps use.
    """

    file: FlowFile
    edges: Edges
    order: tuple[str, ...]
    problems: tuple[Problem, ...]
    varying: frozenset[KeyPath] = frozenset()
    late: frozenset[KeyPath] = frozenset()
    tested: Mapping[str, frozenset[str]] = {}
    chains: Mapping[str, str] = {}
    uses: Mapping[str, Uses] = {}
    children: Mapping[str, "Checked"] = {}
