"""What instances and steps came to, and the values that templates see as `steps.ID`."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from poeflow.answers.expect import Verdict
from poeflow.client.messages import Message
from poeflow.digest import Json, sha256_of_json
from poeflow.errors import StepError
from poeflow.store.lockfile import Accepted, LockEntry
from poeflow.templates.values import Instances

Source = Literal["asked", "cached", "rendered", "ran"]
Status = Literal["ok", "failed", "skipped"]


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an instance that succeeded.

    `data` is the answer as its format reads it, `value` the one of `one_of`. `media` are project
    paths of the files it drew, `outputs` those of a flow that was used, `samples` every answer
    where several were asked for. `fingerprint` is None for a render step, `answered_by` the model
    that stood in for the step's own, `request` what was sent first, `conversation` what was said
    where another step goes on.
    `reads` are the files and patterns its templates read, with their hashes, `files` those it
    wrote, by project path. `accepted` tells of a file that holds a person's edits.
    """

    text: str
    source: Source
    key: str | None = None
    data: Json = None
    value: str | None = None
    media: tuple[str, ...] = ()
    reasoning: str = ""
    tool_calls: tuple[Mapping[str, Json], ...] = ()
    usage: Mapping[str, Json] | None = None
    model: str | None = None
    outputs: Mapping[str, Json] = {}
    samples: tuple["StepResult", ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    fingerprint: str | None = None
    request: Mapping[str, Json] | None = None
    answered_by: str | None = None
    conversation: tuple[Message, ...] = ()
    reads: Mapping[str, str] = {}
    files: Mapping[str, str] = {}
    accepted: Accepted | None = None

    @property
    def prompt_tokens(self) -> int | None:
        return _count(self.usage, "prompt_tokens")

    @property
    def completion_tokens(self) -> int | None:
        return _count(self.usage, "completion_tokens")

    def values(self) -> dict[str, Json]:
        """Return what templates see; plain data only."""
        return {
            **nothing("ok", key=self.key),
            "text": self.text,
            "data": self.data,
            "value": self.value,
            "media": list(self.media),
            "reasoning": self.reasoning,
            "tool_calls": [dict(call) for call in self.tool_calls],
            "usage": None if self.usage is None else dict(self.usage),
            "model": self.model,
            "outputs": dict(self.outputs),
            "all": [sample.values() for sample in self.samples],
        }


class UnexpectedError(StepError):
    """An answer is not what its step expects. `result` has it, with the verdicts."""

    def __init__(self, message: str, *, hint: str, result: StepResult) -> None:
        super().__init__(message, hint=hint)
        self.result = result


def nothing(status: Status, *, key: str | None = None, error: str | None = None) -> dict[str, Json]:
    """Return what templates see of an instance that gave nothing: a status, and none for all."""
    return {
        "text": None,
        "data": None,
        "value": None,
        "media": [],
        "reasoning": None,
        "tool_calls": [],
        "usage": None,
        "model": None,
        "outputs": None,
        "all": [],
        "key": key,
        "status": status,
        "error": error,
    }


def _count(usage: Mapping[str, Json] | None, name: str) -> int | None:
    """Return a count of tokens as reported, None where it is unknown."""
    value = usage.get(name) if usage is not None else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_failing(result: StepResult) -> bool:
    """Whether an answer is not what its step expects."""
    return any(verdict.is_failure for verdict in result.verdicts)


def refuse_failing(results: Sequence[StepResult], *, wanted: float = 1.0) -> None:
    """Raise `UnexpectedError`, with the first, where an answer is not what its step expects.

    `wanted` is the share of several answers that must be.
    """
    failing = [result for result in results if is_failing(result)]
    if not failing:
        return
    told = [verdict.message for verdict in failing[0].verdicts if verdict.is_failure]
    message = "; ".join(told)
    if len(results) > 1:
        passed = len(results) - len(failing)
        message = f"{passed} of {len(results)} samples passed, {wanted:.0%} must: {told[0]}"
    hint = "ask again with --refresh, or change the prompt or expect:"
    raise UnexpectedError(message, hint=hint, result=failing[0])


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How an instance ended.

    `blocks` tells that what needs it does not run: it failed and that was not to be tolerated, or
    it was not run because of such a failure. One that its own `if` skipped blocks nothing.
    `block` is what the lock keeps of it. An absent one is current by the lock, and its answer is
    not here; a pending one would have to be asked, and nothing is asked now. One left out is not
    what the run is about: it is as the last run left it.
    """

    name: str
    key: str | None
    status: Status
    blocks: bool = False
    result: StepResult | None = None
    error: str | None = None
    block: LockEntry | None = None
    is_absent: bool = False
    is_pending: bool = False
    is_left_out: bool = False

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left to be done: it has a result, or its `if` skipped it."""
        return self.status == "ok" or (self.status == "skipped" and not self.blocks)

    def values(self) -> dict[str, Json]:
        """Return what templates see of it."""
        if self.result is not None:
            return self.result.values()
        return nothing(self.status, key=self.key, error=self.error)

    @property
    def blocks_because(self) -> str:
        """What is told of those that need it and do not run."""
        if self.is_pending:
            return f"unknown until {self.name} has run"
        if self.is_left_out:
            return f"{self.name} was left out, and has no result"
        return f"{self.name} {'failed' if self.status == 'failed' else 'was skipped'}"

    @property
    def conversation(self) -> tuple[Message, ...]:
        return self.result.conversation if self.result is not None else ()


class StepState(msgspec.Struct, frozen=True, kw_only=True):
    """How a step ended: all its instances, and what templates see as `steps.ID`.

    `own` has by key what instances ran over, where that is no step's answer.
    """

    status: Status
    blocks: bool
    instances: tuple[State, ...]
    value: Json
    own: Mapping[str, Mapping[str, Json]] = {}

    @property
    def is_absent(self) -> bool:
        """Whether the answer of any instance is not here."""
        return any(state.is_absent for state in self.instances)

    def digest(self, attribute: str | None) -> str | None:
        """Return the hash of what another step sees of this one, None where it is not known."""
        found = [
            None
            if state.block is None
            else [state.key, digest_of(state.block, attribute), *self._own_digest(state, attribute)]
            for state in self.instances
        ]
        return None if None in found else sha256_of_json(found)

    def _own_digest(self, state: State, attribute: str | None) -> Iterator[str]:
        """Yield the hash of what an instance ran over, where its key does not tell it already."""
        own = self.own.get(state.key or "", {})
        if attribute in (None, "all") and any(isinstance(one, dict | list) for one in own.values()):
            yield sha256_of_json(own)

    @property
    def culprit(self) -> State | None:
        """The instance that keeps what needs the step from running, if one does."""
        return next((state for state in self.instances if state.blocks), None)

    @property
    def blocked_by(self) -> str:
        """Why what needs the step does not run, empty where it does."""
        culprit = self.culprit
        return "" if culprit is None else culprit.blocks_because


def step_state(
    states: Iterable[State], *, is_fan_out: bool, own: Mapping[str, Mapping[str, Json]]
) -> StepState:
    """Return how a step ended, from how its instances did, in order.

    `own` has by key what they ran over.
    """
    instances = tuple(states)
    status = _status(instances)
    value: Json
    if is_fan_out:
        by_key = {state.key or "": state.values() for state in instances}
        value = Instances(by_key, status=status, own=own)
    else:
        value = instances[0].values()
    return StepState(
        status=status,
        blocks=any(state.blocks for state in instances),
        instances=instances,
        value=value,
        own=own,
    )


def _status(instances: tuple[State, ...]) -> Status:
    if any(state.status == "failed" for state in instances):
        return "failed"
    if instances and all(state.status == "skipped" for state in instances):
        return "skipped"
    return "ok"


def digest_of(block: LockEntry, attribute: str | None) -> str:
    """Return the hash of what another step sees of an instance as `attribute`."""
    match attribute:
        case "status":
            return sha256_of_json(block.status)
        case "reasoning" | "usage":
            return block.extras or ""
        case "conversation":
            return sha256_of_json([block.request, block.text])
        case None | "all":
            return sha256_of_json([block.status, block.result, block.extras])
        case _:
            return block.result or sha256_of_json(block.status)
