"""What is kept of runs: the run, its instances, and every request that was sent.

The engine tells these to a `Recorder`; the history keeps them; commands and pages show them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

import msgspec

from poeflow.digest import Json
from poeflow.errors import EXIT_CLASSES
from poeflow.events import Purpose


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


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did: instances counted by where their results came from, and what was spent.

    `asked` are those of which an answer came, failed ones included. `requests` counts sends,
    `tokens` what was reported, `unknown` sends that may have been billed and nobody knows;
    `cost_usd` is estimated, None where a price is unknown. Of the `instances` that were known so
    many were `done`.
    """

    asked: int = 0
    cached: int = 0
    rendered: int = 0
    failed: int = 0
    skipped: int = 0
    requests: int = 0
    tokens: int = 0
    cost_usd: float | None = None
    unknown: int = 0
    done: int = 0
    instances: int = 0


class RunEnd(Counts, frozen=True, kw_only=True):
    """How a run ended, and what it had done by then.

    `exit_code` is that of the command line; 129, 130 and 143 mean it was cut short. One that
    `is_refresh` would ask everything again if it were run again as it was.
    """

    exit_code: int
    seconds: float
    is_refresh: bool = False
    outputs: Mapping[str, Json] = {}


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A request about to be sent for an instance, `began` seconds into the run.

    `purpose` is what it is to the instance: the first, a repair, a judge of its answer, ...
    `request` is what makes it the one it is, attachments as hashes; `fingerprint` its hash.
    """

    instance: str
    fingerprint: str
    provider: str
    model: str
    began: float
    request: dict[str, Json]
    purpose: Purpose = "answer"


class AnswerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a request, `ended` seconds into the run: an answer as it came, or an error.

    `retries` are the reasons of the attempts before the last. `sends` counts those that went out;
    tokens are those of all of them, as reported, and `cost_usd` is estimated by the price there
    was, None where that is not known.
    """

    ended: float
    answer: dict[str, Json] | None = None
    error: str | None = None
    error_class: str | None = None
    retries: tuple[str, ...] = ()
    sends: int = 1
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost_usd: float | None = None


class InstanceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How an instance of a step ended.

    `id` is its name in the run (`step[key]`, `parent/step` in a used flow). `began` and `seconds`
    are measured from the run's start. `source` is where the result came from, also of one that
    failed and had an answer; tokens are those of all requests of this run for it, of a cached one
    those of its answer. `reason` tells why it failed or was skipped. `request` is the first it went
    by, None for a render step. `files` are what it wrote, by project path with their hashes;
    `verdicts` what was expected of it.
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
    """A run in the history. `end` is None while it is at work, and for ever where it was killed.

    Then `so_far` is what its instances and requests come to by now.
    """

    id: int
    record: RunRecord
    end: RunEnd | None = None
    so_far: Counts | None = None

    @property
    def counts(self) -> Counts:
        """What the run did, as far as it came."""
        return self.end or self.so_far or Counts()


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
    state: Literal["ok", "failed", "interrupted", "unfinished"] | None = None
    simulated: bool | None = None
    text: str | None = None
    limit: int = 50


def counted(instances: Iterable[InstanceRecord], requests: Iterable[RequestRow]) -> Counts:
    """Return what a run did by what was kept of it: one that is at work, or was killed."""
    ended, sent = tuple(instances), tuple(requests)
    sources = Counter(one.source for one in ended)
    answers = [row.answer for row in sent if row.answer is not None]
    tokens = [(one.prompt_tokens or 0) + (one.completion_tokens or 0) for one in answers]
    costs = [one.cost_usd for one in answers if one.answer is not None]
    known = [cost for cost in costs if cost is not None]
    unknown = len(sent) - len(answers)
    return Counts(
        asked=sources["asked"],
        cached=sum(one.source == "cached" and one.status == "ok" for one in ended),
        rendered=sources["rendered"],
        failed=sum(one.status == "failed" for one in ended),
        skipped=sum(one.status == "skipped" for one in ended),
        requests=sum(one.sends for one in answers) + unknown,
        tokens=sum(tokens),
        cost_usd=sum(known) if known and len(known) == len(costs) else None,
        unknown=unknown,
        done=sum(one.status == "ok" for one in ended),
    )


def going_on(counts: Counts, *, exit_code: int | None, is_simulated: bool, is_refresh: bool) -> str:
    """Say how to go on with a run that was cut short or failed; empty where there is nothing to.

    `exit_code` is None for one that was killed.
    """
    is_cut_short = exit_code is None or EXIT_CLASSES.get(exit_code) == "interrupted"
    if not is_cut_short and (exit_code == 0 or not counts.done):
        return ""
    told = f"run it again{' without --refresh' if is_refresh else ''} to go on"
    if not counts.done:
        return told
    of = f"{counts.done:,} of {counts.instances:,}" if counts.instances else f"{counts.done:,}"
    are = "is" if counts.done == 1 and counts.instances <= 1 else "are"
    return f"{told}: {of} {are} done and not {'asked' if is_simulated else 'paid for'} again"


def how_to_go_on(row: RunRow) -> str:
    """Say how to go on with a run of the history that is not at work any more."""
    return going_on(
        row.counts,
        exit_code=None if row.end is None else row.end.exit_code,
        is_simulated=row.record.simulated,
        is_refresh=row.end is not None and row.end.is_refresh,
    )


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
