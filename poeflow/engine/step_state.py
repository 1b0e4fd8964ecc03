"""What the instances of a step are run with, how they ended so far, and how a whole step ended."""

import asyncio
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, Literal

import msgspec

from poeflow.client.messages import Message
from poeflow.digest import Json, sha256_of_json
from poeflow.engine.asking.request import AskPolicy, OlderAnswer, TakenAnswers
from poeflow.engine.asking.turns import Turns
from poeflow.engine.lock_entries import (
    LockProof,
    digest_of,
    moved_text,
    old_digest_of,
)
from poeflow.engine.recipe_parts import Recipe
from poeflow.engine.results import InstanceOutcome, Status, StepResult
from poeflow.events import Purpose
from poeflow.flowfile.loops import carry_of, continues_itself, samples_of
from poeflow.flowfile.model import Expectation, Flow
from poeflow.flowfile.step_settings import Settings
from poeflow.lazy_pattern import lazy_pattern
from poeflow.planning.instances import StepInstance
from poeflow.project.project import MissingFile
from poeflow.store.lock.entries import LockEntry
from poeflow.templates.reader import Reads
from poeflow.templates.render import Values
from poeflow.templates.values import Instances

AskWhen = Literal["unless answered", "always", "never"]
"""When an answer is asked for: `unless answered` in the last run by the lock, always or never."""

_WIDE: Final = lazy_pattern(
    r"\b(?:usage|reasoning|verdicts|score|passed)\b|\bprevious\b(?!\s*\.\s*\w)"
)
"""In an expression over a result: what has a hash of its own, or all of the result."""


class StepInput(msgspec.Struct, frozen=True, kw_only=True):
    """The input for running an instance of `step`. `name` is its name in events.

    `conversation` is the one it continues. `sample` counts the answers to one request from 0,
    also from turn to turn. `locked` is its lock entry, `answer_entries` the entries of both sides
    of the lock about its answer. If `ask` is never, it writes nothing, either. `target` is the
    project path for its text; if the answer is merged into edits of that file, `base` is its text
    before them. If it `is_proven`, the lock proves the answers, stored here or not. If it
    `is_doubted`, no stored answer is used but an `older` one that the lock proves; if it
    `is_stored`, the lock proves the stored output of its command, which is not run. `recipe` is its
    own, as far as known before its templates are rendered. `reads` collects what these read,
    `taken` the answers, if what fails is asked again.
    """

    instance: StepInstance
    step: str
    name: str
    values: Values
    conversation: tuple[Message, ...] = ()
    sample: int = 0
    locked: LockEntry | None = None
    answer_entries: tuple[LockEntry, ...] = ()
    ask: AskWhen = "unless answered"
    target: str | None = None
    base: bytes | None = None
    is_proven: bool = False
    is_doubted: bool = False
    older: OlderAnswer | None = None
    is_stored: bool = False
    taken: TakenAnswers | None = None
    recipe: Recipe | None = None
    reads: Reads = msgspec.field(default_factory=Reads)

    @property
    def settings(self) -> Settings:
        if self.instance.settings is None:
            raise AssertionError("a step that asks was given settings")
        return self.instance.settings

    def purpose(self, settings: Settings, *, is_repeated: bool) -> Purpose:
        """Return what its request is for, if that is made with `settings`."""
        if settings is not self.instance.settings:
            return "fallback"
        return "repeat" if is_repeated and self.sample > 0 else "answer"

    def policy(self, settings: Settings) -> AskPolicy:
        """Return whether its request may be sent, if that is made with `settings`."""
        is_first = self.sample == 0 and settings is self.instance.settings
        entry, target = self.locked, self.target
        is_placed = target is None or (entry is not None and target in entry.outputs)
        is_placed |= entry is not None and moved_text(entry, self.instance) is not None
        is_held_back = is_first and is_placed and self.ask == "unless answered"
        return AskPolicy(
            may_send=self.ask != "never",
            answered=self.locked.request if self.locked is not None and is_held_back else None,
            target=self.target if self.base is None else None,
            is_proven=self.is_proven,
            is_doubted=self.is_doubted and self.older is None,
            older=self.older,
            taken=self.taken,
        )

    @property
    def is_second(self) -> bool:
        return self.taken is not None and self.taken.is_second

    def attempt(self, taken: TakenAnswers) -> "StepInput":
        """Return it for an attempt that takes answers; what a second one must ask is asked."""
        if not taken.is_second:
            return msgspec.structs.replace(self, taken=taken)
        return msgspec.structs.replace(self, taken=taken, ask="always", is_proven=False)

    def turn(self, values: Values, *, after: int) -> "StepInput":
        """Return it as it is asked `after` some turns: never the same request twice."""
        if not after and values is self.values:
            return self
        return msgspec.structs.replace(self, values=values, sample=self.sample + after)


