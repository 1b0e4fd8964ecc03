"""A running flow: which step may start, the values it needs, and the results of the flow."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from poeflow.engine.asking.request import NotHere
from poeflow.engine.asking.turns import FlowTurns
from poeflow.engine.flow_state import FlowState
from poeflow.engine.instance_runner import InstanceRunner
from poeflow.engine.recipe import read_parts, shown_parts
from poeflow.engine.recipe_parts import passed_inputs
from poeflow.engine.results import (
    InstanceOutcome,
    NoResult,
    StepResult,
    Unknown,
    UsedFlowError,
    refuse_failing,
)
from poeflow.engine.run_state import RunState, StoppedError
from poeflow.engine.running.flow_outputs import (
    FlowOutputs,
    outputs_of,
    part_of_outputs,
    steps_run,
)
from poeflow.engine.running.flow_proofs import FlowProver, results_shown, skipped_with_loop
from poeflow.engine.running.pending_finder import PendingFinder
from poeflow.engine.step import StepRunner
from poeflow.engine.step_state import StepInput, StepUnderWay
from poeflow.errors import PoeflowError
from poeflow.flowfile.loops import is_fold
from poeflow.planning.checked import steps_shown
from poeflow.planning.instances import StepInstance, instance_keys
from poeflow.planning.plan import Plan
from poeflow.planning.selection import check_keys
from poeflow.store.lock.entries import is_same_result

BATCH: Final = 100
"""After so many instances other tasks may run."""
STEPS_AT_ONCE: Final = 4
"""After so many steps that begin, those that have begun go on; while any works, after each."""


class FlowRun:
    """Runs a flow. `prefix` begins the names of its instances, empty for the outermost flow.

    `passed` are the hashes of inputs that a step of the flow that uses this one decides. If a
    `prover` has proven all its instances, the plan may lack these inputs.
    """

    def __init__(
        self,
        plan: Plan,
        run_state: RunState,
        *,
        prefix: str = "",
        is_left_out: bool = False,
        passed: Mapping[str, str] | None = None,
        prover: FlowProver | None = None,
    ) -> None:
        self._prover = prover or FlowProver(
            FlowState(plan, run_state, prefix=prefix, is_left_out=is_left_out, passed=passed)
        )
        self.state = self._prover.state
        if run_state.context.asks:
            plan.texts.begin_run()
        schemas, stored = self.state.schemas, self.state.stored
        steps = StepRunner(plan, run_state, self._used_flow, schemas=schemas, stored=stored)
        self._runner = InstanceRunner(self.state, steps)
        self._pending_finder = PendingFinder(self.state, steps)
        self._done = {step: asyncio.Event() for step in plan.order}
        self._expanded = {step: asyncio.Event() for step in plan.order}

    async def run(self) -> None:
        """Run every step. A step's failure is stored in the run's state, not raised."""
        run_state = self.state.run_state
        async with asyncio.TaskGroup() as group:
            for number, step in enumerate(self.state.plan.order):
                group.create_task(self._step(step, {}))
                is_time = run_state.is_working or number % STEPS_AT_ONCE == 0
                if is_time and run_state.context.asks:
                    await asyncio.sleep(0)  # what is asked is sent while the next ones are proven
        await self._prove_again()

    async def _prove_again(self) -> bool:
        """Run what the lock proved by answers that were asked again since, and are others now.

        Return whether there was any. Nothing is run again after a failure.
        """
        is_any = False
        while self._runner.renewed and not self.state.run_state.reason_to_stop():
            renewed, self._runner.renewed = self._runner.renewed, set()
            for step in self.state.plan.order:
                if step in renewed:
                    under_way = self.state.under_way[step]
                    under_way.outcomes = [*self._ended(step).values()]
                    self.state.settle(step, under_way.ended())
                own = {step} if is_fold(self.state.plan.flow, step) else set()
                if renewed.isdisjoint(own.union(self.state.plan.edges[step])):
                    continue
                ended = self._ended(step)
                if any(one.ending == "current" for one in ended.values()):
                    await self._step(step, ended)
                    renewed.add(step)
                    is_any = True
        return is_any

    def _ended(self, step: str) -> dict[str, InstanceOutcome]:
        """Return how the instances of a step ended, by their ids, with what was loaded since."""
        under_way = self.state.under_way.get(step)
        if under_way is None:
            return {}
        found = (self._runner.outcome(under_way, at) for at in range(len(under_way.instances)))
        pairs = zip(under_way.instances, found, strict=True)
        return {instance.id: one for instance, one in pairs if one is not None}

    async def _step(self, step: str, ended: Mapping[str, InstanceOutcome]) -> None:
        """Run a step after those it needs: start its instances concurrently, in order.

        Of those that have `ended`, by their ids, only those run that the lock proved.
        """
        plan = self.state.plan
        source = plan.chains.get(step)
        for need in plan.edges[step]:
            await (self._expanded if need == source else self._done)[need].wait()
        outcomes: list[InstanceOutcome] = []
        whole, began = StepInstance(step=step), self.state.run_state.elapsed()
        try:
            found = self._end_if_idle(whole, source) or await self._expand(whole, source)
            if isinstance(found, StepUnderWay):
                covered = self.state.covered(step, found.instances)
                await self._leave_out_unselected(found, covered)
                covered = found.settle_ended(covered, ended)
                await self._run_proven(found, covered)
                is_used = plan.steps[step].kind == "flow" and step not in self.state.folds
                runs = self._run_used if is_used else self._runner.run
                width = asyncio.Semaphore(plan.concurrency)
                async with asyncio.TaskGroup() as group:
                    for number, waiting in enumerate(self._batches(found, covered)):
                        if number:
                            await asyncio.sleep(0)
                        for index in waiting:
                            await width.acquire()
                            run = runs(found, index, found.instances[index])
                            group.create_task(run).add_done_callback(lambda _: width.release())
                outcomes = found.ended()
                if not outcomes:
                    self._prover.empty_loops.settle(step)
            else:
                outcomes = found
        except PoeflowError as error:
            outcomes = [self._settled(self.state.failed(whole, error), began)]
        finally:
            self.state.settle(step, outcomes)
            self._expanded[step].set()
            self._done[step].set()

    async def _run_proven(self, step: StepUnderWay, covered: Sequence[int]) -> None:
        """Run the proven flows of a step's instances: nothing is asked, all is reported."""
        used = self._prover.used
        for index in covered if used else ():
            child = used.pop(step.instances[index].id, None)
            if child is not None:
                await FlowRun(child.state.plan, child.state.run_state, prover=child).run()

    async def _run_used(self, step: StepUnderWay, index: int, instance: StepInstance) -> None:
        """Run an instance that uses a flow; it is proven first if what it runs over is absent."""
        upstream = await self.state.upstream(instance, index)
        if upstream is not None and upstream.is_absent and not step.proof_of(index):
            step.prove(index, await self._prover.prove_used(instance, upstream))
            await self._run_proven(step, (index,))
        await self._runner.run(step, index, instance)

    def _batches(self, step: StepUnderWay, covered: Sequence[int]) -> Iterator[Sequence[int]]:
        """Yield the selected instances that run, in order, some at a time; others end at once."""
        plan = self.state.plan
        is_alone = step.step not in plan.chains and not is_fold(plan.flow, step.step)
        for begin in range(0, len(covered), BATCH):
            batch = covered[begin : begin + BATCH]
            yield self._without_settled(step, batch) if is_alone else batch

    def _without_settled(self, step: StepUnderWay, covered: Sequence[int]) -> Sequence[int]:
        """Settle those instances that need no task; return the others."""
        state = self.state
        keys = instance_keys(step.instances) if len(covered) > 1 else ()
        names = (state.name_of(step.step, keys[index]) for index in covered if keys)
        state.read_ahead(step.step, names)
        return [
            index
            for index in covered
            if not self._settle_at_once(step, index, step.instances[index])
        ]

    async def _leave_out_unselected(self, step: StepUnderWay, covered: Sequence[int]) -> None:
        """Settle the instances that are not selected, as the last run left them."""
        if len(covered) == len(step.instances):
            return
        chosen = covered if isinstance(covered, range) else frozenset(covered)
        for index, key in enumerate(instance_keys(step.instances)):
            if index not in chosen:
                step.settle(index, self.state.leave_out(step.step, key))
            if index % BATCH == BATCH - 1:
                await asyncio.sleep(0)

    def _settle_at_once(self, step: StepUnderWay, index: int, instance: StepInstance) -> bool:
        """Settle an instance that waits for no other, if that is possible without a task for it.

        It is if the lock proves it, or if a survey finds that it must be asked. Returns whether it
        was.
        """
        state, run_state, outcome = self.state, self.state.run_state, None
        began = run_state.elapsed() if run_state.context.asks else None
        try:
            if state.may_prove:
                outcome = self._runner.without_running(instance, None, step.proof_of(index))
        except PoeflowError as error:
            outcome = state.failed(instance, error)
        outcome = outcome or self._pending_finder.outcome(step, instance)
        if outcome is None:
            return False
        if state.may_prove:
            state.freshness.forget(instance)
        step.settle(index, state.outcome_to_hold(step.step, run_state.settle(outcome, began)))
        return True

    def _end_if_idle(self, whole: StepInstance, source: str | None) -> list[InstanceOutcome] | None:
        """Return the end of a step that does not run, None if it runs."""
        flow, step = self.state, whole.step
        if not flow.touches(step):
            return self._leave_out_step(whole)
        culprit = self._culprit(step, source)
        if culprit is not None:
            return [self._settled(flow.needing(whole, culprit))]
        is_cleaning_up = bool(flow.plan.tested[step])
        stop = flow.run_state.reason_to_stop(is_cleaning_up=is_cleaning_up)
        if stop:
            failed = self._failed_of_all(source)
            end = flow.held_back(whole, stop) if failed is None else flow.needing(whole, failed)
            return [self._settled(end)]
        skipped = skipped_with_loop(flow, step)
        return None if skipped is None else [self._settled(skipped)]

    async def _expand(
        self, whole: StepInstance, source: str | None
    ) -> StepUnderWay | list[InstanceOutcome]:
        """Return a step with its instances, or its end if they cannot be known."""
        flow, step = self.state, whole.step
        needs = [need for need in flow.plan.edges[step] if need != source]
        under_way = self._prover.steps.get(step)
        if under_way is None and any(flow.outcomes[need].is_absent for need in needs):
            under_way = await self._prover.proven(step)
        if under_way is None:
            read = flow.plan.checked.read_by(step)
            missing = await self._runner.fetch(read, reader=flow.name(step)) if read else None
            if missing is not None:
                return [self._settled(flow.unknown(whole, missing))]
            values = flow.values(needs)
            under_way = StepUnderWay(step, flow.known_instances(step, source, values), values)
        self._check_named(under_way)
        flow.expand(under_way)
        self._expanded[step].set()
        return under_way

    def _check_named(self, under_way: StepUnderWay) -> None:
        """Raise `UsageError` if the caller named an instance that the step does not have."""
        run_state = self.state.run_state
        must_exist = run_state.selection.must_exist
        if must_exist and not any(one.skip for one in under_way.instances):
            keys = [one.key for one in under_way.instances]
            check_keys(self.state.name(under_way.step), keys, must_exist)

    def _leave_out_step(self, whole: StepInstance) -> list[InstanceOutcome]:
        """Settle the instances of a step that is not selected; return their outcomes."""
        flow, step = self.state, whole.step
        instances: Sequence[StepInstance] | None = flow.plan.instances.get(step)
        if instances is None:
            keys = flow.last_keys(step)
            instances = [StepInstance(step=step, key=key, names={"key": key}) for key in keys]
            if not keys and self._prover.empty_loops.proof(step) is None:
                return [flow.leave_out(step, None)]
        if not instances:
            flow.run_state.note_left_out(flow.name(step))
        under_way = StepUnderWay(step, instances, {})
        flow.expand(under_way)
        outcomes = [flow.leave_out(step, key) for key in instance_keys(instances)]
        for index, outcome in enumerate(outcomes):
            under_way.settle(index, outcome)
        return outcomes

    def _failed_of_all(self, source: str | None) -> InstanceOutcome | None:
        """Return an instance of the step that a step runs over, if they all failed."""
        under_way = None if source is None else self.state.under_way.get(source)
        outcomes = () if under_way is None else under_way.outcomes
        is_vain = all(one is not None and one.ending == "failed" for one in outcomes)
        return outcomes[0] if outcomes and is_vain else None

    def _culprit(self, step: str, source: str | None) -> InstanceOutcome | None:
        """Return the outcome that blocks a step; one whose `if` uses a step's status runs.

        One that failed comes before one that the run did not come to.
        """
        tested, held_back = self.state.plan.tested[step], None
        for need in self.state.plan.edges[step]:
            outcome = self.state.outcomes.get(need)
            if outcome is None or (need == source and source in self.state.under_way):
                continue
            if need in tested and not outcome.is_pending:
                continue
            if outcome.culprit is not None and not outcome.culprit.is_held_back:
                return outcome.culprit
            held_back = held_back or outcome.culprit
        return held_back

    def _settled(self, outcome: InstanceOutcome, began: float | None = None) -> InstanceOutcome:
        return self.state.run_state.settle(outcome, began)

    async def _used_flow(self, work: StepInput) -> StepResult | NoResult:
        """Run the flow that an instance uses, as part of this run: again while it must repeat."""
        plan, step = self.state.plan, work.step
        turns, is_over = FlowTurns(plan.texts, step, plan.steps[step].repeat, work.values), False
        while not is_over:
            outputs = await self._turn(work, turns)
            if not isinstance(outputs, FlowOutputs):
                return outputs
            is_over = turns.add(outputs.values)
        self.state.run_state.emitter(work.name).judged(turns.verdicts)
        result = StepResult(
            text="",
            source="ran",
            key=work.instance.key,
            outputs=turns.taken[-1],
            reads={**read_parts(work.reads), **shown_parts(turns.reads)},
            verdicts=turns.verdicts,
        )
        refuse_failing(result, kind="flow")
        return result

    async def _turn(self, work: StepInput, turns: FlowTurns) -> FlowOutputs | NoResult:
        """Run the flow that an instance uses once; return its outputs. Raises `PoeflowError`."""
        flow, instance, spec = self.state, work.instance, self.state.plan.steps[work.step]
        if spec.continue_on_error:
            flow.run_state.tolerate(flow.name(work.step))
        texts = flow.plan.texts
        with texts.reader.recording(work.reads):
            given = texts.value(("steps", work.step, "with"), dict(spec.with_ or {}), turns.values)
        planner = flow.run_state.planner
        prefix = f"{work.name}{turns.mark}/"
        plan = planner.plan(
            flow.plan.checked.children[instance.step],
            planner.arguments(flow.plan, instance.step, given),
            concurrency=flow.plan.concurrency,
            instance_count=flow.plan.instance_count,
            prefix=prefix,
        )
        parts = {} if turns.mark or work.recipe is None else work.recipe.parts
        passed = passed_inputs(flow.plan.checked, work.step, parts, read_parts(work.reads))
        child = FlowRun(
            plan,
            flow.run_state,
            prefix=prefix,
            is_left_out=work.ask == "never",
            passed=passed if parts else {},
        )
        await child.run()
        outcomes = child.state.outcomes.values()
        blocking = [outcome.blocked_by for outcome in outcomes if outcome.blocks]
        if any(outcome.is_pending for outcome in outcomes):
            return Unknown(blocking[0])
        if any(one.culprit.is_left_out for one in outcomes if one.culprit is not None):
            raise StoppedError(blocking[0])
        if blocking:
            raise UsedFlowError(f"in the flow it uses, {blocking[0]}")
        if spec.repeat is None:
            flow.freshness.note_results(instance, results_shown(child.state))
        is_proven = work.ask == "unless answered" and child.is_as_locked()
        if is_proven and any(outcome.is_absent for outcome in outcomes):
            return NotHere(fingerprint="")
        return await child.outputs_for(work.name, turns)

    async def outputs(self) -> FlowOutputs:
        """Return the declared outputs, else the texts of the steps that no step needs.

        A current answer that is not stored here is left out: nothing is requested only to be
        printed. Raises `PoeflowError`.
        """
        await self._runner.recall(steps_shown(self.state.plan.checked))
        return outputs_of(self.state)

    async def outputs_for(self, reader: str, turns: FlowTurns) -> FlowOutputs | Unknown:
        """Return the same for the step that uses the flow; missing answers are asked again.

        What the outputs read is recorded with the `turns`.
        """
        missing = await self._runner.fetch(steps_shown(self.state.plan.checked), reader=reader)
        while missing is None and await self._prove_again():
            missing = await self._runner.fetch(steps_shown(self.state.plan.checked), reader=reader)
        if missing is not None:
            return missing
        texts = self.state.plan.texts
        with texts.reader.recording(turns.reads):
            return outputs_of(self.state)

    def is_as_locked(self) -> bool:
        """Whether all steps have the results that the lock has, also those that are not here."""
        lock_update = self.state.run_state.lock_update
        if not lock_update.has_all(self.state.name("")):
            return False
        for outcome in self.state.outcomes.values():
            for one in outcome.instances:
                old = None if one.entry is None else lock_update.entry(one.name)
                if one.ending == "tolerated" or not is_same_result(one.entry, old):
                    return False
        return True

    async def part_of_outputs(self) -> FlowOutputs:
        """Return the results of the selected steps, as far as they are stored here."""
        await self._runner.recall(steps_run(self.state))
        return part_of_outputs(self.state)
