"""The result of an instance, and what templates see of it; how an instance, and a run, ended."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Final, Literal

import msgspec

from poeflow.answers.expect import judgement_of
from poeflow.answers.parse import Reading
from poeflow.client.messages import Message
from poeflow.digest import Json
from poeflow.engine.asking.request import NotHere, ToBeAsked, UnusableAnswerError
from poeflow.engine.asking.spending import Spent
from poeflow.errors import PoeflowError, StepError
from poeflow.events import Source, Verdict
from poeflow.flowfile.loops import samples_of, saves_samples
from poeflow.flowfile.model import Expectation, Step, StepKind
from poeflow.project.output_files import MOVE, EditedError
from poeflow.records import InstanceStatus
from poeflow.store.lock.entries import Accepted, LockEntry

Status = Literal["ok", "failed", "skipped"]
MAX_SHOWN: Final = 200
"""How many characters of an error the short form of an outcome shows."""


class StepResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of an instance that succeeded.

    `model` is the name by which the server says that it answered, `response_id` that of the answer.
    `data` is the answer as read by its format, `value` the chosen word of `one_of`. `media` are
    project paths of its media files, `outputs` those of a used flow, `samples` all answers if
    there are several. `fingerprint` is what the answer, or the output of a command, is stored
    under, None for a render step; `answered_by` the fallback model that answered, `request` the
    first request, or the command, until it is recorded, `conversation` the messages if another
    step continues them. `reads` are the files and patterns that its templates or its command read,
    with their hashes, `files` those it wrote, by project path. `accepted` is set if a file with
    edits was accepted. `expected` is what was expected, if templates read the verdicts. `unread` is
    why the `answer` cannot be read, if the default of the step's `output` stands in its place.
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
    response_id: str | None = None
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
    expected: Sequence[Expectation] = ()
    unread: str = ""
    answer: str | None = None

    @property
    def prompt_tokens(self) -> int | None:
        return _count(self.usage, "prompt_tokens")

    @property
    def completion_tokens(self) -> int | None:
        return _count(self.usage, "completion_tokens")

    @property
    def score(self) -> float | None:
        """How well it meets what is expected of it, from 0 to 1 by weight; None if not judged."""
        if not self.verdicts:
            return None
        whole = sum(one.weight for one in self.expected or self.verdicts)
        met = sum(one.weight * one.grade for one in self.verdicts)
        return round(met / whole, 6) if whole else 1.0

    @property
    def passed(self) -> bool:
        """Whether it meets all that is expected of it: a warning has not passed."""
        return all(one.passed for one in self.verdicts)

    @property
    def is_failing(self) -> bool:
        """Whether it fails an expectation of its step."""
        return any(verdict.is_failure for verdict in self.verdicts)

    def fails(self, *, is_sample: bool) -> bool:
        """Whether it fails; as one of several samples also if a default stands in for it."""
        return self.is_failing or (is_sample and bool(self.unread))

    @property
    def reading(self) -> Reading:
        """Its text, as it was read."""
        return Reading(text=self.text, data=self.data, value=self.value)

    def values(self) -> dict[str, Json]:
        """Return what templates see; plain data only."""
        return {
            **values_without_result("ok", key=self.key),
            "text": self.text,
            "data": self.data,
            "value": self.value,
            "media": list(self.media),
            "reasoning": self.reasoning,
            "tool_calls": [*map(dict, self.tool_calls)],
            "usage": None if self.usage is None else dict(self.usage),
            "model": self.model,
            "outputs": dict(self.outputs),
            "all": [*map(StepResult.values, self.samples)],
            "used_default": bool(self.unread),
            **self.judgement,
        }

    @property
    def judgement(self) -> dict[str, Json]:
        """What templates see of the verdicts, if any reads them. A warning has not passed."""
        return judgement_of(self.expected, self.verdicts) if self.expected else {}


class UnexpectedError(StepError):
    """An answer fails an expectation of its step. `result` has it, with the verdicts."""

    def __init__(self, message: str, *, hint: str, result: StepResult) -> None:
        super().__init__(message, hint=hint)
        self.result = result


def values_without_result(
    status: Status, *, key: str | None = None, error: str | None = None
) -> dict[str, Json]:
    """Return what templates see of an instance without a result: a status, and none for all."""
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
        "used_default": None,
        "all": [],
        "key": key,
        "status": status,
        "error": error,
    }


_UNJUDGED: Final[Mapping[Status, Mapping[str, Json]]] = {
    "ok": {"verdicts": [], "score": 1.0, "passed": True},
    "failed": {"verdicts": [], "score": 0.0, "passed": False},
    "skipped": {"verdicts": None, "score": None, "passed": None},
}
"""What templates see of one that was not judged: an accepted text that no rule can judge is as it
should."""


def _count(usage: Mapping[str, Json] | None, name: str) -> int | None:
    """Return a count of tokens as reported, None if it is unknown."""
    value = usage.get(name) if usage is not None else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_HINTS: Final[Mapping[StepKind, str]] = {
    "model": "ask again with --failed, or change the prompt or expect:",
    "render": "change what it renders, or expect:",
    "command": "change what it runs, or expect:",
    "flow": "change the flow it uses, or repeat:",
}


def refuse_failing(result: StepResult, *, kind: StepKind) -> None:
    """Raise `UnexpectedError` if an answer to a step of that `kind` fails."""
    failures = [verdict.message for verdict in result.verdicts if verdict.is_failure]
    if failures:
        raise UnexpectedError("; ".join(failures), hint=_HINTS[kind], result=result)


def _refuse_samples(results: Sequence[StepResult], *, wanted: float) -> None:
    """Raise `UnexpectedError`, with the first that did not, if too few samples passed.

    `wanted` is the share that must.
    """
    missed = [one for one in results if one.fails(is_sample=True)]
    passed = len(results) - len(missed)
    if passed / len(results) >= wanted:
        return
    failures = (verdict.message for verdict in missed[0].verdicts if verdict.is_failure)
    why = next(failures, f"{missed[0].unread}; output.default stands in its place")
    message = f"{passed} of {len(results)} samples passed, {wanted:.0%} must: {why}"
    raise UnexpectedError(message, hint=_HINTS["model"], result=missed[0])


def has_unusable_answer(error: PoeflowError) -> bool:
    """Whether a model's stored answer made an instance fail: the same run fails again."""
    is_judged = isinstance(error, UnexpectedError) and error.result.model is not None
    return is_judged or isinstance(error, UnusableAnswerError)


