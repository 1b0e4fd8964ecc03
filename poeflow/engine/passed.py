"""What the recipes of used flows are made of: the texts of these, and what is passed to them.

What comes from a step counts as what decides it, not by its value: so the lock proves the steps of
a used flow where the answer that is passed to it is not stored.
"""

from collections.abc import Mapping
from typing import Final

from poeflow.digest import Json, encode_json, sha256_of_json
from poeflow.flowfile.inputs import default_order
from poeflow.lazy_pattern import lazy_pattern
from poeflow.planning.checked import Checked, last_steps
from poeflow.store.lock.entries import LockEntry

OUTPUTS: Final = "outputs"
"""The part for the outputs that a used flow declares."""
RESULTS: Final = "results within"
"""The part for the results of a used flow's steps that its outputs show."""
LOOP: Final = "for_each"
"""The part for the expressions that give the items of a loop over what a step gives."""
_INPUTS: Final = lazy_pattern(r"\binputs\b")
_READS: Final = lazy_pattern(r"\b(?:file|read|glob|include|import|from|extends)\b")
"""In the outputs of a used flow: they may show what is in files."""


def written_in(checked: Checked) -> Json:
    """Return all that a flow and those it uses say, as one value.

    It decides the turns of a flow that is repeated, also where their inputs are not known.
    """
    node = checked.file.document.node(())
    below = {name: written_in(child) for name, child in checked.children.items()}
    return [node.data if node is not None else None, below]


def outputs_in(checked: Checked) -> Json:
    """Return what a flow says of its outputs, else the steps whose texts they are."""
    node = checked.file.document.node((OUTPUTS,))
    return node.data if node is not None else [*last_steps(checked)]


def passed_inputs(
    checked: Checked, step: str, parts: Mapping[str, str], reads: Mapping[str, str]
) -> dict[str, str]:
    """Return the hashes of the inputs of a used flow that come from other steps, by name.

    They are made of what `step` says of the input and of all that it sees: `parts` are those of its
    recipe, `reads` those for the files that its templates read.
    """
    child = checked.children[step]
    if not child.derived:
        return {}
    node = checked.file.document.node(("steps", step))
    own = node.data if node is not None and isinstance(node.data, dict) else {}
    given = own.get("with")
    written = given if isinstance(given, dict) else {}
    not_seen = {*own, OUTPUTS, RESULTS} - {LOOP}
    seen = {part: one for part, one in parts.items() if part not in not_seen}
    found: dict[str, str] = {}
    inputs = child.file.flow.inputs
    for name in default_order(child.file.flow):
        if name not in child.derived:
            continue
        if name in written:
            found[name] = sha256_of_json([inputs[name].type, written[name], seen, dict(reads)])
        elif (other := inputs[name].default_from) in found:
            found[name] = sha256_of_json([inputs[name].type, found[str(other)]])
    return found


def results_within(
    checked: Checked, digests: Mapping[str, str | None], given: Mapping[str, str]
) -> str | None:
    """Return the hash of what the outputs of a used flow show; None if it is not known.

    `digests` are those of the steps they name, `given` the hashes of the flow's inputs.
    """
    shown = encode_json(checked.file.flow.outputs).decode()
    if _READS.search(shown) or None in digests.values():
        return None
    return sha256_of_json([dict(digests), dict(given) if _INPUTS.search(shown) else {}])


def shows_more(checked: Checked) -> bool:
    """Whether the outputs of a used flow show more than the results of its steps."""
    shown = encode_json(checked.file.flow.outputs).decode()
    return bool(_INPUTS.search(shown) or _READS.search(shown))


def is_tied(entry: LockEntry) -> bool:
    """Whether an entry of a step that uses a flow says of which results its outputs are made."""
    return entry.status == "skipped" or RESULTS in entry.parts
