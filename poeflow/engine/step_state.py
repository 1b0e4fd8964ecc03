"""A step that is running: its instances, and how each of them ended so far."""

import asyncio
from collections.abc import Mapping, Sequence

from poeflow.engine.freshness import LockProof
from poeflow.engine.results import InstanceOutcome
from poeflow.planning.instances import StepInstance
from poeflow.templates.render import Values


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
