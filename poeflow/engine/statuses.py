"""Statuses of instances in a survey that sends nothing, and the requests that they would send."""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from poeflow.client.catalogue import Catalogue
from poeflow.digest import Json
from poeflow.engine.asking.forecast import Forecast
from poeflow.engine.asking.request import EqualRequests, ModelRequest, ToBeAsked
from poeflow.engine.freshness import Freshness
from poeflow.engine.lock_entries import LockProof
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.results import InstanceOutcome, StepResult
from poeflow.errors import PoeflowError
from poeflow.flowfile.step_settings import judges_of
from poeflow.planning.instances import StepInstance
from poeflow.planning.plan import Plan
from poeflow.project.output_files import EditedError, Look
from poeflow.records import Calls, InstanceState, InstanceStatus
from poeflow.store.lock.entries import LockEntry, other_model

GONE: Final = "it is not in the flow any more"
"""Why the entry of an instance is stale that no step has now."""
_UNMADE: Final = (
    "no step writes it any more; `poeflow run --prune-outputs` removes it, "
    "`poeflow accept` keeps it"
)
_LEFT: Final = "no step writes it any more; it was edited by hand, so it stays, and is yours"
_NOT_LOCKED: Final = "the lock does not have it"
_NEW: Final = (_NOT_LOCKED,)
_ASKED_ALWAYS: Final = "a run asks for it again: it has cache: false"
_RUNS_ALWAYS: Final = "it runs on every run: it does not say all that it reads (reads:)"


