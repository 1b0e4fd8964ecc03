"""Events for listeners, and records for the history, about what happens in a run."""

from collections.abc import Callable, Iterable

import msgspec

from poeflow.digest import hash_prefix
from poeflow.engine.asking.spending import TokenCounts, TokenUsage, cost_in, token_counts
from poeflow.engine.results import InstanceOutcome, StepResult, UnexpectedError, UsedFlowError
from poeflow.errors import EXIT_CLASSES, PoeflowError
from poeflow.events import (
    Event,
    Expected,
    Listener,
    StepFailed,
    StepFinished,
    StepSkipped,
    StepStarted,
    ToolCalled,
    Verdict,
    Warned,
)
from poeflow.records import (
    AnswerRecord,
    InstanceRecord,
    RequestRecord,
    RunEnd,
    key_of,
    step_of,
)


class NoRecorder:
    """A recorder that stores nothing."""

    async def requested(self, record: RequestRecord) -> int:
        return 0

    def answered(self, number: int, record: AnswerRecord, *, stored: str | None = None) -> None:
        pass

    def instance(self, record: InstanceRecord) -> None:
        pass

    def ended(self, record: RunEnd) -> None:
        pass


def record_of(
    outcome: InstanceOutcome, used: list[TokenUsage] | None, *, began: float, seconds: float
) -> InstanceRecord | None:
    """Return the record of how an instance ended, None if the history has none for it.

    `used` is its usage in this run. An answer that fails an expectation is recorded, too.
    """
    record = InstanceRecord(
        id=outcome.name,
        step=step_of(outcome.name),
        key=key_of(outcome.name),
        status=outcome.status,
        began=began,
    )
    match outcome.ending:
        case "made":
            if outcome.result is None:
                raise AssertionError("an instance that was made has a result")
            return _record_of_result(outcome.result, record, used, seconds=seconds)
        case "current":
            request = None if outcome.entry is None else outcome.entry.request
            fingerprint = None if request is None else hash_prefix(request)
            return msgspec.structs.replace(record, fingerprint=fingerprint)
        case "skipped" | "blocked":
            return msgspec.structs.replace(record, reason=outcome.reason)
        case "failed" | "tolerated":
            failure = _record_of_failure(record, outcome.error, used, seconds=seconds)
            return msgspec.structs.replace(failure, is_tolerated=outcome.is_tolerated)
        case "pending" | "left out":
            return None


def _record_of_failure(
    record: InstanceRecord,
    error: PoeflowError | None,
    used: list[TokenUsage] | None,
    *,
    seconds: float,
) -> InstanceRecord:
    if error is None:
        raise AssertionError("an instance that failed has an error")
    if isinstance(error, UnexpectedError):
        record = _record_of_result(error.result, record, None, seconds=seconds)
    kind = EXIT_CLASSES[error.exit_code]
    record = msgspec.structs.replace(record, reason=str(error), error_class=kind, seconds=seconds)
    if used is None:
        return record
    return msgspec.structs.replace(record, source="asked", **token_counts(used))


def event_of(
    outcome: InstanceOutcome,
    used: list[TokenUsage] | None,
    *,
    seconds: float,
    at: float,
    simulated: bool,
) -> Event | None:
    """Return the event of how an instance ended, None if there is none."""
    match outcome.ending:
        case "made" if outcome.result is not None:
            return StepFinished(
                at=at,
                step=outcome.name,
                source=outcome.result.source,
                simulated=simulated,
                seconds=seconds,
                answered_by=outcome.result.answered_by,
                served=None if outcome.entry is None else outcome.entry.served or None,
                cost_usd=None if simulated else cost_in(used),
                score=outcome.result.score,
                verdicts=outcome.result.verdicts,
                **token_counts(used),
            )
        case "failed" | "tolerated" if outcome.error is not None:
            cost = None if simulated else cost_in(used)
            return _failure_of(outcome, outcome.error, used, seconds=seconds, at=at, cost=cost)
        case "skipped" | "blocked":
            return StepSkipped(at=at, step=outcome.name, reason=outcome.reason)
        case _:
            return None


def _failure_of(
    outcome: InstanceOutcome,
    error: PoeflowError,
    used: list[TokenUsage] | None,
    *,
    seconds: float,
    at: float,
    cost: float | None,
) -> StepFailed:
    judged = error.result if isinstance(error, UnexpectedError) else None
    return StepFailed(
        at=at,
        step=outcome.name,
        message=str(error),
        error_class=EXIT_CLASSES[error.exit_code],
        seconds=seconds,
        is_tolerated=outcome.is_tolerated,
        is_told=isinstance(error, UsedFlowError),
        cost_usd=cost,
        score=None if judged is None else judged.score,
        verdicts=() if judged is None else judged.verdicts,
        **token_counts(used),
    )


def _record_of_result(
    result: StepResult, record: InstanceRecord, used: list[TokenUsage] | None, *, seconds: float
) -> InstanceRecord:
    tokens = _tokens_in(result) if used is None else token_counts(used)
    return msgspec.structs.replace(
        record,
        source=result.source,
        seconds=seconds,
        model=result.model,
        response_id=result.response_id,
        answered_by=result.answered_by,
        fingerprint=result.fingerprint,
        request=None if result.request is None else dict(result.request),
        text=result.text,
        reasoning=result.reasoning,
        data=result.data,
        files=dict(result.files),
        media=result.media,
        verdicts=tuple(map(msgspec.to_builtins, result.verdicts)),
        unread=result.unread,
        answer=result.answer,
        **tokens,
    )


def _tokens_in(result: StepResult) -> TokenCounts:
    """Return what the answer of a result used, which may be a stored one."""
    return {
        "prompt_tokens": result.prompt_tokens,
        "completion_tokens": result.completion_tokens,
    }


class EventEmitter:
    """Reports events of the instance `name` to `listen`. `elapsed` gives the seconds of the run."""

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
        """Report what is not as expected, but for what only counts."""
        for verdict in verdicts:
            if not verdict.passed and verdict.level != "score":
                self._listen(
                    Expected(
                        at=self._elapsed(),
                        step=self._name,
                        kind=verdict.kind,
                        level=verdict.level,
                        message=verdict.message,
                    )
                )
