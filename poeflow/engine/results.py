"""What instances came to: the values templates see as `steps.ID`."""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from poeflow.answers.expect import Verdict
from poeflow.client.messages import Message
from poeflow.digest import Json
from poeflow.errors import StepError
from poeflow.store.lockfile import Accepted

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
