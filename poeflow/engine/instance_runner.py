"""One instance: skipped if it is current, loaded if its answer is needed, or run."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from functools import partial

import msgspec

from poeflow.client.messages import Message
from poeflow.digest import Json
from poeflow.engine.asking.request import NotHere, ToBeAsked
from poeflow.engine.flow_state import FlowState
from poeflow.engine.lock_entries import LockProof
from poeflow.engine.results import InstanceOutcome, StepResult, Unknown
from poeflow.engine.run_state import StoppedError, side_by_side
from poeflow.engine.saver import MOVES
from poeflow.engine.step import StepRunner
from poeflow.engine.step_state import AskWhen, Ready, StepInput, StepUnderWay
from poeflow.errors import PoeflowError, StepError
from poeflow.flowfile.loops import ITEM_NAMES, continues_itself
from poeflow.planning.instances import StepInstance
from poeflow.templates.reader import Reads
from poeflow.templates.render import Values


class InstanceRunner:
    """Runs the instances of a flow."""

    def __init__(self, flow: FlowState, steps: StepRunner) -> None:
        self._flow = flow
        self._run_state = flow.run_state
        self._steps = steps
        self._absent: dict[str, Ready] = {}
        """Instances that the last run answered, and whose answer is not here."""
        self._fetching: dict[str, asyncio.Lock] = {}
        """Held while the answers of a step are loaded or asked again, by its id."""
        self._loading: dict[str, asyncio.Lock] = {}
        """The same for one instance, by its name."""
        self._previous: dict[str, InstanceOutcome] = {}
        """The instance that each builds on, by its name, if that is one of its own step."""
        self._loaded: dict[str, InstanceOutcome] = {}
        """Instances whose answer had to be loaded, with their results if they are stored."""
        self.renewed: set[str] = set()
        """Steps of which an answer was asked again, and is another than before."""

    async def run(self, step: StepUnderWay, index: int, instance: StepInstance) -> None:
        """Run the instance at `index` unless it is current, and record its outcome."""
        flow, began = self._flow, self._run_state.elapsed()
        try:
            upstream = await flow.upstream(instance, index)
            before = ended = None
            if step.step in flow.folds:
                before = await step.before(index)
                instance = flow.carrying(self.outcome(step, before), instance)
                ended = flow.ended_by(step, before, instance, upstream)
            proof = step.proof_of(index)
            ended = ended or self.without_running(instance, upstream, proof)
            if ended is None and instance.save is not None:
                ended = await flow.moved(instance, upstream, proof)
            outcome = ended or await self._attempt(step, instance, upstream, before=before)
        except StoppedError as stop:
            outcome = flow.held_back(instance, stop.message)
        except PoeflowError as error:
            outcome = flow.failed(instance, error)
        flow.freshness.forget(instance)
        step.settle(index, flow.outcome_to_hold(step.step, self._run_state.settle(outcome, began)))

    def without_running(
        self, instance: StepInstance, upstream: InstanceOutcome | None, proof: LockProof | None
    ) -> InstanceOutcome | None:
        """Return the outcome of an instance that cannot run, or that the lock proves; else None."""
        if upstream is not None and upstream.status != "ok":
            return self._flow.needing(instance, upstream)
        if self._flow.stored.is_always_asked(instance):
            return None
        if proof is not None and proof.moved_from is None:
            return self._flow.current(instance, proof)
        if self._flow.stored.is_proof_enough(instance, upstream):
            proof = self._flow.freshness.current_proof(instance, upstream)
            return None if proof is None else self._flow.current(instance, proof)
        return self._cached(instance, upstream) if self._flow.stored.may_use(instance) else None

    def _cached(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> InstanceOutcome | None:
        """Return an outcome with the stored answer if the lock proves that, else None."""
        flow = self._flow
        proof = flow.freshness.current_proof(instance, upstream)
        if proof is None or proof.edited:
            return None
        if not flow.is_read(instance.step):
            return flow.current(instance, proof)
        result = flow.stored.answer(instance.step, instance.key, proof.entry)
        if result is None:
            return None
        if self._run_state.context.hears_text and instance.settings is not None:
            self._run_state.emitter(flow.name(instance.id)).started(instance.settings.model)
        return flow.cached(instance, proof, result)

    async def _attempt(
        self,
        step: StepUnderWay,
        instance: StepInstance,
        upstream: InstanceOutcome | None,
        *,
        before: int | None,
    ) -> InstanceOutcome:
        """Run an instance, unless its request shows that it is current."""
        flow = self._flow
        ready = await self._ready(step, instance, step.values, upstream, before=before)
        if isinstance(ready, Unknown):
            return flow.unknown(instance, ready)
        if ready.instance.skip:
            entry = flow.freshness.skipped(ready.instance, ready.upstream, ready.reads)
            return flow.skipped(ready.instance, entry)
        proof = await self._proof_without_answer(ready)
        if proof is not None and not (proof.stale and self._run_state.context.git):
            return await self._current(ready, proof)
        work = self._input(ready)
        result = await self._steps.run(work)
        if isinstance(result, NotHere):
            if (proof := self._proof_of_answered(ready, work)) is not None:
                return await self._current(ready, proof)
            result = await self._steps.run(msgspec.structs.replace(work, ask="always"))
        match result:
            case StepResult():
                return flow.made(ready.instance, ready.upstream, result)
            case ToBeAsked():
                return flow.pending(ready.name, ready.instance, ready.upstream, result)
            case NotHere():
                return flow.unknown(instance, Unknown("the answer is not here"))
            case Unknown():
                return flow.unknown(instance, result)

    async def _with_carry(
        self,
        step: StepUnderWay,
        before: int | None,
        values: Values,
        reader: str,
        *,
        may_ask: bool,
        reads: Reads,
    ) -> Values | Unknown:
        """Return values with what `reader` takes from the instance at `before`, loaded if absent.

        All that must be asked again for it is asked in order, from the last that is stored; what
        decides what it takes is added to `reads`.
        """
        chain: list[InstanceOutcome] = []
        while before is not None and (outcome := self.outcome(step, before)) is not None:
            chain.append(outcome)
            if not outcome.is_absent or self._flow.stored.loaded(step.step, outcome) is not None:
                break
            if not may_ask and outcome.name in self._loaded:
                return Unknown(f"unknown until {outcome.name} has run")
            before = await step.before(before)
        previous: InstanceOutcome | None = None
        for one in reversed(chain):
            loaded: InstanceOutcome | Unknown = one
            if one.is_absent:
                loaded = await self._with_result(step.step, one, reader if may_ask else None)
            if isinstance(loaded, Unknown):
                for other in chain[: chain.index(one)]:
                    self._report_absent(step.step, other, reader)
                return loaded
            if loaded.is_absent:
                return Unknown(f"unknown until {one.name} has run")
            previous = self._previous[reader] = loaded
        if previous is None:
            return {**values, "carry": None}
        preparer = self._flow.plan.preparer
        seen = {**values, "previous": self._flow.seen(step.step, previous)}
        return {**values, "carry": preparer.carried(step.step, seen, reads)}

    def outcome(self, step: StepUnderWay, index: int | None) -> InstanceOutcome | None:
        """Return how the instance at `index` ended, with its result if that was loaded."""
        found = None if index is None else step.outcomes[index]
        return self._loaded.get(found.name, found) if found and found.is_absent else found

    async def _ready(
        self,
        step: StepUnderWay,
        instance: StepInstance,
        values: Values,
        upstream: InstanceOutcome | None,
        *,
        before: int | None,
        may_ask: bool = True,
    ) -> Ready | Unknown:
        """Return an instance with all that it needs: the answer it runs over is loaded.

        `values` are those of its step. Raises `StepError`.
        """
        plan, name, reads = self._flow.plan, self._flow.name(instance.id), Reads()
        if step.step in self._flow.folds:
            found = await self._with_carry(step, before, values, name, may_ask=may_ask, reads=reads)
            if isinstance(found, Unknown):
                return found
            values, instance = found, self._flow.carrying(self.outcome(step, before), instance)
        names = await self._names(instance, name if may_ask else None)
        if isinstance(names, Unknown):
            return names
        instance = msgspec.structs.replace(instance, names=names)
        own = {**values, **instance.own_names}
        source = plan.chains.get(instance.step, "")
        if upstream is not None and upstream.is_absent:
            loaded = await self._with_result(source, upstream, name if may_ask else None)
            if isinstance(loaded, Unknown):
                return loaded
            upstream = loaded
        if upstream is not None:
            own["source"] = self._flow.seen(source, upstream)
        instance, lock = self._flow.ready(instance, own, reads), self._run_state.lock_update
        return Ready(instance, name, lock.knows(name), own, upstream, reads)

    async def _names(
        self, instance: StepInstance, reader: str | None
    ) -> Mapping[str, Json] | Unknown:
        """Return the names of an instance, with those of its item if its texts use them."""
        flow, step = self._flow, instance.step
        is_used = not flow.plan.checked.uses[step].names.isdisjoint(ITEM_NAMES)
        if not is_used or not flow.lacks_items(step):
            return flow.items.get(step, {}).get(instance.key, instance.names)
        missing = await self._find_items(step, reader)
        if missing is None and instance.key not in flow.items[step]:
            raise StepError(f"{flow.name(instance.id)} is not there any more")
        return flow.items[step][instance.key] if missing is None else missing

    async def _current(self, ready: Ready, proof: LockProof) -> InstanceOutcome:
        """Return the outcome of an instance that the lock proves; its files lose their marks."""
        flow, instance = self._flow, ready.instance
        for name, one in {ready.name: proof, **proof.turns}.items():
            await self._run_state.saver.take_sides(name, one)
        return await flow.moved(instance, ready.upstream, proof) or flow.current(instance, proof)

    async def _proof_without_answer(self, ready: Ready) -> LockProof | None:
        """Return the proof of an instance that is current whatever answer is stored, else None."""
        proof = self._flow.stored.text_proof(ready.instance, ready.upstream)
        if proof is None and ready.is_known:
            proof = await self._proof_of_edited(ready)
        return proof or self._flow.stored.side_proof(ready.instance, ready.upstream)

    async def _proof_of_edited(self, ready: Ready) -> LockProof | None:
        """Return the proof of an instance whose text is an accepted file.

        It stays accepted when its request changes; if the request is the same but written
        differently, it is current. The file goes with the path to which its step saves.
        """
        freshness = self._flow.freshness
        accepted = freshness.accepted_proof(ready.instance, ready.upstream)
        if accepted is None:
            return None
        proof = freshness.current_proof(ready.instance, ready.upstream)
        if proof is not None:
            return proof
        found = await self._steps.run(work := self._input(ready, ask="never"))
        request = None if isinstance(found, Unknown) else found.fingerprint
        target = None if accepted.edited else self._steps.claim_target(work)
        entry = await self._run_state.saver.moved(work.name, accepted.entry, target)
        if entry is None:
            return msgspec.structs.replace(accepted, stale=accepted.stale or (MOVES,))
        if request is None or not entry.is_of(request):
            return msgspec.structs.replace(accepted, entry=entry)
        entry = freshness.with_current_recipe(ready.instance, ready.upstream, entry)
        return msgspec.structs.replace(accepted, entry=entry, stale=())

    def _proof_of_answered(self, ready: Ready, work: StepInput) -> LockProof | None:
        """Return the proof of an instance of the last run whose answer is not stored here.

        None if a file it wrote is missing, too: then it is asked again. Raises `StepError`.
        """
        if self._run_state.selection.refreshes(ready.name):
            return None
        judge = partial(self._steps.text_judged_again, work)
        proof = self._flow.freshness.answered_proof(
            ready.instance, ready.upstream, reads=work.reads, judge=judge
        )
        if proof is not None:
            self._absent[ready.name] = ready
        return proof

    def _input(self, ready: Ready, *, ask: AskWhen = "unless answered") -> StepInput:
        """Return the input of an instance's step. Raises `StepError`."""
        instance, upstream, is_known = ready.instance, ready.upstream, ready.is_known
        freshness, stored = self._flow.freshness, self._flow.stored
        is_held, edited = False, None
        if ask != "never" and is_known:
            several = stored.has_samples(instance.step)
            is_held = freshness.may_be_answered(instance, upstream, has_samples=several)
            edited = freshness.accepted_proof(instance, upstream)
        if ask == "unless answered" and not is_held:
            ask = "always"
        return StepInput(
            instance=instance,
            step=instance.step,
            name=ready.name,
            values=ready.values,
            conversation=self._conversation(instance.step, ready.name, upstream),
            locked=freshness.matching_entry(instance, upstream) if is_known else None,
            answer_entries=freshness.answer_entries(instance, upstream) if is_known else (),
            ask=ask,
            base=stored.text_before_edits(instance, edited),
            recipe=freshness.recipe(instance, upstream),
            reads=ready.reads,
        )

    def _input_again(self, ready: Ready, outcome: InstanceOutcome, *, ask: AskWhen) -> StepInput:
        """Return the input of an absent instance's step, to read it again. Raises `StepError`."""
        work, step = self._input(ready, ask=ask), ready.instance.step
        entry = outcome.entry if self._flow.plan.steps[step].kind == "command" else None
        is_stored = entry and self._flow.stored.answer(step, outcome.key, entry) is not None
        return msgspec.structs.replace(work, is_stored=bool(is_stored))

    def _conversation(
        self, step: str, name: str, upstream: InstanceOutcome | None
    ) -> tuple[Message, ...]:
        """Return the conversation that an instance continues."""
        flow = self._flow.plan.flow
        if (history := flow.steps[step].history) is None:
            return ()
        if continues_itself(flow, step):
            return self._previous[name].conversation if name in self._previous else ()
        if upstream is not None and history == self._flow.plan.chains[step]:
            return upstream.conversation
        return next((one.conversation for one in self._flow.outcomes[history].instances), ())

    async def fetch(self, steps: Iterable[str], *, reader: str) -> Unknown | None:
        """Load the answers of current steps, and ask again for those that are not stored.

        `reader` is the instance or step that needs them. Returns why one is unavailable, if nothing
        may be asked. Raises `StepError`.
        """
        needed = list(steps)
        fetch_step = partial(self._fetch_step, reader=reader)
        found = await side_by_side(needed, fetch_step, width=len(needed))
        return next((one for one in found if one is not None), None)

    async def recall(self, steps: Iterable[str]) -> None:
        """Load current answers from the cache or from files, without asking.

        In a run of named steps, answers of other instances are left out.
        """
        for step in steps:
            await self._fetch_step(step, reader=None)

    async def _fetch_step(self, step: str, *, reader: str | None) -> Unknown | None:
        """Fetch the instances of a step concurrently, or only load them if nothing reads them."""
        async with self._fetching.setdefault(step, asyncio.Lock()):
            state = self._flow.outcomes.get(step)
            if state is None or not state.is_absent:
                return None
            has_late_items = step in self._flow.freshness.late_items
            missing = await self._find_items(step, reader) if has_late_items else None
            if missing is not None:
                return missing
            is_part = reader is None and bool(self._run_state.selection.only)

            async def load(one: InstanceOutcome) -> InstanceOutcome | Unknown:
                if not one.is_absent or (is_part and one.is_left_out):
                    return one
                return await self._with_result(step, one, reader)

            loaded = await side_by_side(state.instances, load, width=self._flow.plan.concurrency)
            pairs = zip(state.instances, loaded, strict=True)
            known = [one if isinstance(new, Unknown) else new for one, new in pairs]
            self._flow.settle(step, known)
            return next((one for one in loaded if isinstance(one, Unknown)), None)

    async def _find_items(self, step: str, reader: str | None) -> Unknown | None:
        """Find the items of a loop, if the lock has proved it without them."""
        flow = self._flow
        if not flow.lacks_items(step):
            return None
        needs: list[str] = []
        source, missing = flow.plan.chains.get(step), None
        if source is not None:
            missing = await self._find_items(source, reader)
        else:
            needs = list(flow.plan.checked.read_by(step))
            missing = await (self.fetch(needs, reader=reader) if reader else self.recall(needs))
        if missing is None and any(flow.outcomes[need].is_absent for need in needs):
            missing = Unknown(f"the items of {flow.name(step)} are not here")
        if missing is None:
            flow.find_items(step, flow.values(flow.plan.edges[step]))
        return missing

    async def _with_result(
        self, step: str, outcome: InstanceOutcome, reader: str | None
    ) -> InstanceOutcome | Unknown:
        """Return an absent instance with its result, loaded once.

        A `reader` has it asked again if it must be. Raises `StepError`.
        """
        if reader is None:
            return await self._recall_result(step, outcome)
        async with self._loading.setdefault(outcome.name, asyncio.Lock()):
            if self._loaded.get(outcome.name, outcome).is_absent:
                found = await self._load(step, outcome, reader=reader)
                if isinstance(found, Unknown):
                    return found
                self._loaded[outcome.name] = found
            return self._loaded[outcome.name]

    async def _load(
        self, step: str, outcome: InstanceOutcome, *, reader: str
    ) -> InstanceOutcome | Unknown:
        context, name = self._run_state.context, outcome.name
        if outcome.is_left_out and context.asks and not context.selection.is_whole:
            self._run_state.emitter(name).warned(["its last result is used as it is"])
        stored = await self._judge_stored(step, outcome, may_ask=not outcome.is_left_out)
        if isinstance(stored, Unknown):
            return self._report_absent(step, outcome, reader)
        if stored is not None:
            return stored
        self._flow.stored.refuse_replaced(step, outcome)
        began = self._run_state.elapsed()
        ready = self._absent.get(name) or await self._ready_again(step, outcome)
        if isinstance(ready, Unknown):
            is_own = outcome.is_left_out or not context.asks
            return self._report_absent(step, outcome, reader) if is_own else ready
        ask: AskWhen = "never" if outcome.is_left_out else "always"
        result = await self._steps.run(self._input_again(ready, outcome, ask=ask))
        if not isinstance(result, StepResult):
            missing = result if isinstance(result, ToBeAsked) else None
            return self._report_absent(step, outcome, reader, missing)
        if outcome.is_left_out or not context.asks:
            return msgspec.structs.replace(outcome, result=result)
        made = self._flow.made(ready.instance, ready.upstream, result)
        if made.entry != outcome.entry:
            self._flow.freshness.forget_all()
            self.renewed.add(step)
        return self._run_state.settle(made, began)

    async def _judge_stored(
        self, step: str, outcome: InstanceOutcome, *, may_ask: bool
    ) -> InstanceOutcome | Unknown | None:
        """Return an absent instance with its stored result; rules judge it if its text was edited.

        None if it is not stored. Raises `StepError`.
        """
        stored = self._flow.stored.loaded(step, outcome, is_read=may_ask)
        if stored is None or stored.result is None or not self._flow.stored.is_judged(step):
            return stored
        found = self._absent.get(outcome.name)
        ready = found or await self._ready_again(step, outcome, may_ask=may_ask)
        if isinstance(ready, Unknown):
            return ready
        result = self._steps.judged_again(self._input(ready, ask="never"), stored.result)
        return msgspec.structs.replace(stored, result=result)

    def _report_absent(
        self, step: str, outcome: InstanceOutcome, reader: str, missing: ToBeAsked | None = None
    ) -> Unknown:
        """Report that an answer which `reader` needs is not here; return why it is unknown."""
        name = outcome.name
        if outcome.is_left_out:
            return Unknown(f"the answer of {name} is not here", "run it too, with --until")
        if not self._run_state.context.asks:
            status = self._flow.statuses.needed(name, step, missing, reader=reader)
            self._run_state.statuses[name] = status
        return Unknown(f"unknown until {name} has run")

    async def _recall_result(self, step: str, outcome: InstanceOutcome) -> InstanceOutcome:
        """Return an absent instance with its result if that is stored, else unchanged."""
        with contextlib.suppress(PoeflowError):
            stored = await self._judge_stored(step, outcome, may_ask=False)
            if stored is not None:
                return outcome if isinstance(stored, Unknown) else stored
            self._flow.stored.refuse_replaced(step, outcome)
            ready = self._absent.get(outcome.name)
            found = ready or await self._ready_again(step, outcome, may_ask=False)
            if not isinstance(found, Unknown):
                result = await self._steps.run(self._input_again(found, outcome, ask="never"))
                if isinstance(result, StepResult):
                    self._loaded[outcome.name] = msgspec.structs.replace(outcome, result=result)
        return self._loaded.setdefault(outcome.name, outcome)

    async def _ready_again(
        self, step: str, outcome: InstanceOutcome, *, may_ask: bool = True
    ) -> Ready | Unknown:
        """Return the prepared form of an instance that was current by its recipe.

        Raises `StepError` if it does not exist any more.
        """
        flow = self._flow
        source, needs = flow.plan.chains.get(step), flow.plan.checked.read_by(step)
        missing = await (self.fetch(needs, reader=outcome.name) if may_ask else self.recall(needs))
        if missing is not None:
            return missing
        if any(flow.outcomes[need].is_absent for need in needs):
            return Unknown(f"unknown until {outcome.name} has run")
        values = flow.values(need for need in flow.plan.edges[step] if need != source)
        for index, one in enumerate(flow.known_instances(step, source, values)):
            if flow.name(one.id) == outcome.name:
                upstream, own = await flow.upstream(one, index), flow.under_way[step]
                before = await own.before(index) if step in flow.folds else None
                return await self._ready(own, one, values, upstream, before=before, may_ask=may_ask)
        raise StepError(f"{outcome.name} is not there any more")
