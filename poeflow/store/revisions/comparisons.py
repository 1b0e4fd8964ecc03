"""What differs between two revisions of a project's flows: the data, as `poeflow diff` prints it.

`schemas/diff.schema.json` is made of these shapes.
"""

from collections.abc import Iterable
from typing import Literal

import msgspec

CauseKind = Literal[
    "prompt", "model", "parameter", "input", "file", "expectation", "setting", "answer", "edit"
]
Fate = Literal["changed", "added", "removed"]
FlowFate = Literal["changed", "added", "removed", "renamed", "broken"]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was changed and decides a result.

    `name` is the key, the parameter, the input or the file. `place` is its file and line in the
    newer revision, in the older one if it was removed. `old` and `new` are its texts, null if
    there is none or if it is no text. The kind `answer` is another answer to the same request, the
    kind `edit` a file that a person edited and had accepted in place of an answer; by the name
    `dropped` one that is not accepted any more.
    """

    kind: CauseKind
    name: str
    place: str = ""
    old: str | None = None
    new: str | None = None


class InstanceCounts(msgspec.Struct, frozen=True, kw_only=True):
    """How many instances have another result by the locks, are new, and are gone.

    `pending` counts those of the newer revision that a run would change: its lock does not prove
    them current.
    """

    changed: int = 0
    added: int = 0
    removed: int = 0
    pending: int = 0

    @classmethod
    def total(cls, counts: "Iterable[InstanceCounts]") -> "InstanceCounts":
        """Return the sum of several counts."""
        found = tuple(counts)
        return cls(
            changed=sum(one.changed for one in found),
            added=sum(one.added for one in found),
            removed=sum(one.removed for one in found),
            pending=sum(one.pending for one in found),
        )

    @property
    def is_empty(self) -> bool:
        return not (self.changed or self.added or self.removed or self.pending)


class AnswerComparison(msgspec.Struct, frozen=True, kw_only=True):
    """How many instances of a step were answered by another name than was asked, or than before.

    `model` was asked, `by` is the name that answered, or the fallback model. `before` is that of
    the older revision, if the same model was asked and answered by another name; else null.
    """

    model: str
    by: str
    before: str | None = None
    instances: int = 0


class StepComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A step that differs: by its own `causes`, or only because it `follows` other steps.

    `answered` says which other names answered, those of most instances first.
    """

    id: str
    fate: Fate
    causes: tuple[Cause, ...] = ()
    follows: tuple[str, ...] = ()
    instances: InstanceCounts = InstanceCounts()
    answered: tuple[AnswerComparison, ...] = ()


class OutputComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a flow writes and that differs. Texts are null if missing, binary or too large.

    Sizes are in bytes, null if the file is not in the revision.
    """

    path: str
    fate: Fate
    step: str = ""
    old: str | None = None
    new: str | None = None
    old_size: int | None = None
    new_size: int | None = None


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """Requests with their tokens and their cost in US dollars, null if a price is not known."""

    requests: int = 0
    tokens: int = 0
    cost_usd: float | None = None


class FlowComparison(msgspec.Struct, frozen=True, kw_only=True):
    """A flow that differs.

    `problem` says why it cannot be used as it is in the newer revision, `old_problem` in the older
    one; empty if it can. The fate is `broken` if both revisions have it and only one of them can be
    used, or none can be read; it is `renamed` if its file or its lock is the same as that of
    `old_path`, which the newer revision does not have. `spent` is what the changed and new answers
    cost, as far as the store on this machine has them, `to_spend` an estimate of what a run of the
    newer revision would send; null if nothing is known.
    """

    path: str
    fate: FlowFate
    old_path: str | None = None
    steps: tuple[StepComparison, ...] = ()
    outputs: tuple[OutputComparison, ...] = ()
    instances: InstanceCounts = InstanceCounts()
    problem: str = ""
    old_problem: str = ""
    spent: Spending | None = None
    to_spend: Spending | None = None


class ComparedRevision(msgspec.Struct, frozen=True, kw_only=True):
    """One side. `commit` is null for the files on disk."""

    name: str
    commit: str | None = None


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two revisions; flows without a difference are left out."""

    old: ComparedRevision
    new: ComparedRevision
    flows: tuple[FlowComparison, ...] = ()
