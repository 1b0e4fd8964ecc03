"""The records of a run: the run itself, its instances and their status, and all requests.

An instance is `STEP`, `STEP[KEY]` in a loop, `STEP#2` for a sample, `USER/STEP` in a used flow.
"""

import functools
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, Literal, Protocol

import msgspec

from poeflow.digest import Json
from poeflow.errors import EXIT_CLASSES
from poeflow.events import Purpose, Source
from poeflow.lazy_pattern import lazy_pattern


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it begins.

    `flow` is the project path of its file, `started` in Unix seconds, `steps` each step with those
    it needs, in order. `commit` and `is_dirty` are git's, None without git. `models` are those that
    were tried in place of the flow's, by alias. If it `is_part`, steps or instances were chosen.
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
    models: Mapping[str, str] = {}
    is_part: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """What sets the run apart from others of its flow."""
        tried = tuple(f"{alias}={name}" for alias, name in sorted(self.models.items()))
        return (*(("simulated",) if self.simulated else ()), *tried)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """The totals of a run: instances by the source of their results, requests and costs.

    `asked` counts instances that received an answer, failed ones included. `requests` counts
    sends, `tokens` are those reported, `unknown` counts sends that may have been billed;
    `cost_usd` is an estimate, None if a price is unknown. Beside the `failed` ones `tolerated` have
    failed with `continue_on_error`. Of the `instances` of the run `done` are
    complete, and `unusable` failed with an answer that the same run takes again; if it `has_more`,
    those of some loop are not known. Of the skipped ones `held_back` need nothing that failed.
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
    unusable: int = 0
    has_more: bool = False
    held_back: int = 0
    tolerated: int = 0

    @property
    def endings(self) -> dict[str, int]:
        """How many instances ended in each way, by the words for it; none are left out."""
        ways = {
            "asked": self.asked,
            "cached": self.cached,
            "rendered": self.rendered,
            "failed": self.failed,
            "failed and passed over": self.tolerated,
            "skipped": self.skipped,
        }
        return {way: count for way, count in ways.items() if count}


class RunEnd(Counts, frozen=True, kw_only=True):
    """How a run ended, and its totals.

    `exit_code` is that of the command line; 129, 130 and 143 mean it was interrupted. If it
    `is_refresh`, the same run again would request everything again. `reason` is the error that
    stopped the run itself; those of single instances are theirs.
    """

    exit_code: int
    seconds: float
    reason: str = ""
    is_refresh: bool = False
    outputs: Mapping[str, Json] = {}


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A request about to be sent for an instance, `began` seconds into the run.

    `purpose` is its purpose for the instance: the answer, a repair, a judge, ... `request` is its
    identity, attachments as hashes; `fingerprint` is the hash of that.
    """

    instance: str
    fingerprint: str
    provider: str
    model: str
    began: float
    request: dict[str, Json]
    purpose: Purpose = "answer"


class AnswerRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a request, `ended` seconds into the run: the received answer, or an error.

    `retries` are the reasons of the attempts before the last. `sends` counts the sent attempts;
    tokens are those of all of them, as reported, and `cost_usd` is an estimate by the price at
    that time, None if it is not known.
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
    are measured from the run's start. `source` is the source of the result, also of a failed
    instance with an answer; `model` is the name by which the server said that it answered,
    `response_id` the name of that answer, `answered_by` a fallback model; tokens are those of all
    its requests in this run, or of its cached answer. `reason` says why it failed or was skipped;
    if it `is_tolerated`, its step has `continue_on_error`, or one that uses its flow.
    `request` is its first request, or its command, None for a render step. `files` are the written
    files, by project path with their hashes; `verdicts` the results of its expectations. `unread`
    is why its `answer` could not be read, if `text` is the default that stands in its place.
    """

    id: str
    step: str
    status: Literal["ok", "failed", "skipped"]
    key: str | None = None
    source: Source | None = None
    reason: str = ""
    is_tolerated: bool = False
    error_class: str | None = None
    began: float = 0.0
    seconds: float = 0.0
    model: str | None = None
    response_id: str | None = None
    answered_by: str | None = None
    fingerprint: str | None = None
    request: dict[str, Json] | None = None
    text: str | None = None
    reasoning: str = ""
    data: Json = None
    files: Mapping[str, str] = {}
    media: tuple[str, ...] = ()
    verdicts: tuple[dict[str, Json], ...] = ()
    unread: str = ""
    answer: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Recorder(Protocol):
    """Stores the records of one run. A recorder never stops a run: an error is reported once."""

    async def requested(self, record: RequestRecord) -> int:
        """Store a request before it is sent, on disk when this returns; return its number."""

    def answered(self, number: int, record: AnswerRecord, *, stored: str | None = None) -> None:
        """Store the result of a request.

        If its answer is in the store, `stored` is the fingerprint there, and `record` has none.
        """

    def instance(self, record: InstanceRecord) -> None:
        """Store how an instance ended."""

    def ended(self, record: RunEnd) -> None:
        """Store how the run ended; everything is on disk when this returns."""


class RunRow(msgspec.Struct, frozen=True, kw_only=True):
    """A run in the history. `end` is None while it is running, and forever if it was killed.

    Then `so_far` is what its instances and requests come to by now.
    """

    id: int
    record: RunRecord
    end: RunEnd | None = None
    so_far: Counts | None = None

    @property
    def counts(self) -> Counts:
        """The totals of the run so far."""
        return self.end or self.so_far or Counts()

    def may_lack(self, instance: str) -> bool:
        """Whether it may have left out an instance of its flow: it was a part, or cut short."""
        is_part = self.record.is_part or self.result in ("unfinished", "interrupted")
        return is_part and outer_step(instance) in self.record.steps

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
    """A filter for runs: those that match all given fields, newest first, at most `limit`.

    `flow` is a project path, `since` in Unix seconds, `text` is searched in prompts and answers. A
    run `is_trial` if it tried other models than the flow's.
    """

    flow: str | None = None
    since: float | None = None
    state: Literal["ok", "failed", "interrupted", "unfinished"] | None = None
    simulated: bool | None = None
    is_trial: bool | None = None
    text: str | None = None
    limit: int = 50


def run_counts(instances: Iterable[InstanceRecord], requests: Iterable[RequestRow]) -> Counts:
    """Return the counts of a run, from its records, if it is at work or was killed."""
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
        rendered=sum(one.source == "rendered" and one.status == "ok" for one in ended),
        failed=sum(one.status == "failed" and not one.is_tolerated for one in ended),
        tolerated=sum(one.is_tolerated for one in ended),
        skipped=sum(one.status == "skipped" for one in ended),
        requests=sum(one.sends for one in answers) + unknown,
        tokens=sum(tokens),
        cost_usd=sum(known) if known and len(known) == len(costs) else None,
        unknown=unknown,
        done=sum(one.status == "ok" for one in ended),
    )


_TO_CORRECT: Final = ("failed", "usage", "invalid")
"""The classes of exit codes after which the same run fails again."""


def going_on(counts: Counts, *, exit_code: int | None, is_simulated: bool, is_refresh: bool) -> str:
    """Return how to continue a run that was interrupted or failed; empty if there is no way.

    `exit_code` is None if the run was killed.
    """
    kind = None if exit_code is None else EXIT_CLASSES.get(exit_code)
    if kind not in (None, "interrupted") and (exit_code == 0 or not counts.done):
        return ""
    advice = f"run it again{' without --refresh' if is_refresh else ''} to go on"
    if kind in _TO_CORRECT:
        advice = f"correct what failed and {advice}"
        advice = "run it again with --failed to go on" if counts.unusable else advice
    if not counts.done:
        return advice
    whole = f" of this run's {counts.instances:,}" if counts.instances else ""
    whole += " or more" if whole and counts.has_more else ""
    are = "is" if counts.done == 1 and counts.instances <= 1 else "are"
    again = f"not {'asked' if is_simulated else 'paid for'} again"
    return f"{advice}: {counts.done:,}{whole} {are} done and {again}"


def not_come_to(counts: Counts) -> str:
    """Say how many instances a run did not come to after a failure, and how to run them."""
    if not counts.held_back:
        return ""
    them, do = ("it", "does") if counts.held_back == 1 else ("them", "do")
    return (
        f"{counts.held_back:,} of {counts.skipped:,} skipped {do} not need what failed: "
        f"run it with --keep-going to run {them}, too"
    )


def how_to_go_on(row: RunRow) -> str:
    """Return how to continue a run of the history that is no longer running."""
    advice = going_on(
        row.counts,
        exit_code=None if row.end is None else row.end.exit_code,
        is_simulated=row.record.simulated,
        is_refresh=row.end is not None and row.end.is_refresh,
    )
    return "; ".join(filter(None, (not_come_to(row.counts), advice)))


class Records(Protocol):
    """Queries of the history."""

    def runs(self, wanted: RunFilter) -> tuple[RunRow, ...]:
        """Return the runs that match, newest first."""

    def run(self, number: int) -> RunRow | None: ...

    def instances(self, run: int) -> tuple[InstanceRecord, ...]:
        """Return the instances of a run, in the order they ended."""

    def requests(self, run: int, instance: str | None = None) -> tuple[RequestRow, ...]:
        """Return the requests sent in a run, all or those of one instance, in order."""

    def changes(self) -> int:
        """Return a number that changes whenever something is added."""


Measure = Literal["instance", "step", "limit", "usual"]
InstanceState = Literal[
    "fresh", "new", "stale", "missing", "edited", "needed", "unknown", "skipped", "orphaned"
]


_STEP_NAME: Final = r"[a-z_][a-z0-9_]*"
_STEP: Final = lazy_pattern(_STEP_NAME, re.IGNORECASE)
_PATH: Final = rf"{_STEP_NAME}(?:(?:#[0-9]+)?/{_STEP_NAME})*"
_WITHIN: Final = lazy_pattern(r"\](?:#[0-9]+)?/")
_LAST: Final = lazy_pattern(rf"({_PATH})(?:\[(.*)\])?(?:#([0-9]+))?", re.IGNORECASE | re.DOTALL)
_AT: Final = lazy_pattern(rf"{_PATH}@", re.IGNORECASE)


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """Requests of one kind that a run would send for an instance: `least` to `most` of them.

    `model` is None if it is not known before the run. `prompt_tokens` is the average of each.
    `answer_tokens` is an estimate from the source in `answer_from`: the last answer of the
    instance, the mean of other instances of its step, the limit on the answer, or the usual
    length of its kind; None if there is none.
    """

    purpose: Purpose
    model: str | None
    least: int
    most: int
    prompt_tokens: int
    answer_tokens: int | None = None
    answer_from: Measure | None = None


class InstanceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The status of one instance.

    `reasons` are all its reasons. `calls` is the least number of requests a run would send for it,
    `most_calls` the number with every repair, tool round and judge, without failed attempts;
    a request that several instances send counts for the first of them;
    `kinds` lists them, also for an unknown instance that may be requested. `model` is the model it
    would call, `request` what it would send, attachments as hashes; None if that is not known
    before another step has run. `answered_by` is the name of the model that answered, if it is not
    the one that was asked, or not `answered_before`: the name in the lock that git has, if that is
    another.
    """

    id: str
    state: InstanceState
    reasons: tuple[str, ...] = ()
    calls: int = 0
    most_calls: int | None = 0
    model: str | None = None
    request: dict[str, Json] | None = None
    kinds: tuple[Calls, ...] = ()
    answered_by: str | None = None
    answered_before: str | None = None

    @property
    def is_current(self) -> bool:
        """Return whether a run would change nothing."""
        return self.state in ("fresh", "skipped")


