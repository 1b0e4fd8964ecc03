"""What became of the instances of a step, and of the step with them."""

from collections.abc import Iterable

import msgspec

from poeflow.client.messages import Message
from poeflow.digest import Json
from poeflow.engine.result import Status, StepResult, nothing
from poeflow.templates.instances import Instances


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How an instance ended.

    `blocks` tells that what needs it does not run: it failed and that was not to be tolerated, or
    it was not run because of such a failure. One that its own `if` skipped blocks nothing.
    """

    name: str
    key: str | None
    status: Status
    blocks: bool = False
    result: StepResult | None = None
    error: str | None = None

    def values(self) -> dict[str, Json]:
        """Return what templates see of it."""
        if self.result is not None:
            return self.result.values()
        return nothing(self.status, key=self.key, error=self.error)

    @property
    def conversation(self) -> tuple[Message, ...]:
        return self.result.conversation if self.result is not None else ()


class StepState(msgspec.Struct, frozen=True, kw_only=True):
    """How a step ended: all its instances, and what templates see as `steps.ID`."""

    status: Status
    blocks: bool
    instances: tuple[State, ...]
    value: Json

    @property
    def blocked_by(self) -> str:
        """Return why what needs the step does not run, empty where it does."""
        if not self.blocks:
            return ""
        culprit = next(state for state in self.instances if state.blocks)
        return f"{culprit.name} {'failed' if culprit.status == 'failed' else 'was skipped'}"


def step_state(states: Iterable[State], *, is_fan_out: bool) -> StepState:
    """Return how a step ended, from how its instances did, in order."""
    instances = tuple(states)
    status = _status(instances)
    value: Json
    if is_fan_out:
        by_key = {state.key or "": state.values() for state in instances}
        value = Instances(by_key, status=status)
    else:
        value = instances[0].values()
    return StepState(
        status=status,
        blocks=any(state.blocks for state in instances),
        instances=instances,
        value=value,
    )


def _status(instances: tuple[State, ...]) -> Status:
    if any(state.status == "failed" for state in instances):
        return "failed"
    if instances and all(state.status == "skipped" for state in instances):
        return "skipped"
    return "ok"
