"""The events of a run, for listeners such as the terminal, JSON Lines and the history.

Times are seconds since the run began, from a monotonic clock.
"""

from collections.abc import Callable
from typing import Literal, ParamSpec, TypeAlias, TypeVar

import msgspec

from poeflow.digest import Json

Source = Literal["asked", "cached", "rendered", "ran"]
"""Where the text of an instance came from."""
Purpose = Literal["answer", "repair", "tools", "judge", "fallback", "repeat"]
"""The purpose of a request for its instance: the answer itself, a repair, an answer with tool
results, a judgement, a fallback for a failed model, or another turn of a step with `repeat`."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    at: float


class RunStarted(_Event, frozen=True, kw_only=True, tag="run_started"):
    """`flow` is the flow's name; `steps` are the instance ids in order; `simulated` if offline."""

    flow: str
    steps: tuple[str, ...]
    simulated: bool


class RunEstimated(_Event, frozen=True, kw_only=True, tag="run_estimated"):
    """What a run with a large loop will send at least, emitted before it sends.

    `most_requests` is None if it is not known, `answer_tokens` if no length can be estimated,
    `cost_usd` if a price is not known. If it `is_sample`, the loop is very large, only some of its
    instances were looked at, and the numbers are about right.
    """

    requests: int
    most_requests: int | None
    prompt_tokens: int
    answer_tokens: int | None
    cost_usd: float | None
    is_sample: bool = False


class StepExpanded(_Event, frozen=True, kw_only=True, tag="step_expanded"):
    """A step will run `instances` times."""

    step: str
    instances: int


class StepStarted(_Event, frozen=True, kw_only=True, tag="step_started"):
    """`model` is None for a render step."""

    step: str
    model: str | None


class RequestSent(_Event, frozen=True, kw_only=True, tag="request_sent"):
    """`model` is requested for an answer that is not stored, for a `purpose`.

    A repair, a round of tools and a judge are separate requests; text that arrives afterwards is
    the answer to the last one.
    """

    step: str
    model: str
    purpose: Purpose = "answer"


class TextArrived(_Event, frozen=True, kw_only=True, tag="text_arrived"):
    """A piece of a streamed answer; `kind` is text or reasoning."""

    step: str
    text: str
    kind: Literal["text", "reasoning"] = "text"


class RetryPlanned(_Event, frozen=True, kw_only=True, tag="retry_planned"):
    """An attempt failed and another follows after `wait` seconds. Drop the text shown so far.

    `status` is the server's HTTP status, None if there was none.
    """

    step: str
    attempt: int
    wait: float
    reason: str
    status: int | None = None


class FellBack(_Event, frozen=True, kw_only=True, tag="fell_back"):
    """The requested model failed permanently for `reason`; `model` is requested instead."""

    step: str
    model: str
    reason: str


class ToolCalled(_Event, frozen=True, kw_only=True, tag="tool_called"):
    """A Python function of the flow ran; `is_error` if the model received an error."""

    step: str
    tool: str
    is_error: bool


class Expected(_Event, frozen=True, kw_only=True, tag="expected"):
    """An answer does not meet an expectation; `message` has the actual value."""

    step: str
    kind: str
    level: Literal["error", "warn"]
    message: str


class FileWritten(_Event, frozen=True, kw_only=True, tag="file_written"):
    """`path` is relative to the project's root; `size` in bytes."""

    step: str
    path: str
    size: int