def outer_step(instance: str) -> str:
    """Return the step of the outer flow that an instance belongs to."""
    found = _STEP.match(instance)
    return instance if found is None else found[0]


def step_of(instance: str) -> str:
    """Return the step of an instance with the steps that use its flow: `a/b` of `a/b[key]#2`."""
    return _parted(instance)[0]


def whole_instance(name: str) -> str:
    """Return the instance that a sample belongs to: `a[key]` of `a[key]#2`."""
    step, key, sample = _parted(name)
    if sample is None:
        return name
    return step if key is None else f"{step}[{key}]"


def key_of(instance: str) -> str | None:
    """Return the key of an instance, None if its step runs once."""
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
    """Return the names of the steps from the outer flow down: `a`, `b` of `a[x]/b[y]`."""
    steps = (one for one in wholes_of(instance) if step_of(one) == one)
    return tuple(one.rpartition("/")[2] for one in steps)[::-1]


def instance_id(written: str) -> str:
    """Return the id for `STEP@KEY`; a printed id is returned unchanged.

    A step's name ends at the first `@` after it; the rest is the key.
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
    """Return an instance as on the command line: `STEP@KEY`, or the step alone without a key."""
    step, key, sample = _parted(instance)
    return instance if key is None or sample is not None else f"{step}@{key}"


def named(written: str, known: Collection[str]) -> str:
    """Return the `known` id that matches a printed id or `STEP@KEY`.

    If there is none, return the id for `written`.
    """
    wanted = instance_id(written)
    if written in known or wanted in known:
        return written if written in known else wanted
    return next((one for one in known if as_written(one) == written), wanted)


@functools.lru_cache(maxsize=1024)  # each instance is named often while it runs
def _parted(instance: str) -> tuple[str, str | None, str | None]:
    """Return the step, key and sample of an instance: `a[x]/b`, `y`, `2` of `a[x]/b[y]#2`.

    A key may contain anything, so the parts are searched from the end: the step follows the last
    `]/`, or `]#2/` of a turn, that can separate a step from the step that uses its flow.
    """
    if "/" not in instance and "#" not in instance:
        step, bracket, key = instance.partition("[")
        if not bracket:
            return instance, None, None
        if step.isascii() and step.isidentifier() and key.endswith("]"):
            return step, key[:-1], None
    for end in reversed([one.end() for one in _WITHIN.finditer(instance)]):
        found = _LAST.fullmatch(instance, end)
        if found is not None:
            return f"{instance[:end]}{found[1]}", found[2], found[3]
    found = _LAST.fullmatch(instance)
    return (instance, None, None) if found is None else (found[1], found[2], found[3])