class UsedFlowError(StepError):
    """A flow that a step uses failed; its own steps have reported the errors."""


class Unknown(msgspec.Struct, frozen=True):
    """Why the state of an instance is unknown: an answer that it needs is not stored here.

    `hint` says what to do about it, if more than running the missing steps.
    """

    reason: str
    hint: str = ""


NoResult = NotHere | ToBeAsked | Unknown
"""Why an instance has no result, without a failure."""


def best_of(
    samples: Sequence["StepResult | NoResult | BaseException"], step: Step
) -> StepResult | NoResult:
    """Return the first of all samples of a step that passes, with the others, or why it has none.

    A default in place of an answer does not pass if the step expects anything, and else is only
    taken if it stands in for all. Raises the first error of one, or `UnexpectedError` if too few
    pass. A sample with a file of its own cannot be accepted.
    """
    results: list[StepResult] = []
    are_saved = saves_samples(step)
    without: list[NoResult] = []
    for one in samples:
        if isinstance(one, EditedError) and are_saved:
            raise EditedError(one.target, one.look, keep=MOVE)
        if isinstance(one, BaseException):
            raise one
        if isinstance(one, StepResult):
            results.append(one)
        else:
            without.append(one)
    if without:
        if not isinstance(without[0], ToBeAsked):
            return without[0]
        asked = [one for one in without if isinstance(one, ToBeAsked)]
        judged = [one.fingerprint for one in asked if one.is_to_judge]
        first = next((one for one in asked if not one.is_to_judge), asked[0])
        return msgspec.structs.replace(
            first, stored=len(results), judged=len(judged), judgements=len(set(judged))
        )
    if step.expect:
        _refuse_samples(results, wanted=samples_of(step).pass_rate)
    best = next((one for one in results if not one.fails(is_sample=True)), results[0])
    source: Source = "asked" if any(one.source == "asked" for one in results) else best.source
    return msgspec.structs.replace(best, source=source, samples=tuple(results))


