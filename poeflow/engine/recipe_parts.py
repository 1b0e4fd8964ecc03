"""What a recipe is: parts by name, and what those for the flows that a step uses are made of.

What comes from a step counts as what decides it, not by its value: so the lock proves the steps of
a used flow where the answer that is passed to it is not stored.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from poeflow.digest import Json, canonical, encode_json, sha256_of_json, short_hash_of
from poeflow.flowfile.inputs import default_order
from poeflow.lazy_pattern import lazy_pattern
from poeflow.planning.checked import Checked, last_steps
from poeflow.store.lock.entries import PART, LockEntry

OUTPUTS: Final = "outputs"
"""The part for the outputs that a used flow declares."""
RESULTS: Final = "results within"
"""The part for the results of a used flow's steps that its outputs show."""
LOOP: Final = "for_each"
"""The part for the expressions that give the items of a loop over what a step gives."""
SHOWN: Final = f"{OUTPUTS} "
"""Begins the names of parts: files that the outputs of a used flow read."""
_INPUTS: Final = lazy_pattern(r"\binputs\b")
_READS: Final = lazy_pattern(r"\b(?:file|read|glob|include|import|from|extends)\b")
"""In the outputs of a used flow: they may show what is in files."""
RECIPE_VERSION: Final = 1
SERVER: Final = "server"
JUDGE_MODEL: Final = "judge model "
"""Begins the names of parts: what a judge is asked with, by its model as it is written."""
JUDGE_PROVIDER: Final = "judge model's provider"
"""The part for the providers of the models that judge a step."""
ITEMS: Final = " items"
"""Ends the names of parts: what the items of another step are."""
_NEWER: Final = frozenset({LOOP, JUDGE_PROVIDER, OUTPUTS, RESULTS})
"""Parts that older locks lack, besides those named for what they are of."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """All that decides the result of an instance, in parts.

    `parts` are full hashes by the name of the part: `prompt`, `input topic`, `file //a.md`.
    `server` is the address of the server, empty if it is the provider's own. `model` is the model
    to ask, and `because` names the steps whose results are used. `older` are the parts that count
    otherwise in older locks, as they do there.
    """

    parts: Mapping[str, str]
    server: str = ""
    model: str = ""
    because: tuple[str, ...] = ()
    older: Mapping[str, str] = {}

    @property
    def hash(self) -> str:
        return short_hash_of(canonical({"version": RECIPE_VERSION, "parts": self.parts}))

    @property
    def short(self) -> dict[str, str]:
        """Return the parts as a lock stores them."""
        return {name: value[:PART] for name, value in self.parts.items()}

    def as_in(self, parts: Mapping[str, str]) -> "Recipe":
        """Return the recipe without what an older lock's `parts` lack.

        That is the items' expression, the outputs of a used flow and the results they show, what
        the items of other steps are, and the models and providers of judges. What is passed to a
        used flow counts by its value there.
        """
        if self.older:
            then = {name: v for name, v in self.older.items() if parts.get(name) == v[:PART]}
            return self.now.joined(then).as_in(parts)
        if self.parts.keys() <= parts.keys():
            return self
        own = {
            name: value
            for name, value in self.parts.items()
            if name in parts or not (name in _NEWER or _is_newer(name))
        }
        if len(own) == len(self.parts):
            return self
        return msgspec.structs.replace(self, parts=own)

    @property
    def now(self) -> "Recipe":
        """The recipe as new locks have it."""
        return msgspec.structs.replace(self, older={}) if self.older else self

    def joined(self, parts: Mapping[str, str]) -> "Recipe":
        """Return the recipe with the parts that the templates read."""
        if not parts:
            return self
        return msgspec.structs.replace(self, parts={**self.parts, **parts})


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

    `digests` are those of the steps they name, `given` the hashes of the flow's inputs. The files
    that they read are parts of their own.
    """
    shown = encode_json(checked.file.flow.outputs).decode()
    if None in digests.values():
        return None
    return sha256_of_json([dict(digests), dict(given) if _INPUTS.search(shown) else {}])


def shows_more(checked: Checked) -> bool:
    """Whether the outputs of a used flow show more than the results of its steps."""
    shown = encode_json(checked.file.flow.outputs).decode()
    return bool(_INPUTS.search(shown) or _READS.search(shown))


def is_tied(entry: LockEntry) -> bool:
    """Whether an entry of a step that uses a flow says of which results its outputs are made."""
    return entry.status == "skipped" or RESULTS in entry.parts


def _is_newer(part: str) -> bool:
    """Whether older locks lack a part that is named for what it is of."""
    return part.startswith(JUDGE_MODEL) or (part.startswith("steps.") and part.endswith(ITEMS))