class Statuses:
    """Makes the statuses of one flow's instances. `looks` has the states of their files.

    `equal_requests` are those of the whole run. Without `holds_requests` a status has no request,
    so that one takes little memory.
    """

    def __init__(
        self,
        plan: Plan,
        freshness: Freshness,
        lock_update: LockUpdate,
        catalogue: Catalogue | None,
        *,
        looks: Mapping[str, Look],
        equal_requests: EqualRequests,
        holds_requests: bool = True,
    ) -> None:
        self._freshness = freshness
        self._lock_update = lock_update
        self._steps = plan.steps
        self._forecast = Forecast(plan.flow, lock_update, catalogue)
        self._looks = looks
        self._judges = {step: judges_of(spec) for step, spec in plan.steps.items()}
        self._equal = equal_requests
        self._holds_requests = holds_requests

    def made(
        self,
        instance: StepInstance,
        upstream: InstanceOutcome | None,
        result: StepResult,
        entry: LockEntry | None,
    ) -> InstanceStatus:
        """Return the status of an instance that has a result; `entry` is its next lock entry."""
        locked = self._locked(instance, entry)
        looks = [self._looks.get(path) for path in result.files]
        state: InstanceState = "fresh"
        reasons: tuple[str, ...] = ()
        if locked is None:
            state, reasons = "new", (_NOT_LOCKED,)
        elif entry is None or not _is_as_in(locked, entry):
            state = "stale"
            reasons = self._freshness.reasons(instance, upstream) or ("its result is another",)
        elif "edited" in looks:
            state, reasons = "edited", _files(result, looks, "edited", "was edited")
        elif not _LACKING.keys().isdisjoint(looks):
            state = "missing"
            files = (_files(result, looks, look, words) for look, words in _LACKING.items())
            reasons = tuple(itertools.chain.from_iterable(files))
        if state in ("new", "stale") and result.source == "cached":
            reasons += ("its answer is in the cache",)
        name, by = self._freshness.name(instance), None if locked is None else other_model(locked)
        return _status(name, state, reasons, model=result.model, answered_by=by)

    def _locked(self, instance: StepInstance, entry: LockEntry | None) -> LockEntry | None:
        """Return the last run's entry of an instance; of several, one with the results of `entry`.

        None if there is none.
        """
        own, name = self._freshness.entry(instance), self._freshness.name(instance)
        if own is None or entry is None or _is_as_in(own, entry):
            return own
        found = self._lock_update.candidates(name)
        return next((one for one in found if _is_as_in(one, entry)), own)

    def current(
        self,
        name: str,
        proof: LockProof,
        instance: StepInstance | None = None,
        *,
        is_read: bool = False,
    ) -> InstanceStatus:
        """Return the status of an instance that need not run, but for `cache: false`.

        If its answer `is_read`, a new one may make others stale.
        """
        lacking = tuple(f"{path[2:]} {_IN_GIT[look]}" for path, look in proof.lacking.items())
        if lacking and not proof.edited:
            return _status(name, "missing", lacking)
        if proof.moved_from is not None:
            return _status(name, "stale", proof.stale or (f"{proof.moved_from[2:]} is to move",))
        if not proof.edited and not proof.stale:
            state: InstanceState = "fresh" if proof.entry.status == "ok" else "skipped"
            by, is_kept = other_model(proof.entry), proof.entry.accepted is not None
            settings = None if instance is None or state == "skipped" else instance.settings
            if instance is None or settings is None or settings.cache or is_kept:
                return InstanceStatus(id=name, state=state, answered_by=by)
            kinds = self._forecast.sure(name, instance.step, settings, None)
            sent = proof.entry.request
            if sent is not None:
                self._equal.note(name, sent, settings)
            found = _status(name, state, (_ASKED_ALWAYS,), kinds=kinds, answered_by=by)
            return msgspec.structs.replace(found, most_calls=None) if is_read else found
        reasons = tuple(f"{path[2:]} {_EDITS[look]}" for path, look in proof.edited.items())
        if proof.stale:
            return _status(name, "stale", (*proof.stale, *reasons, "kept: edited by hand"))
        return _status(name, "edited", reasons)

    def skipped(self, name: str, instance: StepInstance, entry: LockEntry | None) -> InstanceStatus:
        """Return the status of an instance that is skipped by its own `if`."""
        locked = self._freshness.entry(instance)
        is_same = locked is not None and locked.status == "skipped"
        if is_same and entry is not None:
            return _status(name, "skipped", ())
        return _status(name, "stale" if locked is not None else "new", (instance.skip,))

    def pending(
        self,
        name: str,
        instance: StepInstance,
        upstream: InstanceOutcome | None,
        missing: ToBeAsked,
    ) -> InstanceStatus:
        """Return the status of an instance that must be asked, or whose command must run."""
        request = missing.request
        locked = self._lock_update.entry(name)
        reasons = _NEW if locked is None else self._freshness.reasons(instance, upstream)
        state: InstanceState = "stale"
        if locked is None:
            state = "new"
        elif request is None:
            return self._to_be_run(name, instance, locked, reasons)
        elif not reasons and locked.is_of(request.fingerprint):
            state, reasons = "missing", self._what_is_missing(locked)
        elif not reasons:
            reasons = ("its request is another",)
        if request is None:
            return self._running(name, instance.step, state, reasons)
        step, is_new, is_to_judge = instance.step, locked is None, request.purpose == "judge"
        if is_to_judge and self._steps[step].kind == "model":
            kinds = self._forecast.of_judge(name, step, request, missing)
        else:
            may_be = is_new and bool(self._judges[step])
            is_unjudged = may_be and (is_to_judge or self._is_unjudged(step, request))
            kinds = self._forecast.sure(
                name, step, request.settings, request.identity, missing, is_unjudged=is_unjudged
            )
        if not missing.is_sure:
            kinds = _unsure(kinds)
        return self._asking(name, state, reasons, request, kinds)

    def _is_unjudged(self, step: str, request: ModelRequest | None) -> bool:
        """Whether its judges are asked about no other answer to the question of a request.

        That may be an equal one, also of another step. `request` is None for a text that answers
        none.
        """
        question = "" if request is None else request.chat.messages[-1].text
        return self._equal.is_unjudged(question, self._judges[step])

    def _asking(
        self,
        name: str,
        state: InstanceState,
        reasons: tuple[str, ...],
        request: ModelRequest | None,
        kinds: tuple[Calls, ...],
    ) -> InstanceStatus:
        """Return the status of an instance that is asked, with its request or without it."""
        if request is not None:
            self._equal.note(name, request.fingerprint, request.settings)
        if request is None or self._holds_requests:
            return _status(name, state, reasons, request=request, kinds=kinds)
        return _status(name, state, reasons, model=request.chat.model, kinds=kinds)

    def _to_be_run(
        self, name: str, instance: StepInstance, locked: LockEntry, reasons: tuple[str, ...]
    ) -> InstanceStatus:
        """Return the status of an instance whose command would have to be run again."""
        if reasons:
            return self._running(name, instance.step, "stale", reasons)
        if self._steps[instance.step].runs_always:
            return self._running(name, instance.step, "stale", (_RUNS_ALWAYS,))
        gone = self._what_is_missing(locked)
        is_asked = self._steps[instance.step].kind == "model"  # its answer is here
        return self._running(name, instance.step, "missing", gone[:-1] if is_asked else gone)

    def _running(
        self, name: str, step: str, state: InstanceState, reasons: tuple[str, ...]
    ) -> InstanceStatus:
        """Return the status of an instance whose command runs, with the requests of its judges."""
        has_judges = bool(self._judges[step])
        is_unjudged = has_judges and state == "new" and self._is_unjudged(step, None)
        kinds = self._forecast.judging(step, is_unjudged=is_unjudged)
        return _status(name, state, reasons, kinds=kinds)

    def needed(
        self, name: str, step: str, missing: ToBeAsked | None, *, reader: str
    ) -> InstanceStatus:
        """Return the status of a current instance that is asked again because `reader` needs it.

        `missing` is None if it uses another answer that is not stored here. It has no request if
        only functions that judge its answer must run.
        """
        request = None if missing is None else missing.request
        settings, identity = None, None
        if request is not None:
            settings, identity = request.settings, request.identity
        is_command = self._steps[step].kind == "command"
        if missing is not None and request is None and not is_command:
            reason = f"{reader} needs what its functions say of it: they must run"
            kinds = _unsure(self._forecast.judging(step, is_unjudged=False))
            return self._asking(name, "needed", (reason,), None, kinds)
        reasons = (f"{reader} needs its answer, which is not here",)
        kinds = self._forecast.sure(name, step, settings, identity)
        if missing is not None and not missing.is_sure:
            kinds = _unsure(kinds)
        return self._asking(name, "needed", reasons, request, kinds)

    def blocked(
        self, name: str, reason: str, planned: Iterable[StepInstance] = ()
    ) -> tuple[InstanceStatus, ...]:
        """Return the status of an instance, or all `planned` of a step, that waits for another."""
        found: list[InstanceStatus] = []
        for one in planned:
            is_locked = self._freshness.entry(one) is not None
            own = self._freshness.reasons(one, None) if is_locked else (_NOT_LOCKED,)
            called = self._freshness.name(one)
            kinds = self._forecast.possible(called, one.step, one.settings)
            found.append(_status(called, "unknown", (reason, *own), kinds=kinds))
        return tuple(found) or (_status(name, "unknown", (reason,)),)

    def failed(self, name: str, error: PoeflowError) -> InstanceStatus:
        """Return the status of a failed instance: its answer fails, or a file was edited."""
        state: InstanceState = "edited" if isinstance(error, EditedError) else "stale"
        return _status(name, state, (error.message,))

    def _what_is_missing(self, entry: LockEntry) -> tuple[str, ...]:
        """Return what is missing of an instance: its answer, and those of its files."""
        looks = self._freshness.looks(entry).items()
        gone = tuple(f"{path[2:]} {_LACKING[look]}" for path, look in looks if look in _LACKING)
        return (*gone, "its answer is not here")


