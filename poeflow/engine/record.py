"""What happens in a run, as events for listeners and as records for the history."""

from collections.abc import Callable, Iterable
from typing import TypeVar, cast

import msgspec

from poeflow.answers.expect import Verdict
from poeflow.client.answers import Completion
from poeflow.client.commands import Delta, Progress
from poeflow.digest import Json
from poeflow.engine.budget import Sending, Usage
from poeflow.engine.results import StepResult, UnexpectedError
from poeflow.errors import EXIT_CLASSES, APIStatusError, PoeflowError
from poeflow.events import (
    Event,
    Expected,
    Listener,
    RetryPlanned,
    StepStarted,
    TextArrived,
    ToolCalled,
    Warned,
)
from poeflow.records import (
    AnswerRecord,
    InstanceRecord,
    Recorder,
    RequestRecord,
    RunEnd,
    key_of,
    step_of,
)
from poeflow.redact import Scrubber, masked

RecordT = TypeVar("RecordT", RequestRecord, AnswerRecord, InstanceRecord, RunEnd)


class Unrecorded:
    """A recorder that keeps nothing."""

    async def requested(self, record: RequestRecord) -> int:
        return 0

    def answered(self, number: int, record: AnswerRecord) -> None:
        pass

    def instance(self, record: InstanceRecord) -> None:
        pass

    def ended(self, record: RunEnd) -> None:
        pass


class Scrubbed:
    """A recorder that masks secrets in what it is told, then tells `recorder`."""

    def __init__(self, recorder: Recorder, scrubber: Scrubber) -> None:
        self._recorder = recorder
        self._scrubber = scrubber

    async def requested(self, record: RequestRecord) -> int:
        return await self._recorder.requested(self._safe(record))

    def answered(self, number: int, record: AnswerRecord) -> None:
        self._recorder.answered(number, self._safe(record))

    def instance(self, record: InstanceRecord) -> None:
        self._recorder.instance(self._safe(record))

    def ended(self, record: RunEnd) -> None:
        self._recorder.ended(self._safe(record))

    def _safe(self, record: RecordT) -> RecordT:
        return cast("RecordT", masked(record, self._scrubber))


def succeeded(
    name: str, result: StepResult, used: list[Usage] | None, *, began: float, seconds: float
) -> InstanceRecord:
    """Return the record of an instance that has a result. `used` is what it used in this run."""
    record = msgspec.structs.replace(
        _with(result, InstanceRecord(id=name, step=step_of(name), status="ok")),
        source=result.source,
        began=began,
        seconds=seconds,
    )
    return record if used is None else msgspec.structs.replace(record, **tokens(used))


def failed(
    name: str, error: PoeflowError, used: list[Usage] | None, *, began: float, seconds: float
) -> InstanceRecord:
    """Return the record of an instance that failed; an answer that was not as expected is kept."""
    record = InstanceRecord(
        id=name,
        step=step_of(name),
        key=key_of(name),
        status="failed",
        reason=str(error),
        error_class=EXIT_CLASSES[error.exit_code],
        began=began,
        seconds=seconds,
    )
    if isinstance(error, UnexpectedError):
        record = msgspec.structs.replace(_with(error.result, record), source=error.result.source)
    if used is None:
        return record
    return msgspec.structs.replace(record, source="asked", **tokens(used))


def tokens(used: list[Usage] | None) -> dict[str, int | None]:
    """Return the tokens of an instance as records and events have them."""
    return {
        "prompt_tokens": sum(usage.prompt for usage in used) if used else None,
        "completion_tokens": sum(usage.completion for usage in used) if used else None,
    }


def skipped(name: str, reason: str, *, at: float) -> InstanceRecord:
    return InstanceRecord(
        id=name,
        step=step_of(name),
        key=key_of(name),
        status="skipped",
        reason=reason,
        began=at,
    )


def current(name: str, fingerprint: str | None, *, at: float) -> InstanceRecord:
    """Return the record of an instance that the lock alone proves: nothing was done for it."""
    return InstanceRecord(
        id=name,
        step=step_of(name),
        key=key_of(name),
        status="ok",
        fingerprint=fingerprint,
        began=at,
    )


def ended_request(
    outcome: Completion | PoeflowError,
    sending: Sending,
    *,
    ended: float,
    retries: tuple[str, ...],
    is_free: bool,
) -> AnswerRecord:
    """Return the record of what became of a request, with what all its attempts used.

    One that `is_free` costs nothing, whatever the model would.
    """
    cost = None if is_free else sending.cost_usd
    told = AnswerRecord(
        ended=ended,
        retries=retries,
        sends=sending.sends,
        cost_usd=None if cost is None else float(cost),
    )
    record = msgspec.structs.replace(told, **tokens(sending.used))
    if isinstance(outcome, Completion):
        return msgspec.structs.replace(record, answer=dict(outcome.raw))
    kind = EXIT_CLASSES[outcome.exit_code]
    return msgspec.structs.replace(record, error=str(outcome), error_class=kind)


def _with(result: StepResult, record: InstanceRecord) -> InstanceRecord:
    verdicts: list[dict[str, Json]] = msgspec.to_builtins(result.verdicts)
    return msgspec.structs.replace(
        record,
        key=result.key,
        model=result.model,
        answered_by=result.answered_by,
        fingerprint=result.fingerprint,
        request=None if result.request is None else dict(result.request),
        text=result.text,
        reasoning=result.reasoning,
        data=result.data,
        files=dict(result.files),
        media=result.media,
        verdicts=tuple(verdicts),
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
    )


def told(progress: Progress, step: str, at: float) -> tuple[Event, ...]:
    """Return the events of one piece of progress of `step`, `at` seconds into the run."""
    if isinstance(progress, Delta):
        pieces = [
            TextArrived(at=at, step=step, text=progress.reasoning, kind="reasoning"),
            TextArrived(at=at, step=step, text=progress.text),
        ]
        return tuple(piece for piece in pieces if piece.text)
    error = progress.error
    return (
        RetryPlanned(
            at=at,
            step=step,
            attempt=progress.attempt,
            wait=progress.wait,
            reason=error.message,
            status=error.status_code if isinstance(error, APIStatusError) else None,
        ),
    )


class EventEmitter:
    """Tells `listen` of one instance, called `name`. `elapsed` gives the run's seconds."""

    def __init__(self, listen: Listener, elapsed: Callable[[], float], name: str) -> None:
        self._listen = listen
        self._elapsed = elapsed
        self._name = name

    def started(self, model: str | None) -> None:
        self._listen(StepStarted(at=self._elapsed(), step=self._name, model=model))

    def warned(self, messages: Iterable[str]) -> None:
        for message in messages:
            self._listen(Warned(at=self._elapsed(), step=self._name, message=message))

    def tool_called(self, tool: str, *, is_error: bool) -> None:
        self._listen(ToolCalled(at=self._elapsed(), step=self._name, tool=tool, is_error=is_error))

    def judged(self, verdicts: Iterable[Verdict]) -> None:
        """Tell of what is not as expected."""
        for verdict in verdicts:
            if not verdict.passed:
                self._listen(
                    Expected(
                        at=self._elapsed(),
                        step=self._name,
                        kind=verdict.kind,
                        level=verdict.level,
                        message=verdict.message,
                    )
                )
