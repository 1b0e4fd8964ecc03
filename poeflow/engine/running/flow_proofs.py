"""Which steps and used flows the lock proves whole, without what is passed to them."""

from collections.abc import Sequence

import msgspec

from poeflow.engine.flow_state import FlowState
from poeflow.engine.lock_entries import LockProof
from poeflow.engine.recipe_parts import is_tied, passed_inputs, results_within
from poeflow.engine.results import InstanceOutcome
from poeflow.engine.step_state import StepUnderWay, carried_digest
from poeflow.errors import PoeflowError
from poeflow.flowfile.loops import is_fan_out
from poeflow.planning.checked import steps_shown
from poeflow.planning.instances import StepInstance


class FlowProver:
    """Proves a flow by the lock alone. `steps` are those that are proven so far.

    `used` are the proven flows that its instances use, by their ids, until these run.
    """

    def __init__(self, state: FlowState) -> None:
        self.state = state
        self.steps: dict[str, StepUnderWay] = {}
        self.used: dict[str, FlowProver] = {}

    async def prove(self) -> bool:
        """Whether the lock proves all instances of the flow, without what is passed to it."""
        for step in self.state.plan.order:
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
            keys = state.last_keys(step) if is_fan_out(state.plan.steps[step]) else (None,)
            instances = [state.plan.early_instance(step, key) for key in keys]
        if any(map(state.stored.is_always_asked, instances)):
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
        return StepUnderWay(step, instances, {}, proofs) if instances else None

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
        passed = passed_inputs(plan.checked, step, recipe.parts, state.freshness.reread(instance))
        child = FlowProver(FlowState(used, state.run_state, prefix=prefix, passed=passed))
        return child if await child.prove() else None


def results_shown(flow: FlowState) -> str | None:
    """Return the hash of what the outputs of a used flow show; None if it is not known."""
    digests = {step: flow.outcomes[step].digest(None) for step in steps_shown(flow.plan.checked)}
    return results_within(flow.plan.checked, digests, flow.freshness.given)
