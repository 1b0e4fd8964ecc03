"""One running flow: its instances, their outcomes, and what other instances see of them."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.engine.asking.answer_schemas import AnswerSchemas
from poeflow.engine.asking.request import ToBeAsked
from poeflow.engine.freshness import Freshness
from poeflow.engine.lock_entries import LockProof
from poeflow.engine.results import InstanceOutcome, StepResult, Unknown
from poeflow.engine.run_state import RunState
from poeflow.engine.statuses import Statuses, why_it_stays
from poeflow.engine.step_state import StepOutcome, StepUnderWay, carried_digest
from poeflow.engine.stored_results import StoredResults
from poeflow.errors import PoeflowError, StepError, UsageError
from poeflow.events import StepExpanded
from poeflow.flowfile.loops import is_fan_out, is_fold
from poeflow.planning.checked import last_steps, needed_steps, steps_of_outputs
from poeflow.planning.instances import StepInstance, instance_keys
from poeflow.planning.plan import Plan, prepare, reason_to_skip
from poeflow.records import InstanceStatus
from poeflow.store.lock.entries import LockEntry
from poeflow.templates.reader import Reads
from poeflow.templates.render import Values
from poeflow.templates.values import own_items

_DONE: Final = InstanceOutcome(name="", key=None, ending="made")
_PROVEN: Final = InstanceOutcome(name="", key=None, ending="current")
"""What is held of an instance that ended well and that nobody reads."""
_LEFT_OUT: Final = InstanceOutcome(name="", key=None, ending="left out")
"""What is held of one that is not selected, in a run that sends nothing or has no lock."""
_PENDING: Final = InstanceOutcome(name="", key=None, ending="pending")
"""What is held of one that must be asked, in such a run, if nothing needs it."""


class FlowState:
    """What is known of a flow's steps so far.

    `prefix` begins the names of its instances. `items` has the names of those of late loops that
    the lock proved without them, by key. If it `is_left_out`, no instance of the flow is
    selected. `passed` are the hashes of inputs that a step of the flow that uses it decides.
    """

    def __init__(
        self,
        plan: Plan,
        run_state: RunState,
        *,
        prefix: str,
        is_left_out: bool = False,
        passed: Mapping[str, str] | None = None,
    ) -> None:
        self.plan = plan
        self.run_state = run_state
        self.under_way: dict[str, StepUnderWay] = {}
        self.outcomes: dict[str, StepOutcome] = {}
        self.items: dict[str, Mapping[str | None, Mapping[str, Json]]] = {}
        self._items_read: dict[str, Reads] = {}
        self._prefix = prefix
        self._is_left_out = is_left_out
        context = run_state.context
        self.schemas = AnswerSchemas(plan.texts.reader, plan.file)
        self.freshness = Freshness(
            plan,
            context,
            run_state.lock_update,
            self.outcomes,
            name=self.name,
            attachments=run_state.attachments,
            schemas=self.schemas,
            accepting=run_state.accepting,
            passed=passed,
        )
        self.stored = StoredResults(plan, context, self.schemas, self.freshness)
        self.may_prove = run_state.accepting is not None or not run_state.lock_update.is_blank
        """Whether any instance can be current: none is without a lock."""
        self._is_survey = not context.asks
        self.folds = frozenset(name for name in plan.steps if is_fold(plan.flow, name))
        """The steps whose instances run in order, as each builds on the one before."""
        self._read = needed_steps(plan.checked) | steps_of_outputs(plan.checked) | self.folds
        if prefix:  # whoever uses this flow compares what it shows with the lock
            self._read |= _shown(plan, is_all=False)
        self._shown = _shown(plan, is_all=not context.selection.is_whole)

    @functools.cached_property
    def statuses(self) -> Statuses:
        """What makes the statuses of instances, in a run that sends nothing."""
        run_state, context = self.run_state, self.run_state.context
        return Statuses(
            self.plan,
            self.freshness,
            run_state.lock_update,
            context.catalogue,
            looks=run_state.saver.looks,
            equal_requests=run_state.asker.requests.equal,
            holds_requests=context.holds_results,
        )

    def name(self, instance: str) -> str:
        """Return the name of an instance in the run, from its id in the flow."""
        return f"{self._prefix}{instance}"

    def name_of(self, step: str, key: str | None) -> str:
        """Return the name of the instance of a step that has a key."""
        return self.name(step if key is None else f"{step}[{key}]")

    def covered(self, step: str, instances: Sequence[StepInstance]) -> Sequence[int]:
        """Return the positions of the instances of a step that are selected."""
        if self._is_left_out:
            return ()
        return self.run_state.selection.positions(self.name(step), instance_keys(instances))

    def touches(self, step: str) -> bool:
        """Whether any instance of a step is selected."""
        return not self._is_left_out and self.run_state.selection.touches(self.name(step))

    def is_read(self, step: str) -> bool:
        """Whether anything may use the results of a step, also to show them at the end."""
        holds = self.run_state.context.holds_results
        return holds or step in self._read or step in self._shown

    def outcome_to_hold(self, step: str, outcome: InstanceOutcome) -> InstanceOutcome:
        """Return what to hold in memory of an instance's outcome: the part that may be read."""
        if outcome.ending == "pending":
            is_needed = bool(self._prefix) or outcome.key is None or step in self._read
            return outcome if is_needed else _PENDING
        is_well = outcome.ending in ("made", "current") and outcome.status == "ok"
        if not is_well or step in self._read:
            return outcome
        if self._is_survey:  # whoever uses this flow compares what was found with the lock
            return outcome if self._prefix or outcome.ending == "made" else _PROVEN
        if not self.is_read(step):
            return _DONE if outcome.ending == "made" else _PROVEN
        if outcome.result is None or self.run_state.context.holds_results:
            return outcome
        result = StepResult(
            text=outcome.result.text,
            value=outcome.result.value,
            source=outcome.result.source,
            key=outcome.result.key,
            outputs=outcome.result.outputs,
        )
        return InstanceOutcome(
            name=outcome.name, key=outcome.key, ending=outcome.ending, result=result
        )

    def values(self, steps: Iterable[str]) -> dict[str, Json]:
        """Return the values for templates that use these steps."""
        values = self.plan.early_values()
        values["steps"] = {step: self.outcomes[step].value for step in steps}
        return values

    def seen(self, step: str, outcome: InstanceOutcome) -> dict[str, Json]:
        """Return what templates see of one instance: its verdicts, too, if a text reads them."""
        return outcome.values(is_judged=step in self.plan.checked.judged)

    def expand(self, under_way: StepUnderWay) -> None:
        """Publish a step's instances for steps that run over them, and report how many run.

        Raises `StepError` if the name of one holds a key: the lock stores names.
        """
        step, instances = under_way.step, under_way.instances
        keys = instance_keys(instances)
        if named := "\n".join([key for key in keys if key]):
            found = named.encode("utf-8", "replace")
            self.run_state.context.refuse_keys(found, "the name of an instance")
        self.under_way[step] = under_way
        if is_fan_out(self.plan.steps[step]) and self.touches(step):
            name, at = self.name(step), self.run_state.elapsed()
            count = self.run_state.selection.count(name, keys)
            self.run_state.loops[name] = keys
            self.run_state.context.listen(StepExpanded(at=at, step=name, instances=count))
            if self.freshness.is_late(step) and not any(one.skip for one in instances[:1]):
                self.run_state.lock_update.note_order(name, keys)

    def settle(self, step: str, outcomes: Sequence[InstanceOutcome]) -> None:
        """Note how a step ended, from the outcomes of its instances."""
        is_alone = len(outcomes) == 1 and outcomes[0].key is None
        fans_out = is_fan_out(self.plan.steps[step]) and not is_alone
        if step in self.outcomes:
            self.freshness.forget_all()
        if outcomes or fans_out:
            own = functools.partial(self._own, step)
            self.outcomes[step] = StepOutcome(
                outcomes,
                is_fan_out=fans_out,
                own=own,
                is_judged=step in self.plan.checked.judged,
                has_late_items=step in self.freshness.late_items,
            )

    def _own(self, step: str) -> dict[str, dict[str, Json]]:
        """Return the items of a step's instances by key; those from a step if a text reads them."""
        has_late_items = step in self.freshness.late_items
        known = self.plan.instances.get(step, ())
        instances = self.under_way[step].instances if has_late_items else known
        return {one.key or "": own_items(one.names) for one in instances}

    def made(
        self, instance: StepInstance, upstream: InstanceOutcome | None, result: StepResult
    ) -> InstanceOutcome:
        """Return the outcome of an instance that has a result."""
        entry = self.freshness.entry_of(instance, upstream, result)
        statuses: tuple[InstanceStatus, ...] = ()
        if self._is_survey:
            statuses = (self.statuses.made(instance, upstream, result, entry),)
        return InstanceOutcome(
            name=self.name(instance.id),
            key=instance.key,
            ending="made",
            result=result,
            entry=entry,
            statuses=statuses,
        )

    def cached(
        self, instance: StepInstance, proof: LockProof, result: StepResult
    ) -> InstanceOutcome:
        """Return the outcome of an instance that the lock proves, with its stored result."""
        return InstanceOutcome(
            name=self.name(instance.id),
            key=instance.key,
            ending="made",
            result=result,
            entry=proof.entry,
        )

    def current(self, instance: StepInstance, proof: LockProof) -> InstanceOutcome:
        """Return the outcome of an instance that need not run, and report its edited files."""
        name = self.name(instance.id)
        statuses: tuple[InstanceStatus, ...] = ()
        if self._is_survey:
            is_read = instance.step in self._read
            statuses = (self.statuses.current(name, proof, instance, is_read=is_read),)
            if proof.turns:
                statuses += tuple(self.statuses.current(*one) for one in proof.turns.items())
        else:
            if proof.turns:
                self.run_state.lock_update.keep_last(name)
            if proof.edited:
                self.run_state.saver.warn_edited(name, proof.edited)
            elif proof.stale:
                self.run_state.emitter(name).warned([why_it_stays(proof)])
        return InstanceOutcome(
            name=name,
            key=instance.key,
            ending="current",
            entry=proof.entry,
            statuses=statuses,
        )

    async def moved(
        self, instance: StepInstance, upstream: InstanceOutcome | None, proof: LockProof | None
    ) -> InstanceOutcome | None:
        """Return the outcome of an instance whose text goes to another path now, and put it there.

        None if more has changed. Raises `StepError`.
        """
        self.stored.note_moved(instance)
        proof = proof or self.stored.moved_proof(instance, upstream)
        if proof is None or proof.moved_from is None or instance.save is None:
            return None
        name, saver = self.name(instance.id), self.run_state.saver
        saver.claim(name, instance.save)
        entry = self.freshness.with_current_recipe(instance, upstream, proof.entry)
        entry = await saver.taken_over(name, entry, proof.moved_from, instance.save)
        return self.current(instance, proof if self._is_survey else LockProof(entry))

    def skipped(self, instance: StepInstance, entry: LockEntry | None) -> InstanceOutcome:
        """Return the outcome of an instance that is skipped by its own `if`."""
        name = self.name(instance.id)
        return InstanceOutcome(
            name=name,
            key=instance.key,
            ending="skipped",
            reason=instance.skip,
            entry=entry,
            statuses=(self.statuses.skipped(name, instance, entry),) if self._is_survey else (),
        )

    def leave_out(self, step: str, key: str | None) -> InstanceOutcome:
        """Leave out an instance that is not selected, and return its outcome."""
        if not self.may_prove and not self._prefix and step not in self._read:
            return _LEFT_OUT
        name = self.name_of(step, key)
        self.run_state.note_left_out(name)
        if self._is_survey and step not in self._read:
            return _LEFT_OUT
        entry = self.run_state.lock_update.entry(name)
        return InstanceOutcome(
            name=name,
            key=key,
            ending="left out",
            entry=None if entry is not None and entry.status == "empty" else entry,
        )

    def blocked(
        self, instance: StepInstance, reason: str, *, is_skipped: bool = False
    ) -> InstanceOutcome:
        """Return the outcome of an instance, or a whole step, that did not run.

        If it `is_skipped`, it blocks nothing: the step that it runs over was skipped.
        """
        if self._is_survey and not is_skipped:
            return self.unknown(instance, Unknown(reason))
        return InstanceOutcome(
            name=self.name(instance.id),
            key=instance.key,
            ending="skipped" if is_skipped else "blocked",
            reason=reason,
        )

    def held_back(self, instance: StepInstance, reason: str) -> InstanceOutcome:
        """Return the outcome of an instance, or a whole step, that the run did not come to."""
        return msgspec.structs.replace(self.blocked(instance, reason), is_held_back=True)

    def needing(self, instance: StepInstance, culprit: InstanceOutcome) -> InstanceOutcome:
        """Return the outcome of an instance, or a whole step, that needs one without a result."""
        if culprit.is_left_out and self.run_state.selection.only:
            hint = "run it first, or everything up to this step with --until"
            return self.failed(instance, UsageError(culprit.blocks_because, hint=hint))
        because = culprit.blocks_because
        if culprit.is_held_back:
            return self.held_back(instance, because)
        return self.blocked(instance, because, is_skipped=not culprit.blocks)

    def unknown(self, instance: StepInstance, missing: Unknown) -> InstanceOutcome:
        """Return the outcome of an instance, or a whole step, that cannot be known yet.

        In a run that asks it fails: it needs an answer that is not part of the run.
        """
        if not self._is_survey:
            return self.failed(instance, UsageError(missing.reason, hint=missing.hint))
        name, reason = self.name(instance.id), missing.reason
        planned = self.plan.instances.get(instance.step, ()) if instance.key is None else ()
        return InstanceOutcome(
            name=name,
            key=instance.key,
            ending="pending",
            reason=reason,
            statuses=self.statuses.blocked(name, reason, planned),
        )

    def pending(
        self,
        name: str,
        instance: StepInstance,
        upstream: InstanceOutcome | None,
        missing: ToBeAsked,
    ) -> InstanceOutcome:
        """Return the outcome of an instance, called `name`, that would have to be asked."""
        return InstanceOutcome(
            name=name,
            key=instance.key,
            ending="pending",
            statuses=(self.statuses.pending(name, instance, upstream, missing),),
        )

    def failed(self, instance: StepInstance, error: PoeflowError) -> InstanceOutcome:
        """Return the outcome of an instance, or a whole step, that failed."""
        for one in filter(self.outcomes.__contains__, self.plan.edges[instance.step]):
            if self._is_survey and (maker := self.outcomes[one].maker_of(error)):
                return self.unknown(instance, Unknown(f"unknown until {maker} has run"))
        name = self.name(instance.id)
        is_tolerated = self.plan.steps[instance.step].continue_on_error and not error.is_shared
        return InstanceOutcome(
            name=name,
            key=instance.key,
            ending="tolerated" if is_tolerated else "failed",
            error=error,
            statuses=(self.statuses.failed(name, error),) if self._is_survey else (),
        )

    async def upstream(self, instance: StepInstance, index: int) -> InstanceOutcome | None:
        """Wait for the instance of another step that this one runs over, if any."""
        if instance.key is None or instance.step not in self.plan.chains:
            return None
        return await self.under_way[self.plan.chains[instance.step]].outcome(index)

    def read_ahead(self, step: str, names: Iterable[str]) -> None:
        """Read the stored answers of instances of a step together.

        Nothing is read if nothing reads them, nor if this run asks for nothing.
        """
        if self.run_state.context.asks and self.is_read(step):
            self.stored.read_ahead(step, map(self.run_state.lock_update.entry, names))

    def known_instances(
        self, step: str, source: str | None, values: Values
    ) -> Sequence[StepInstance]:
        """Return a step's instances: as planned, else from the results of the steps it needs."""
        if step in self.plan.instances:
            return self.plan.instances[step]
        if ("steps", step, "if") not in self.plan.checked.varying:
            skip = reason_to_skip(self.plan, step, values)
            if skip:
                return (StepInstance(step=step, is_ready=True, skip=skip),)
        if source is not None:
            under_way = self.under_way.get(source)
            sources = () if under_way is None else under_way.instances
            found = self.plan.fan_out.chained(step, sources)
            if not self.lacks_items(source):
                return found
            return [self.plan.early_instance(step, key) for key in found.keys]
        reader, reads = self.plan.texts.reader, self._items_read.setdefault(step, Reads())
        with reader.recording(reads):
            return self.plan.fan_out.instances(step, values)

    def reads_of_items(self, step: str) -> Reads | None:
        """Return what was read to find the items of a step, or of the loop that it runs over.

        None if they are known before a run: then they are hashed themselves.
        """
        chains = self.plan.chains
        while step in chains:
            step = chains[step]
        return self._items_read.get(step)

    def last_keys(self, step: str) -> list[str]:
        """Return the keys of a late loop's instances in the last run, or of those it runs over."""
        source = self.under_way.get(self.plan.chains.get(step, ""))
        if source is None:
            return self.run_state.lock_update.keys(self.name(step))
        return [key for key in instance_keys(source.instances) if key is not None]

    def lacks_items(self, step: str) -> bool:
        """Whether the items of a loop over what a step gives are not known: the lock has keys."""
        if step in self.plan.instances or step not in self.under_way:
            return False
        first = self.under_way[step].instances[:1]
        return any(one.key is not None and one.names.keys() <= {"key"} for one in first)

    def find_items(self, step: str, values: Values) -> None:
        """Find the items of a step that `lacks_items`; one that is not there any more has none."""
        under_way = self.under_way[step]
        source = self.under_way.get(self.plan.chains.get(step, ""))
        found = source.instances if source else self.known_instances(step, None, values)
        self.items[step] = {one.key: one.names for one in found}
        under_way.instances = [
            msgspec.structs.replace(one, names=self.items[step].get(one.key, one.names))
            for one in under_way.instances
        ]

    def carrying(self, previous: InstanceOutcome | None, instance: StepInstance) -> StepInstance:
        """Return an instance of a step of `folds` with the hash of what it takes from `previous`.

        Nothing for the first one; None if that hash is not known.
        """
        carried: str | None = ""
        if previous is not None:
            flow, entry = self.plan.flow, previous.entry
            carried = None if entry is None else carried_digest(flow, instance.step, entry)
        return msgspec.structs.replace(instance, carried=carried)

    def ended_by(
        self,
        step: StepUnderWay,
        before: int | None,
        instance: StepInstance,
        upstream: InstanceOutcome | None,
    ) -> InstanceOutcome | None:
        """Return how an instance ends if the one at `before` blocks it, or the lock proves both."""
        outcome = None if before is None else step.outcomes[before]
        if outcome is None or not (outcome.blocks or outcome.is_absent):
            return None
        if outcome.blocks:
            return self.needing(instance, outcome)
        proof = self.freshness.current_proof(instance, upstream)
        return None if proof is None else self.current(instance, proof)

    def ready(self, instance: StepInstance, values: Values, reads: Reads) -> StepInstance:
        """Return an instance that is ready to run, its `if` decided. Raises `StepError`.

        What was read for that, and to find its item, is added to `reads`.
        """
        if (found := self.reads_of_items(instance.step)) is not None:
            reads.add(found)
        if ("steps", instance.step, "if") in self.plan.checked.late:
            reader = self.plan.texts.reader
            with reader.recording(reads):
                skip = reason_to_skip(self.plan, instance.step, values)
            if skip:
                return msgspec.structs.replace(instance, is_ready=True, skip=skip)
        if instance.is_ready:
            return instance
        ready, problems = prepare(self.plan, instance, values)
        if problems:
            raise StepError(str(problems[0]))
        return ready


def _shown(plan: Plan, *, is_all: bool) -> frozenset[str]:
    """Return the steps whose results are shown at the end."""
    if is_all:
        return frozenset(plan.steps)
    return frozenset(() if plan.flow.outputs else last_steps(plan.checked))
