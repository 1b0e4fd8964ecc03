"""A step that is running, with how each of its instances ended so far, and how a step ended."""

import asyncio
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from poeflow.digest import Json, sha256_of_json
from poeflow.engine.lock_entries import LockProof, digest_of, old_digest_of
from poeflow.engine.results import UNJUDGED, InstanceOutcome, Status
from poeflow.planning.instances import StepInstance
from poeflow.templates.render import Values
from poeflow.templates.values import Instances


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
        self.status = _status(self.instances)
        blocking = [one for one in self.instances if one.blocks]
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
        return {**UNJUDGED[one.status], **one.values()} if self._is_judged else one.values()

    @property
    def blocks(self) -> bool:
        """Whether an instance, the `culprit`, blocks steps that need this one."""
        return self.culprit is not None

    @property
    def is_absent(self) -> bool:
        """Whether the answer of any instance is not loaded."""
        return any(one.is_absent for one in self.instances)

    @property
    def is_pending(self) -> bool:
        """Whether any instance must be asked, but this run asks nothing."""
        return any(one.is_pending for one in self.instances)

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


def _status(instances: tuple[InstanceOutcome, ...]) -> Status:
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
