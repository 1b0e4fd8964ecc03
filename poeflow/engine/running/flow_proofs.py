"""Which steps, loops without items and used flows the lock proves whole, by itself."""

from collections.abc import Sequence

import msgspec

from poeflow.digest import Json, sha256_of_json
from poeflow.engine.flow_state import FlowState
from poeflow.engine.lock_entries import LockProof, differences, skipped_entry
from poeflow.engine.recipe import read_parts
from poeflow.engine.recipe_parts import (
    LOOP,
    SHOWN,
    Recipe,
    is_tied,
    passed_inputs,
    results_within,
)
from poeflow.engine.results import InstanceOutcome
from poeflow.engine.step_state import StepUnderWay, carried_digest
from poeflow.errors import PoeflowError
from poeflow.flowfile.loops import is_fan_out
from poeflow.planning.checked import steps_shown
from poeflow.planning.instances import StepInstance, instance_keys
from poeflow.records import InstanceStatus
from poeflow.store.lock.entries import LockEntry, reads_in


class EmptyLoops:
    """The entries of those loops of one flow that have no items."""

    def __init__(self, state: FlowState) -> None:
        self._state = state

    def proof(self, step: str) -> LockEntry | None:
        """Return the entry that proves that a loop has no items, None if the lock has none."""
        state = self._state
        found = state.run_state.lock_update.candidates(state.name(step))
        entries = [one for one in found if one.status == "empty"]
        recipe = self._recipe(step) if entries else None
        if recipe is None:
            return None
        recipes = state.freshness.recipes
        pairs = ((one, recipe.joined(recipes.reread(reads_in(one)))) for one in entries)
        return next((one for one, whole in pairs if one.recipe == whole.hash), None)

    def settle(self, step: str) -> None:
        """Put into the next lock that a loop had no items. A survey reports an older entry."""
        state, name = self._state, self._state.name(step)
        lock_update, recipe = state.run_state.lock_update, self._recipe(step)
        if recipe is None:
            return
        proven = self.proof(step)
        reads = state.reads_of_items(step)
        whole = recipe if reads is None else recipe.joined(read_parts(reads))
        entry = proven or msgspec.structs.replace(skipped_entry(whole), status="empty")
        lock_update.put(name, entry)
        old = lock_update.entry(name)
        if proven is None and old is not None and old.status == "empty":
            reasons = differences(whole, old)
            state.run_state.statuses[name] = InstanceStatus(id=name, state="stale", reasons=reasons)

    def _recipe(self, step: str) -> Recipe | None:
        """Return what decides the items of a loop, without the files that were read for them.

        None for a loop whose items no step gives, and if a result that it needs is not known.
        """
        state, plan = self._state, self._state.plan
        if not state.freshness.is_late(step):
            return None
        whole = StepInstance(step=step, carried="")
        recipe = state.freshness.recipe(whole, None)
        state.freshness.forget(whole)
        if recipe is None:
            return None
        parts = {
            name: one
            for name, one in recipe.parts.items()
            if name == "if" or name.startswith(("input ", "steps."))
        }
        nodes = (plan.file.document.node(("steps", step, key)) for key in ("for_each", "matrix"))
        written: list[Json] = [None if node is None else node.data for node in nodes]
        parts[LOOP] = sha256_of_json(written)
        return Recipe(parts=parts, because=recipe.because)