Ending = Literal[
    "made", "current", "skipped", "blocked", "failed", "tolerated", "pending", "left out"
]
"""How an instance ended: `made` in this run, `current` by the lock, `skipped` by its own `if`,
`blocked` by another or by the end of the run, `failed` or `tolerated` (a failure that stops
nothing), `pending` if it must be asked but this run asks nothing, `left out` if it is not selected:
then it is as the last run left it."""


class InstanceOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an instance ended, with its result and lock entry.

    `reason` says why it did not run, `entry` is the new lock entry, or the old one if it was left
    out. If it `is_held_back`, it needs nothing that failed: the run stopped before it came to it. A
    failed one `is_passed_over` if the step that uses its flow tolerates that: the run goes on. A
    current one has no `result` until another instance reads it. `statuses` are set in a run that
    sends nothing: its status, or for a whole step those of all instances.
    """

    name: str
    key: str | None
    ending: Ending
    reason: str = ""
    result: StepResult | None = None
    error: PoeflowError | None = None
    entry: LockEntry | None = None
    statuses: tuple[InstanceStatus, ...] = ()
    is_held_back: bool = False
    is_passed_over: bool = False

    @property
    def is_tolerated(self) -> bool:
        """Whether it failed and the run goes on."""
        return self.ending == "tolerated" or self.is_passed_over

    @property
    def status(self) -> Status:
        """Its status in templates."""
        match self.ending:
            case "made":
                return "ok"
            case "current" if self.entry is None:  # it is not held, as nobody reads it
                return "ok"
            case "current" | "left out":
                return "ok" if self.entry is not None and self.entry.status == "ok" else "skipped"
            case "skipped" | "blocked":
                return "skipped"
            case "failed" | "tolerated" | "pending":
                return "failed"

    @property
    def blocks(self) -> bool:
        """Whether instances that need it do not run. One skipped by its own `if` blocks none."""
        is_unknown = self.ending == "left out" and self.entry is None
        return is_unknown or self.ending in ("blocked", "failed", "pending")

    @property
    def is_absent(self) -> bool:
        """Whether it is ok by the lock, but its answer is not loaded."""
        is_held = self.entry is not None and self.ending != "made"
        return self.result is None and is_held and self.status == "ok"

    @property
    def is_pending(self) -> bool:
        return self.ending == "pending"

    @property
    def is_left_out(self) -> bool:
        return self.ending == "left out"

    @property
    def is_done(self) -> bool:
        """Whether it is complete: it has a result, or its `if` skipped it."""
        return self.status == "ok" or (self.status == "skipped" and not self.blocks)

    def values(self, *, is_judged: bool = False) -> dict[str, Json]:
        """Return what templates see of it: verdicts, too, if it `is_judged`."""
        if self.result is not None:
            found = self.result.values()
        else:
            error = None if self.error is None else str(self.error)
            found = values_without_result(self.status, key=self.key, error=error)
        if isinstance(self.error, UnexpectedError):
            found |= self.error.result.judgement
        return {**_UNJUDGED[self.status], **found} if is_judged else found

    @property
    def blocks_because(self) -> str:
        """Why instances that need it do not run."""
        if self.is_pending:
            return f"unknown until {self.name} has run"
        if self.is_left_out:
            return f"{self.name} was left out, and has no result"
        if self.status == "failed":
            return f"{self.name} {'would fail' if self.statuses else 'failed'}"
        return f"{self.name} was skipped"

    @property
    def conversation(self) -> tuple[Message, ...]:
        return self.result.conversation if self.result is not None else ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended, instances by their ids.

    `outputs` is empty unless every step it needs succeeded. `absent` are current instances whose
    answers are not stored here, `missing` the outputs that need them. `tolerated` are the failures
    of steps with `continue_on_error`; `spent` is what was sent and what it cost, as far as known.
    """

    exit_code: int
    outputs: dict[str, Json]
    absent: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    results: Mapping[str, StepResult]
    failures: Mapping[str, PoeflowError]
    skipped: Mapping[str, str]
    tolerated: Mapping[str, PoeflowError]
    spent: Spent

    def __repr__(self) -> str:
        """Leave out the texts: `asyncio.run` makes this of what it returns."""
        found = f"exit_code={self.exit_code}, results={len(self.results)}"
        for step, error in islice(self.failures.items(), 1):
            found += f", failures={len(self.failures)}, the first: {step}: {str(error)[:MAX_SHOWN]}"
        return f"Outcome({found})"
