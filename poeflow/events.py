"""What happens during a run, as facts. Terminal, JSON Lines and history are listeners.

Times are seconds since the run began, from a monotonic clock.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from poeflow.digest import Json

Purpose = Literal["answer", "repair", "tools", "judge", "fallback"]
"""What a request is to its instance: the first, or to repair the answer, with what tools gave, to
judge the answer, in place of a model that failed."""


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    at: float


class RunStarted(_Event, frozen=True, kw_only=True, tag="run_started"):
    """`flow` is the flow's name; `steps` the instance ids in order; `simulated` marks offline."""

    flow: str
    steps: tuple[str, ...]
    simulated: bool


class RunEstimated(_Event, frozen=True, kw_only=True, tag="run_estimated"):
    """What a run with a large loop will send at least, told before it does.

    `most_requests` is None where there is no telling; `answer_tokens` where nothing says how long
    any answer may be; `cost_usd` where a price is not known.
    """

    requests: int
    most_requests: int | None
    prompt_tokens: int
    answer_tokens: int | None
    cost_usd: float | None


class StepExpanded(_Event, frozen=True, kw_only=True, tag="step_expanded"):
    """A step turned out to run `instances` times."""

    step: str
    instances: int


class StepStarted(_Event, frozen=True, kw_only=True, tag="step_started"):
    """`model` is None for a render step."""

    step: str
    model: str | None


class RequestSent(_Event, frozen=True, kw_only=True, tag="request_sent"):
    """`model` is asked for an answer that is not stored, for a `purpose`.

    A repair, a round of tools or a judge is a request of its own; text that arrives from then on
    is the answer to it.
    """

    step: str
    model: str
    purpose: Purpose = "answer"


class TextArrived(_Event, frozen=True, kw_only=True, tag="text_arrived"):
    """A piece of a streaming answer; `kind` tells the answer from the reasoning."""

    step: str
    text: str
    kind: Literal["text", "reasoning"] = "text"


class RetryPlanned(_Event, frozen=True, kw_only=True, tag="retry_planned"):
    """An attempt failed and another will follow after `wait` seconds. Drop the tail shown.

    `status` is the HTTP status the server gave, None where it gave none.
    """

    step: str
    attempt: int
    wait: float
    reason: str
    status: int | None = None


class FellBack(_Event, frozen=True, kw_only=True, tag="fell_back"):
    """The model that was asked failed for good, for `reason`; `model` is asked in its place."""

    step: str
    model: str
    reason: str


class ToolCalled(_Event, frozen=True, kw_only=True, tag="tool_called"):
    """A Python function of the flow ran; `is_error` where the model was told of an error."""

    step: str
    tool: str
    is_error: bool


class Expected(_Event, frozen=True, kw_only=True, tag="expected"):
    """An answer is not what the step expects; `message` has the value found."""

    step: str
    kind: str
    level: Literal["error", "warn"]
    message: str


class FileWritten(_Event, frozen=True, kw_only=True, tag="file_written"):
    """`path` is relative to the project's root; `size` in bytes."""

    step: str
    path: str
    size: int


class StepFinished(_Event, frozen=True, kw_only=True, tag="step_finished"):
    """`source` says where the text came from.

    Tokens are those of every request that was sent for the instance, as reported, None where that
    is not known or nothing was sent. `answered_by` names the model that stood in for the step's
    own.
    """

    step: str
    source: Literal["asked", "cached", "rendered", "ran"]
    simulated: bool
    seconds: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    answered_by: str | None = None


class StepFailed(_Event, frozen=True, kw_only=True, tag="step_failed"):
    """`error_class` is the exit class of RELIABILITY: failed, account, transient, ...

    `is_tolerated` marks a step that says `continue_on_error`, `is_told` one that uses a flow in
    which a step failed, which has been told and counted. Tokens are as for one that finished.
    """

    step: str
    message: str
    error_class: str
    seconds: float
    is_tolerated: bool = False
    is_told: bool = False
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class StepSkipped(_Event, frozen=True, kw_only=True, tag="step_skipped"):
    step: str
    reason: str


class Warned(_Event, frozen=True, kw_only=True, tag="warned"):
    step: str | None
    message: str


class RunFinished(_Event, frozen=True, kw_only=True, tag="run_finished"):
    """How a run ended, also one that was cut short: `exit_code` is then that of the signal.

    `outputs` are the flow's results by name, simulated or not as the run was. `asked` counts the
    instances of which answers came in this run, those that failed all the same included.
    `requests` counts sends of every kind, `tokens` those that were reported, `unknown` sends that
    may have been billed and nobody knows; `cost_usd` is estimated by the prices of the catalogue,
    None where one is unknown, and of a simulated run. Of the `instances` that are known so many are
    `done`, which another run does not ask again unless it `is_refresh`.
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
    is_refresh: bool = False


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