class Ready(msgspec.Struct, frozen=True):
    """An instance, the values that its templates see, and the instance it runs over.

    `name` is its name in the run, and it `is_known` if the last run's lock has an entry of it.
    `reads` has what was read to decide them, and collects what its templates read.
    """

    instance: StepInstance
    name: str
    is_known: bool
    values: Values
    upstream: InstanceOutcome | None
    reads: Reads


def result_of_turns(
    turns: Turns, *, expected: Sequence[Expectation], is_continued: bool
) -> StepResult:
    """Return the result of an instance that took turns.

    `expected` is what its verdicts are about, if anything reads them; the conversation is part
    of the result if it `is_continued`.
    """
    first, dialogue = turns.first.first, turns.last
    completion, reading = dialogue.last.completion, dialogue.reading
    message, usage = completion.message, completion.usage
    return StepResult(
        text=reading.text,
        source=dialogue.last.source,
        data=reading.data,
        value=reading.value,
        media=turns.media,
        files=turns.files,
        reasoning=message.reasoning or reading.reasoning,
        tool_calls=tuple(call.to_param() for call in message.tool_calls or ()),
        usage=None if usage is None else usage.counted(),
        model=completion.model,
        response_id=completion.id,
        verdicts=dialogue.verdicts,
        expected=expected,
        fingerprint=first.fingerprint,
        request=first.request,
        answered_by=dialogue.first.answered_by,
        unread="; ".join(dialogue.unread),
        answer=completion.text if dialogue.unread else None,
        conversation=dialogue.messages if is_continued else (),
    )


class StepUnderWay:
    """A step with its instances, and their outcomes so far.

    `values` are what its templates see besides their own names. `proofs` has a proof for each
    instance if the lock proves all that can run; then no values are needed.
    """

    def __init__(
        self,
        step: str,
        instances: Sequence[StepInstance],
        values: Values,
        proofs: Sequence[LockProof | None] = (),
    ) -> None:
        self.step = step
        self.instances = instances
        self.values = values
        self.proofs = proofs
        self.outcomes: list[InstanceOutcome | None] = [None] * len(instances)
        self._awaited: dict[int, asyncio.Future[InstanceOutcome]] = {}

    def proof_of(self, index: int) -> LockProof | None:
        """Return what proves an instance, if anything does."""
        return self.proofs[index] if self.proofs else None

    def prove(self, index: int, proof: LockProof | None) -> None:
        """Note what proves an instance."""
        self.proofs = list(self.proofs or [None] * len(self.instances))
        self.proofs[index] = proof

    def settle(self, index: int, outcome: InstanceOutcome) -> None:
        """Note how an instance ended."""
        self.outcomes[index] = outcome
        if index in self._awaited:
            self._awaited.pop(index).set_result(outcome)

    def settle_ended(
        self, covered: Sequence[int], ended: Mapping[str, InstanceOutcome]
    ) -> Sequence[int]:
        """Settle those that `ended`, by their ids, without the lock's proof; return the others."""
        if not ended:
            return covered
        rest = []
        for index in covered:
            known = ended.get(self.instances[index].id)
            if known is not None and known.ending != "current":
                self.settle(index, known)
            else:
                rest.append(index)
        return rest

    def ended(self) -> list[InstanceOutcome]:
        """Return how all instances ended, in order."""
        outcomes = [one for one in self.outcomes if one is not None]
        if len(outcomes) < len(self.outcomes):
            raise AssertionError(f"not every instance of {self.step} was settled")
        return outcomes

    async def outcome(self, index: int) -> InstanceOutcome:
        """Wait until an instance has ended."""
        outcome = self.outcomes[index]
        if outcome is not None:
            return outcome
        if index not in self._awaited:
            self._awaited[index] = asyncio.get_running_loop().create_future()
        return await asyncio.shield(self._awaited[index])

    async def before(self, index: int) -> int | None:
        """Wait for the instance from which the one at `index` takes what is carried.

        Return where it is: the last before it that has a result, or that blocks it; None for the
        first.
        """
        for at in range(index - 1, -1, -1):
            outcome = await self.outcome(at)
            if outcome.blocks or outcome.status == "ok":
                return at
        return None