def _unsure(kinds: Iterable[Calls]) -> tuple[Calls, ...]:
    """Return the requests of an instance of which it is not known whether they are sent."""
    return tuple(msgspec.structs.replace(one, least=0) for one in kinds)


def _is_as_in(entry: LockEntry, other: LockEntry) -> bool:
    """Whether two entries have the same request, result and files."""
    return (entry.request, entry.result, entry.outputs) == (
        other.request,
        other.result,
        other.outputs,
    )


def gone_statuses(
    gone: Mapping[str, LockEntry | None], orphans: Iterable[str], left: Collection[str]
) -> Iterator[InstanceStatus]:
    """Yield the statuses of entries that no instance has now, then of files that no step writes.

    The files `left` were edited: those are told with their entries, if they have any.
    """
    rest = {*left}
    for name, entry in gone.items():
        files = sorted(entry.outputs.keys() & left) if entry is not None else ()
        rest.difference_update(files)
        reasons = (GONE, *(unmade_words(path, is_edited=True) for path in files))
        yield InstanceStatus(id=name, state="stale", reasons=reasons)
    for path in orphans:
        yield InstanceStatus(id=path[2:], state="orphaned", reasons=(_UNMADE,))
    for path in sorted(rest):
        yield InstanceStatus(id=path[2:], state="orphaned", reasons=(_LEFT,))


def unmade_words(path: str, *, is_edited: bool) -> str:
    """Return a sentence about a file that no step writes now."""
    return f"{path[2:]}: {_LEFT if is_edited else _UNMADE}"


def _status(
    name: str,
    state: InstanceState,
    reasons: tuple[str, ...],
    *,
    model: str | None = None,
    request: ModelRequest | None = None,
    kinds: tuple[Calls, ...] = (),
    answered_by: str | None = None,
) -> InstanceStatus:
    identity: dict[str, Json] | None = None if request is None else request.identity
    calls = most_calls = 0
    for kind in kinds:
        calls, most_calls = calls + kind.least, most_calls + kind.most
    return InstanceStatus(
        id=name,
        state=state,
        reasons=reasons,
        calls=calls,
        most_calls=most_calls,
        model=model if request is None else request.chat.model,
        request=identity,
        kinds=kinds,
        answered_by=answered_by,
    )


_LACKING: Final[Mapping[Look, str]] = {
    "missing": "is missing",
    "old": "is an older one",
    "conflict": "has conflict marks",
}
"""States of files that a run writes, in words."""
_IN_GIT: Final = {**_LACKING, "missing": "is missing; git has it"}
_EDITS: Final[Mapping[Look, str]] = {
    "edited": "was edited",
    "foreign": "was edited",
    "marked": "has conflict marks",
}


def why_it_stays(proof: LockProof) -> str:
    """Return a message: why a file stays although its request changed, and how to replace it."""
    path = proof.entry.accepted.path if proof.entry.accepted is not None else "its file"
    return (
        f"{'; '.join(proof.stale)}: {path} is kept, as it was edited by hand "
        "(`poeflow accept` keeps it for good, `run --merge-edits` merges the new answer into it, "
        "--force replaces it)"
    )


def _files(
    result: StepResult, looks: Sequence[str | None], wanted: str, words: str
) -> tuple[str, ...]:
    return tuple(
        f"{path[2:]} {words}"
        for path, look in zip(result.files, looks, strict=True)
        if look == wanted
    )
