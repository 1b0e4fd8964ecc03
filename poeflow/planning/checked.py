"""The result of checking a flow, which the planner works with."""

from collections.abc import Mapping

import msgspec

from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.problems import Place, Problem

Edges = dict[str, tuple[str, ...]]
Ancestors = tuple[str, ...]
"""The canonical paths of the flows that lead to a used flow, outermost first."""


class Uses(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs, attributes of steps, and names such as `item` that the texts of a step use.

    The attribute is None if a text uses the whole step. `pictured` are the steps of whose `.all`
    only the media are used.
    """

    inputs: frozenset[str] = frozenset()
    steps: frozenset[tuple[str, str | None]] = frozenset()
    pictured: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()


class Claim(msgspec.Struct, frozen=True):
    """A path that a step writes, as far as it is known; `is_literal` if it holds no template."""

    step: str
    place: Place
    save: str
    target: str
    is_literal: bool


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A checked flow.

    `edges` maps each step to the steps it needs, in order of the file; `order` is empty if the
    edges have a cycle. `varying` are the places of texts that differ from instance to instance,
    `late` those of texts that depend on a step. `tested` are the steps whose status a step's `if`
    reads. `chains` maps a step that runs over the instances of another to that one, if each of
    its instances needs only the instance it runs over. `uses` maps each step to what its texts
    use, `children` maps steps to the flows they use. `judged` are the steps whose verdicts a text
    reads. `named` are the places of texts whose file a template names, `forms` those of
    expressions that decide the form of an answer, `itemized` the steps whose items one reads in
    their results. `secrets` are the secret inputs that a text uses, by its place. `derived` are the
    inputs that a step of the flow that uses it decides. `claims` are the paths of its outputs that
    may be written.
    """

    file: FlowFile
    edges: Edges
    order: tuple[str, ...]
    problems: tuple[Problem, ...] = ()
    varying: frozenset[KeyPath] = frozenset()
    late: frozenset[KeyPath] = frozenset()
    tested: Mapping[str, frozenset[str]] = {}
    chains: Mapping[str, str] = {}
    uses: Mapping[str, Uses] = {}
    children: Mapping[str, "Checked"] = {}
    judged: frozenset[str] = frozenset()
    named: frozenset[KeyPath] = frozenset()
    forms: frozenset[KeyPath] = frozenset()
    itemized: frozenset[str] = frozenset()
    secrets: Mapping[KeyPath, frozenset[str]] = {}
    derived: frozenset[str] = frozenset()
    claims: tuple[Claim, ...] = ()

    def read_by(self, step: str) -> tuple[str, ...]:
        """Return the steps of whose results a step reads more than the status, in order.

        One that it only waits for is none of them, nor one whose instances it runs over.
        """
        uses, history = self.uses.get(step, Uses()), self.file.flow.steps[step].history
        read = {name for name, attribute in uses.steps if attribute != "status"} | {history}
        return tuple(n for n in self.edges[step] if n in read and n != self.chains.get(step))
