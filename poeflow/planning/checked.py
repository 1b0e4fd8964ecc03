"""The result of checking a flow, and what it says of its steps: which it shows, what they read."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.errors import UsageError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.loops import samples_of
from poeflow.flowfile.model import Step
from poeflow.flowfile.patterns import one_of
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Place, Problem
from poeflow.project.output_paths import claim_of
from poeflow.records import key_of, outer_step, path_of, step_of, whole_instance, wholes_of
from poeflow.templates.scopes import VERDICT_ATTRIBUTES

Edges = dict[str, tuple[str, ...]]
Ancestors = tuple[str, ...]
"""The canonical paths of the flows that lead to a used flow, outermost first."""
_STEP: Final = lazy_pattern(r"\bsteps\W+(\w+)(?!\W+status\b)\b")
"""A step in an output, for more than its status: the lock has the status."""
_ANY_STEP: Final = lazy_pattern(r"\bsteps\b(?:\W+(\w+))?")
_IN_TEXT: Final = frozenset({"text", "status", "key", "all", *VERDICT_ATTRIBUTES})
"""What a result has of which only the text is known: it is judged by that."""
OF_MEDIA: Final = frozenset({"media", "status"})
_OWN_RESULTS: Final = frozenset({"previous", "carry"})
"""Names by which a step reads results of its own."""
_ATTRIBUTE: Final = lazy_pattern(
    r"\b(?:data|value|media|model|tool_calls|usage|reasoning|used_default)\b"
)
"""What results have besides their text."""


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


def flow_claims(checked: Checked) -> frozenset[str]:
    """Return the claims (see `claim_of`) of a flow's own path and of all flows it uses."""
    below = frozenset().union(*map(flow_claims, checked.children.values()))
    return below | {claim_of(checked.file.path)}


def steps_named(checked: Checked, written: Json | dict[str, Json]) -> list[str]:
    """Return the steps that outputs name."""
    named = set(_STEP.findall(encode_json(written).decode()))
    return [step for step in checked.order if step in named]


def last_steps(checked: Checked) -> list[str]:
    """Return the steps that no step needs."""
    needed = needed_steps(checked)
    return [step for step in checked.order if step not in needed]


def steps_shown(checked: Checked) -> list[str]:
    """Return the steps whose answers a flow gives: those that its outputs name, else the last."""
    declared = checked.file.flow.outputs
    return steps_named(checked, declared) if declared else last_steps(checked)


def needed_steps(checked: Checked) -> frozenset[str]:
    """Return the steps that a step needs."""
    return frozenset(need for needs in checked.edges.values() for need in needs)


def steps_mentioned(checked: Checked, written: Mapping[str, Json]) -> list[str]:
    """Return the steps that outputs name, if only for their status; all if that is not known."""
    names = set(_ANY_STEP.findall(encode_json(written).decode()))
    is_known = names <= checked.edges.keys()
    return [step for step in checked.order if step in names or not is_known]


def steps_of_outputs(checked: Checked) -> frozenset[str]:
    """Return the steps whose results the flow's outputs may read; all if that is not known."""
    outputs = checked.file.flow.outputs
    if not outputs:
        return frozenset()
    mentioned, named = steps_mentioned(checked, outputs), steps_named(checked, outputs)
    return frozenset(named if len(mentioned) < len(checked.order) else mentioned)


class ReadAttributes:
    """What the texts of a flow read of the results of its steps."""

    def __init__(self, checked: Checked) -> None:
        self._checked = checked
        self._document = checked.file.document
        self._found: dict[str, frozenset[str]] = {}

    def of(self, step: str) -> frozenset[str]:
        """Return the attributes of a step's results that are read.

        Of a text that reads a whole result, all attributes that it names may be among them; so they
        are of the flow's outputs.
        """
        if step not in self._found:
            readers = self._readers(step)
            found = {one for _, named in readers for one in named}
            found |= {word for path, _ in readers if path for word in self._words(path)}
            self._found[step] = frozenset(found)
        return self._found[step]

    def is_text_alone(self, step: str) -> bool:
        """Whether the text of a step's results decides all that is read of them."""
        return self.of(step) <= _IN_TEXT

    def is_media_alone(self, step: str) -> bool:
        """Whether all that is read of a step's results are the paths of its media."""
        named = [one for path, one in self._readers(step) if not path]
        is_whole = len(named) < len(self._readers(step))
        return bool(named) and not is_whole and frozenset().union(*named) <= OF_MEDIA

    def _readers(self, step: str) -> list[tuple[KeyPath, frozenset[str]]]:
        """Return the attributes that each reader names, with its place if it reads all."""
        found: list[tuple[KeyPath, frozenset[str]]] = []
        for reader, uses in self._checked.uses.items():
            named = {attribute for name, attribute in uses.steps if name == step}
            if step in uses.pictured:
                named = (named - {"all"}) | {"media"}
            is_fed = self._checked.chains.get(reader) == step and "source" in uses.names
            is_own = reader == step and not uses.names.isdisjoint(_OWN_RESULTS)
            is_whole = is_fed or is_own or not named.isdisjoint({None, "all"})
            if named or is_whole:
                place: KeyPath = ("steps", reader) if is_whole else ()
                found.append((place, frozenset(one for one in named if one is not None)))
        if step in steps_of_outputs(self._checked):
            found.append((("outputs",), frozenset()))
        return found

    def _words(self, path: KeyPath) -> Iterator[str]:
        node = self._document.node(path)
        text = encode_json(None if node is None else node.data).decode()
        return (match[0] for match in _ATTRIBUTE.finditer(text))


def check_steps(checked: Checked, selected: Collection[str]) -> None:
    """Raise `UsageError` if a selected one is in no step of the flow or of those it uses."""
    for one in selected:
        flow: Checked | None = checked
        spec: Step | None = None
        for step in path_of(one):
            if flow is None and "[" in one:
                break  # a key that looks like a part of an id
            if flow is None:
                raise UsageError(
                    f"there is no {one}", hint="only a step that uses a flow has steps"
                )
            if step not in flow.order:
                message = f'there is no step "{step}" in {flow.file.name}'
                raise UsageError(message, hint=one_of(step, flow.order))
            spec = flow.file.flow.steps[step]
            flow = flow.children.get(step)
        _check_number(one, spec)


def _check_number(selected: str, step: Step | None) -> None:
    """Raise `UsageError` if a selected sample or turn of a step is none that it can have."""
    whole = whole_instance(selected)
    if step is None or whole == selected:
        return
    most = step.repeat.max if step.repeat is not None else samples_of(step).count
    number = int(selected[len(whole) + 1 :])
    if not 0 < number <= most or most == 1:
        hint = f"it has 1 to {most}" if most > 1 else f"name it without a number: {whole}"
        raise UsageError(f"{whole} has no number {number}", hint=hint)


def with_needs(checked: Checked, selected: Collection[str]) -> frozenset[str]:
    """Return the selected ones with all they need; a chained instance needs one of its source."""
    found = set(selected)
    waiting = list(selected)
    while waiting:
        one = waiting.pop()
        step = outer_step(one)
        for need in checked.edges[step]:
            is_source = checked.chains.get(step) == need
            key = _outer_key(one) if is_source else None
            name = need if key is None else f"{need}[{key}]"
            if name not in found:
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def _outer_key(instance: str) -> str | None:
    """Return the key of an instance, or of the instance of the outer flow it is part of."""
    step = outer_step(instance)
    return next((key_of(one) for one in wholes_of(instance) if step_of(one) == step), None)