class FlowProver:
    """Proves a flow by the lock alone. `steps` are those that are proven so far.

    `used` are the proven flows that its instances use, by their ids, until these run.
    """

    def __init__(self, state: FlowState) -> None:
        self.state = state
        self.steps: dict[str, StepUnderWay] = {}
        self.used: dict[str, FlowProver] = {}
        self.empty_loops = EmptyLoops(state)

    async def prove(self) -> bool:
        """Whether the lock proves all instances of the flow, without what is passed to it."""
        for step in self.state.plan.order:
            skipped = skipped_with_loop(self.state, step)
            if skipped is not None:
                self.state.settle(step, [skipped])
                continue
            found = await self.proven(step)
            if found is None:
                return False
            self.state.under_way[step] = found
            for index in range(len(found.instances)):
                outcome = await self._outcome(found, index)
                if outcome is None:
                    return False
                found.settle(index, outcome)
            self.state.settle(step, found.ended())
            self.steps[step] = found
        return True

    async def proven(self, step: str) -> StepUnderWay | None:
        """Return a step, without texts, if the lock proves all its instances; else None."""
        state = self.state
        uses_flow = state.plan.steps[step].kind == "flow"
        instances: Sequence[StepInstance] | None = state.plan.instances.get(step)
        if instances is None:
            instances = self._last_instances(step)
        if instances is None or any(map(state.stored.is_always_asked, instances)):
            return None
        source = state.under_way.get(state.plan.chains.get(step, ""))
        proofs: list[LockProof | None] = []
        builds_on, carried = step in state.folds, ""
        for index, one in enumerate(instances):
            upstream = None if source is None else await source.outcome(index)
            if upstream is not None and upstream.status != "ok":
                proofs.append(None)
                continue
            own = msgspec.structs.replace(one, carried=carried) if builds_on else one
            if uses_flow:
                proof = await self.prove_used(own, upstream)
            else:
                proof = state.freshness.current_proof(own, upstream) if one.is_ready else None
            proof = proof or state.freshness.accepted_proof(own, upstream)
            proof = proof or state.stored.moved_proof(own, upstream)
            if proof is None:
                return None
            if builds_on and proof.entry.status == "ok":
                carried = carried_digest(state.plan.flow, step, proof.entry)
            proofs.append(proof)
        return StepUnderWay(step, instances, {}, proofs)

    def _last_instances(self, step: str) -> Sequence[StepInstance] | None:
        """Return the instances that a step had in the last run, None if these are not known.

        A loop that was skipped whole had one, without a key.
        """
        state, plan = self.state, self.state.plan
        if not is_fan_out(plan.steps[step]):
            return [plan.early_instance(step, None)]
        is_chained = plan.chains.get(step) in state.under_way
        if self.empty_loops.proof(step) is not None:
            return ()
        keys = state.last_keys(step)
        if keys or is_chained:
            return [plan.early_instance(step, key) for key in keys]
        entry = state.run_state.lock_update.entry(state.name(step))
        was_skipped = entry is not None and entry.status == "skipped"
        return [StepInstance(step=step, is_ready=True)] if was_skipped else None

    async def _outcome(self, step: StepUnderWay, index: int) -> InstanceOutcome | None:
        """Return how an instance ends that is proven or cannot run; None if it must be read."""
        instance, proof = step.instances[index], step.proof_of(index)
        upstream = await self.state.upstream(instance, index)
        if upstream is not None and upstream.status != "ok":
            return self.state.needing(instance, upstream)
        if proof is None or proof.moved_from is not None:
            return None
        name = self.state.name(instance.id)
        return InstanceOutcome(name=name, key=instance.key, ending="current", entry=proof.entry)

    async def prove_used(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> LockProof | None:
        """Return the proof of an instance that uses a flow by the instances of that, else None.

        Of a flow that it repeats, that is the first turn; its own recipe decides the others.
        """
        freshness, child = self.state.freshness, None
        entry, is_repeated = freshness.entry(instance), self._is_repeated(instance)
        if entry is None or not instance.is_ready or not (is_repeated or is_tied(entry)):
            return None
        within: str | None = ""
        if entry.status == "ok":
            child = await self._proven_child(instance, upstream)
            within = None if child is None else results_shown(child.state)
            within = "" if child is not None and is_repeated else within
        if within is None:
            return None
        freshness.note_results(instance, within)
        proof = freshness.current_proof(instance, upstream)
        freshness.note_results(instance, None)
        if proof is None or proof.entry.status != entry.status:
            return None
        if not is_repeated and not is_tied(proof.entry):
            return None
        if child is not None:
            self.used[instance.id] = child
        return freshness.with_turns(instance, proof) if is_repeated else proof

    def _is_repeated(self, instance: StepInstance) -> bool:
        return self.state.plan.steps[instance.step].repeat is not None

    async def _proven_child(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> "FlowProver | None":
        """Return the flow that an instance uses, without what a step passes to it, if proven."""
        state, plan, step = self.state, self.state.plan, instance.step
        recipe = state.freshness.recipe(instance, upstream)
        if recipe is None or instance.skip:
            return None
        planner, prefix = state.run_state.planner, f"{state.name(instance.id)}/"
        try:
            values = {**plan.early_values(), **instance.own_names}
            used = planner.plan(
                plan.checked.children[step],
                planner.early_arguments(plan, step, values),
                concurrency=plan.concurrency,
                instance_count=plan.instance_count,
                prefix=prefix,
            )
        except PoeflowError:
            return None  # the run itself reports the error
        read = state.freshness.reread(instance).items()
        reads = {part: one for part, one in read if not part.startswith(SHOWN)}
        passed = passed_inputs(plan.checked, step, recipe.parts, reads)
        child = FlowProver(FlowState(used, state.run_state, prefix=prefix, passed=passed))
        return child if await child.prove() else None


def results_shown(flow: FlowState) -> str | None:
    """Return the hash of what the outputs of a used flow show; None if it is not known."""
    digests = {step: flow.outcomes[step].digest(None) for step in steps_shown(flow.plan.checked)}
    return results_within(flow.plan.checked, digests, flow.freshness.given)


def skipped_with_loop(state: FlowState, step: str) -> InstanceOutcome | None:
    """Return the outcome of a step whose loop over another's instances was skipped with those.

    None if that one was not skipped as a whole.
    """
    source = state.plan.chains.get(step)
    under_way = None if source is None else state.under_way.get(source)
    is_whole = under_way is None or [*instance_keys(under_way.instances)] == [None]
    if source is None or not is_whole:
        return None
    reason = f"{state.name(source)} was skipped"
    return state.blocked(StepInstance(step=step), reason, is_skipped=True)
