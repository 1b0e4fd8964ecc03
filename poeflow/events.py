"""What happens during a run, as facts. Terminal, JSON Lines and history are listeners.

Times are seconds since the run began, from a monotonic clock.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

from poeflow.digest import Json


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    at: float


class RunStarted(_Event, frozen=True, kw_only=True, tag="run_started"):
    """`flow` is the flow's name; `steps` the instance ids in order; `simulated` marks offline."""

    flow: str
    steps: tuple[str, ...]
    simulated: bool


class StepStarted(_Event, frozen=True, kw_only=True, tag="step_started"):
    """`model` is None for a render step."""

    step: str
    model: str | None


class TextArrived(_Event, frozen=True, kw_only=True, tag="text_arrived"):
    """A piece of a streaming answer; `kind` tells the answer from the reasoning."""

    step: str
    text: str
    kind: Literal["text", "reasoning"] = "text"


class RetryPlanned(_Event, frozen=True, kw_only=True, tag="retry_planned"):
    """An attempt failed and another will follow after `wait` seconds. Drop the tail shown."""

    step: str
    attempt: int
    wait: float
    reason: str


class FileWritten(_Event, frozen=True, kw_only=True, tag="file_written"):
    """`path` is relative to the project's root; `size` in bytes."""

    step: str
    path: str
    size: int


class StepFinished(_Event, frozen=True, kw_only=True, tag="step_finished"):
    """`source` says where the text came from; tokens are as reported, None where unknown."""

    step: str
    source: Literal["asked", "cached", "rendered"]
    simulated: bool
    seconds: float
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class StepFailed(_Event, frozen=True, kw_only=True, tag="step_failed"):
    """`error_class` is the exit class of RELIABILITY: failed, account, transient, ..."""

    step: str
    message: str
    error_class: str
    seconds: float


class StepSkipped(_Event, frozen=True, kw_only=True, tag="step_skipped"):
    step: str
    reason: str


class Warned(_Event, frozen=True, kw_only=True, tag="warned"):
    step: str | None
    message: str


class RunFinished(_Event, frozen=True, kw_only=True, tag="run_finished"):
    """`outputs` are the flow's results by name, simulated or not as the run was."""

    exit_code: int
    asked: int
    cached: int
    rendered: int
    failed: int
    skipped: int
    seconds: float
    simulated: bool
    outputs: dict[str, Json]


Event: TypeAlias = (
    RunStarted
    | StepStarted
    | TextArrived
    | RetryPlanned
    | FileWritten
    | StepFinished
    | StepFailed
    | StepSkipped
    | Warned
    | RunFinished
)
Listener: TypeAlias = Callable[[Event], None]