class Verdict(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whether one expectation is met. `message` says what was expected and what was found.

    `score` is how well it is met, from 0 to 1, of the kinds that say so, and `reason` what a judge
    says of it, who may go by one `rubric` of several.
    """

    kind: str
    passed: bool
    level: Literal["error", "warn", "score"]
    message: str
    score: float | None = None
    weight: float = 1.0
    reason: str = ""
    rubric: str = ""

    @property
    def grade(self) -> float:
        """How well it is met, from 0 to 1: entirely or not at all if its kind does not say."""
        return float(self.passed) if self.score is None else self.score

    @property
    def is_failure(self) -> bool:
        """Whether this makes the step fail: it is not met, and not only a warning."""
        return not self.passed and self.level == "error"


class StepFinished(_Event, frozen=True, kw_only=True, tag="step_finished"):
    """An instance has a result.

    Tokens are those of all requests sent for the instance, as reported, None if they are not
    known or nothing was sent; `cost_usd` is an estimate by their prices, None if one is not known.
    `answered_by` is the fallback model that answered, `served` the name by which the server says
    that the model answered, if it is another than was asked.

    `verdicts` say of each expectation whether it is met; `score` is how well they are met together,
    from 0 to 1, by weight, None if nothing is expected.
    """

    step: str
    source: Source
    simulated: bool
    seconds: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    answered_by: str | None = None
    served: str | None = None
    score: float | None = None
    verdicts: tuple[Verdict, ...] = ()


class StepFailed(_Event, frozen=True, kw_only=True, tag="step_failed"):
    """`error_class` is the exit class of RELIABILITY: failed, account, transient, ...

    `is_tolerated` if the step has `continue_on_error`, or one that uses its flow; `is_told` if it
    uses a flow in which a step failed, which was already reported and counted. Tokens and cost are
    as in `StepFinished`, and so are score and verdicts if it failed by its expectations.
    """

    step: str
    message: str
    error_class: str
    seconds: float
    is_tolerated: bool = False
    is_told: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None
    score: float | None = None
    verdicts: tuple[Verdict, ...] = ()


class StepSkipped(_Event, frozen=True, kw_only=True, tag="step_skipped"):
    step: str
    reason: str


class Warned(_Event, frozen=True, kw_only=True, tag="warned"):
    step: str | None
    message: str


class RunFinished(_Event, frozen=True, kw_only=True, tag="run_finished"):
    """How a run ended; if it was interrupted, `exit_code` is that of the signal.

    `outputs` are the flow's results by name. `asked` counts the instances that received answers
    in this run, failed ones included. `requests` counts all sends, `tokens` are those reported,
    `unknown` counts sends that may have been billed; `cost_usd` is an estimate from the
    catalogue's prices, None if one is unknown or the run is simulated. Beside the `failed` ones
    `tolerated` have failed with `continue_on_error`. Of the `instances` of this
    run `done` are complete, and another run does not request them again unless it `is_refresh`; if
    it `has_more`, those of some loop are not known. Of the failed ones `unusable` have an answer
    that the same run takes again, and fails with. Of the skipped ones `held_back` need nothing that
    failed: a run that keeps going runs them, too.
    """

    exit_code: int
    asked: int
    cached: int
    rendered: int
    failed: int
    skipped: int
    seconds: float
    simulated: bool
    outputs: dict[str, Json]
    requests: int = 0
    tokens: int = 0
    cost_usd: float | None = None
    unknown: int = 0
    done: int = 0
    instances: int = 0
    unusable: int = 0
    is_refresh: bool = False
    has_more: bool = False
    held_back: int = 0
    tolerated: int = 0


Event: TypeAlias = (
    RunStarted
    | RunEstimated
    | StepExpanded
    | StepStarted
    | RequestSent
    | TextArrived
    | RetryPlanned
    | FellBack
    | ToolCalled
    | Expected
    | FileWritten
    | StepFinished
    | StepFailed
    | StepSkipped
    | Warned
    | RunFinished
)
Listener: TypeAlias = Callable[[Event], None]


_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


class LeavingError(Exception):
    """Carries an `error` that ends programs, such as `SystemExit`, out of the tasks of a run.

    Raised in a task as it is, that would stop the event loop before the run has released anything.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


def leaving(function: Callable[_Given, _Found]) -> Callable[_Given, _Found]:
    """Return a function that raises `LeavingError` for what ends programs."""

    def called(*given: _Given.args, **named: _Given.kwargs) -> _Found:
        try:
            return function(*given, **named)
        except BaseException as error:
            if isinstance(error, Exception):
                raise
            raise LeavingError(error) from None

    return called


def ignore(_told: object) -> None:
    """Get an event, or a message, and do nothing."""
