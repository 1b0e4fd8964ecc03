"""What is kept of runs: the run, its instances, and every request that was sent.

The engine tells these to a `Recorder`; the history keeps them; commands and pages show them.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from poeflow.digest import Json


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it begins.

    `flow` is the project path of its file, `started` in Unix seconds, `steps` each step with those
    it needs, in order. `commit` and `is_dirty` are git's, None where there is no git.
    """

    flow: str
    name: str
    started: float
    simulated: bool
    version: str
    inputs: Mapping[str, Json] = {}
    steps: Mapping[str, tuple[str, ...]] = {}
    commit: str | None = None
    is_dirty: bool | None = None


class RunEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended: instances counted by where their results came from.

    `requests` counts sends, `tokens` what was reported, `cost_usd` is estimated, None where a price
    is unknown. `exit_code` is that of the command line; 130 and 143 mean it was cancelled.
    """

    exit_code: int
    seconds: float
    asked: int = 0
    cached: int = 0
    rendered: int = 0
    failed: int = 0
    skipped: int = 0
    requests: int = 0
    tokens: int = 0
    cost_usd: float | None = None
    outputs: Mapping[str, Json] = {}


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A request about to be sent for an instance, `began` seconds into the run.

    `request` is what makes it the one it is, attachments as hashes; `fingerprint` its hash.
    """

    instance: str
    fingerprint: str
    provider: str
    model: str
    began: float
    request: dict[str, Json]


class AnswerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request, `ended` seconds into the run: an answer as it came, or an error.

    `retries` are the reasons of the attempts before the last.
    """

    ended: float
    answer: dict[str, Json] | None = None
    error: str | None = None
    error_class: str | None = None
    retries: tuple[str, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class InstanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How an instance of a step ended.

    `id` is its name in the run (`step[key]`, `parent/step` in a used flow). `began` and `seconds`
    are measured from the run's start. `reason` tells why it failed or was skipped. `request` is the
    first it went by, None for a render step. `files` are what it wrote, by project path with their
    hashes; `verdicts` what was expected of it.
    """

    id: str
    step: str
    status: Literal["ok", "failed", "skipped"]
    key: str | None = None
    source: Literal["asked", "cached", "rendered", "ran"] | None = None
    reason: str = ""
    error_class: str | None = None
    began: float = 0.0
    seconds: float = 0.0
    model: str | None = None
    answered_by: str | None = None
    fingerprint: str | None = None
    request: dict[str, Json] | None = None
    text: str | None = None
    reasoning: str = ""
    data: Json = None
    files: Mapping[str, str] = {}
    media: tuple[str, ...] = ()
    verdicts: tuple[dict[str, Json], ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Recorder(Protocol):
    """Keeps the records of one run. A recorder never stops a run: what fails is told once."""

    async def requested(self, record: RequestRecord) -> int:
        """Keep a request before it is sent: on disk when this returns. Gives its number."""

    def answered(self, number: int, record: AnswerRecord) -> None:
        """Keep what became of a request."""

    def instance(self, record: InstanceRecord) -> None:
        """Keep how an instance ended."""

    def ended(self, record: RunEnd) -> None:
        """Keep how the run ended; everything is on disk when this returns."""


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run in the history. `end` is None while it is at work, and for ever where it was killed."""

    id: int
    record: RunRecord
    end: RunEnd | None = None


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """A request in the history. Without `answer` it may or may not have been billed."""

    id: int
    record: RequestRecord
    answer: AnswerRecord | None = None


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs are wanted: all that fit what is given, the newest first, `limit` at most.

    `flow` is a project path, `since` in Unix seconds, `text` is searched in prompts and answers.
    """

    flow: str | None = None
    since: float | None = None
    state: Literal["ok", "failed", "cancelled", "unfinished"] | None = None
    simulated: bool | None = None
    text: str | None = None
    limit: int = 50


class Records(Protocol):
    """What can be asked of the history."""

    def runs(self, wanted: RunFilter) -> tuple[RunRow, ...]:
        """Return the runs that fit, the newest first."""

    def run(self, number: int) -> RunRow | None: ...

    def instances(self, run: int) -> tuple[InstanceRecord, ...]:
        """Return the instances of a run, in the order they ended."""

    def requests(self, run: int, instance: str | None = None) -> tuple[RequestRow, ...]:
        """Return the requests sent in a run, all or those of one instance, in order."""

    def changes(self) -> int:
        """Return a number that is another one whenever something was added."""
