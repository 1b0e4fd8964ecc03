"""What is recorded of a run: the run, its instances and how they stand, and every request sent.

An instance is `STEP`, `STEP[KEY]` in a loop, `STEP#2` for a sample, `USER/STEP` in a used flow.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, Literal, Protocol

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

    @property
    def result(self) -> str:
        """How the run ended: `ok`, or the class of its exit code; `unfinished` if it did not."""
        return "unfinished" if self.end is None else EXIT_CLASSES.get(self.end.exit_code, "failed")


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


Measure = Literal["instance", "step", "limit", "usual"]
InstanceState = Literal[
    "fresh", "new", "stale", "missing", "edited", "needed", "unknown", "skipped", "orphaned"
]


_STEP: Final = re.compile(r"[a-z_][a-z0-9_]*", re.IGNORECASE)
_PATH: Final = rf"{_STEP.pattern}(?:/{_STEP.pattern})*"
_LAST: Final = re.compile(rf"({_PATH})(?:\[(.*)\])?(?:#([0-9]+))?", re.IGNORECASE | re.DOTALL)
_AT: Final = re.compile(rf"{_PATH}@", re.IGNORECASE)


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one kind that a run would send for an instance: `least` to `most` of them.

    `model` is None where it is not known before the run. `prompt_tokens` are those of each on
    average. `answer_tokens` are a guess that is taken from what `answer_from` says: the last answer
    of the instance, the mean of other instances of its step, the limit an answer has, or what is
    usual for its kind; None where there is no telling.
    """

    purpose: Purpose
    model: str | None
    least: int
    most: int
    prompt_tokens: int
    answer_tokens: int | None = None
    answer_from: Measure | None = None


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one instance stands.

    `reasons` are all there are. `calls` is how many requests a run would send for it at least,
    `most_calls` with every repair, tool round and judge, failed attempts left out; `kinds` says
    which, also of an unknown instance that may have to be asked. `model` is whom it would ask,
    `request` what it would send, attachments as hashes; None where that is not known before another
    step has run.
    """

    id: str
    state: InstanceState
    reasons: tuple[str, ...] = ()
    calls: int = 0
    most_calls: int | None = 0
    model: str | None = None
    request: dict[str, Json] | None = None
    kinds: tuple[Calls, ...] = ()

    @property
    def is_current(self) -> bool:
        """Whether a run would change nothing."""
        return self.state in ("fresh", "skipped")


def outer_step(instance: str) -> str:
    """Return the step of the flow itself that an instance is of, or is used by."""
    found = _STEP.match(instance)
    return instance if found is None else found[0]


def step_of(instance: str) -> str:
    """Return the step an instance is of, with those it is used by: `a/b` of `a/b[key]#2`."""
    return _parted(instance)[0]


def whole_instance(name: str) -> str:
    """Return the instance that one of several samples is of: `a[key]` of `a[key]#2`."""
    step, key, sample = _parted(name)
    if sample is None:
        return name
    return step if key is None else f"{step}[{key}]"


def key_of(instance: str) -> str | None:
    """Return the key of an instance, None where its step runs once."""
    return _parted(instance)[1]


def wholes_of(instance: str) -> Iterator[str]:
    """Yield an instance and all it is part of: `a[x]/b#2`, `a[x]/b`, `a[x]`, `a`."""
    yield instance
    step, key, sample = _parted(instance)
    if sample is not None and key is not None:
        yield f"{step}[{key}]"
    if step != instance:
        yield step
    above, _, _ = step.rpartition("/")
    if above:
        yield from wholes_of(above)


def path_of(instance: str) -> tuple[str, ...]:
    """Return the names of the steps from the flow's own down: `a`, `b` of `a[x]/b[y]`."""
    steps = (one for one in wholes_of(instance) if step_of(one) == one)
    return tuple(one.rpartition("/")[2] for one in steps)[::-1]


def instance_id(written: str) -> str:
    """Return the id that `STEP@KEY` stands for; one that is written as it is printed stays so.

    A step's name ends at the first `@` behind it, and all the rest is the key.
    """
    found = _AT.match(written)
    if found is not None:
        return f"{written[: found.end() - 1]}[{written[found.end() :]}]"
    step, separator, key = written.rpartition("]/")
    inner = _AT.match(key) if separator else None
    if inner is None:
        return written
    return f"{step}]/{key[: inner.end() - 1]}[{key[inner.end() :]}]"


def as_written(instance: str) -> str:
    """Return an instance as a command line names it: `STEP@KEY`, the step alone without a key."""
    step, key, sample = _parted(instance)
    return instance if key is None or sample is not None else f"{step}@{key}"


def named(written: str, known: Collection[str]) -> str:
    """Return the id among those `known` that is meant by one as it is printed, or by `STEP@KEY`.

    Where there is none, it is the id that `written` stands for.
    """
    wanted = instance_id(written)
    if written in known or wanted in known:
        return written if written in known else wanted
    return next((one for one in known if as_written(one) == written), wanted)


def _parted(instance: str) -> tuple[str, str | None, str | None]:
    """Return the step, key and sample of an instance: `a[x]/b`, `y`, `2` of `a[x]/b[y]#2`.

    A key may hold anything, so the parts are looked for from the end: what follows the last `]/`
    that can stand between a flow's user and a step of it is the step.
    """
    at = instance.rfind("]/")
    while at >= 0:
        found = _LAST.fullmatch(instance, at + 2)
        if found is not None:
            return f"{instance[: at + 2]}{found[1]}", found[2], found[3]
        at = instance.rfind("]/", 0, at + 1)
    found = _LAST.fullmatch(instance)
    return (instance, None, None) if found is None else (found[1], found[2], found[3])