class StepOutcome:
    """How a step ended: all its instances, in order, and the value of `steps.ID` in templates.

    `own` returns the items of instances by key. If it `is_judged`, templates see the verdicts, too.
    If it `has_late_items`, these come from a step, and count among the extras of the entries.
    """

    def __init__(
        self,
        instances: Iterable[InstanceOutcome],
        *,
        is_fan_out: bool,
        own: Callable[[], Mapping[str, Mapping[str, Json]]],
        is_judged: bool = False,
        has_late_items: bool = False,
    ) -> None:
        self.instances = tuple(instances)
        self._different = [next(alike) for _, alike in groupby(self.instances, id)]
        """The same without most of those that are one object, as what nobody reads is."""
        self.status = _status(self._different)
        blocking = [one for one in self._different if one.blocks]
        failed = (one for one in blocking if not one.is_held_back)
        self.culprit = next(failed, blocking[0] if blocking else None)
        self._is_fan_out = is_fan_out
        self._find_own = own
        self._is_judged = is_judged
        self._has_late_items = has_late_items
        self._digests: dict[tuple[str | None, bool], str | None] = {}

    @functools.cached_property
    def _own(self) -> Mapping[str, Mapping[str, Json]]:
        return self._find_own() if self._is_fan_out else {}

    @functools.cached_property
    def value(self) -> Json:
        """The value for templates, made at its first use."""
        if not self._is_fan_out:
            return self._values(self.instances[0])
        by_key = {one.key or "": self._values(one) for one in self.instances}
        return Instances(by_key, status=self.status, own=self._own)

    def _values(self, one: InstanceOutcome) -> dict[str, Json]:
        return one.values(is_judged=self._is_judged)

    @property
    def blocks(self) -> bool:
        """Whether an instance, the `culprit`, blocks steps that need this one."""
        return self.culprit is not None

    @property
    def is_absent(self) -> bool:
        """Whether the answer of any instance is not loaded."""
        return any(one.is_absent for one in self._different)

    def maker_of(self, error: Exception) -> str | None:
        """Return the instance that drew the file of which an error says that it is missing."""
        return self._media.get(error.path) if isinstance(error, MissingFile) else None

    @functools.cached_property
    def _media(self) -> dict[str, str]:
        drawn = ((one.name, one.result) for one in self._different)
        return {path: name for name, found in drawn if found is not None for path in found.media}

    @property
    def is_pending(self) -> bool:
        """Whether any instance must be asked, but this run asks nothing."""
        return any(one.is_pending for one in self._different)

    def digest(self, attribute: str | None, *, is_old: bool = False) -> str | None:
        """Return the hash of what another step sees, if known; `is_old` makes that of version 1."""
        if (attribute, is_old) not in self._digests:
            self._digests[attribute, is_old] = self._digest(attribute, is_old=is_old)
        return self._digests[attribute, is_old]

    def _digest(self, attribute: str | None, *, is_old: bool) -> str | None:
        of = old_digest_of if is_old else digest_of
        found: list[Json] = []
        for one in self.instances:
            entry = one.entry
            seen = _failed_digest(one, attribute) if entry is None else of(entry, attribute)
            if seen is None:
                return None
            found.append([one.key, seen, *self._own_digest(one, attribute)])
        return sha256_of_json(found)

    def _own_digest(self, one: InstanceOutcome, attribute: str | None) -> Iterator[str]:
        """Yield the hash of an instance's item, if its key does not contain it already."""
        if attribute not in (None, "all") or self._has_late_items:
            return
        own = self._own.get(one.key or "", {})
        if any(isinstance(v, dict | list) for v in own.values()):
            yield sha256_of_json(own)

    @property
    def blocked_by(self) -> str:
        """Why steps that need this one do not run, empty if they do."""
        return "" if self.culprit is None else self.culprit.blocks_because


def carried_digest(flow: Flow, step: str, entry: LockEntry) -> str:
    """Return the hash of what an instance hands on to the next one of its step."""
    carry = carry_of(flow.steps[step]) or ""
    is_wide = _WIDE.search(carry) is not None
    is_wide |= samples_of(flow.steps[step]).count > 1 and "all" in carry
    found = digest_of(entry, None if is_wide else "media")
    if not continues_itself(flow, step):
        return found
    return sha256_of_json([found, digest_of(entry, "conversation")])


def _status(instances: Sequence[InstanceOutcome]) -> Status:
    if any(one.status == "failed" for one in instances):
        return "failed"
    if instances and all(one.status == "skipped" for one in instances):
        return "skipped"
    return "ok"


def _failed_digest(outcome: InstanceOutcome, attribute: str | None) -> str | None:
    """Return the hash of what another step sees of an instance that failed, None for others."""
    if outcome.ending in ("made", "current", "pending"):
        return None
    seen, status = outcome.values(), outcome.status
    if attribute in (None, "all"):
        return sha256_of_json(seen)
    return sha256_of_json(status if attribute == "status" else [status, seen.get(attribute)])
