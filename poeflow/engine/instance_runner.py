"""One instance: taken as it is if it is current, loaded if its answer is needed, or run."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

import msgspec

from poeflow.client.messages import Message
from poeflow.engine.ask import KnownError, NotStoredError, UnaskedError
from poeflow.engine.context import EditedError
from poeflow.engine.flow_state import (
    FlowState,
    Unit,
    UnknownError,
    early,
    found_units,
    instance_of,
    prepared_unit,
    side_by_side,
)
from poeflow.engine.freshness import Current
from poeflow.engine.results import State, StepResult
from poeflow.engine.run_state import NotStartedError
from poeflow.engine.step import StepInput, StepRunner
from poeflow.errors import PoeflowError, StepError
from poeflow.planning.instances import Instance
from poeflow.planning.preparation import Prepared
from poeflow.templates.render import Values


class Use(Protocol):
    """How to run the flow that an instance uses."""

    async def __call__(
        self, instance: Instance, values: Values, *, is_wanted: bool, is_left_out: bool
    ) -> StepResult: ...


class InstanceRunner:
    """Runs the instances of a flow. `use` runs those that use another."""

    def __init__(self, flow: FlowState, use: Use) -> None:
        self._flow = flow
        self._use = use
        self._steps = StepRunner(flow.plan, flow.run_state)

    async def attempt(
        self, unit: Unit, values: Values, upstream: State | None, began: float
    ) -> State:
        """Run an instance, or find that it need not be."""
        instance = instance_of(unit)
        name = self._flow.name(instance.id)
        own = {**values, **instance.names}
        if upstream is not None:
            own["source"] = upstream.values()
        prepared = prepared_unit(self._flow, unit, own)
        if prepared.skip:
            block = self._flow.freshness.skipped(prepared, upstream)
            self._flow.facts.skipped(name, prepared, block)
            return self._flow.skipped(name, instance.key, prepared.skip, blocks=False, block=block)
        person = await self._persons(prepared, own, upstream)
        if person is not None and not (person.stale and self._flow.run_state.context.git):
            return self._flow.current(name, person)
        try:
            result = await self._made(prepared, own, upstream)
        except NotStoredError as error:
            self._flow.facts.pending(name, prepared, upstream, error)
            return State(name=name, key=instance.key, status="failed", blocks=True, is_pending=True)
        if isinstance(result, State):
            return result
        if result is None:
            stop = self._flow.run_state.reason_to_stop() or "another step failed"
            return self._flow.skipped(name, instance.key, stop, blocks=True)
        return self.succeeded(name, prepared, upstream, result, began)

    async def _made(
        self, prepared: Prepared, values: Values, upstream: State | None
    ) -> StepResult | State | None:
        """Return the result of an instance, or its state where the lock's word is enough."""
        try:
            return await self.worked(prepared, values, upstream)
        except KnownError:
            state = self._known(prepared, values, upstream)
        return state or await self.worked(prepared, values, upstream, is_wanted=True)

    async def _persons(
        self, prepared: Prepared, values: Values, upstream: State | None
    ) -> Current | None:
        """Return an instance whose text is a person's, accepted in place of the answer.

        It stays so when its request changes; where the request is the same and was only written
        another way, it is current.
        """
        kept = self._flow.freshness.kept(prepared, upstream)
        if kept is None:
            return None
        current = self._flow.freshness.current(prepared, upstream)
        if current is not None:
            return current
        try:
            result = await self.worked(prepared, values, upstream, is_left_out=True)
            request = result.fingerprint if result is not None else None
        except (KnownError, NotStoredError) as unasked:
            request = unasked.identity
        if request is None or request != kept.block.request:
            return kept
        return kept._replace(block=self._flow.freshness.renewed(kept, upstream), stale=())

    def _known(self, prepared: Prepared, values: Values, upstream: State | None) -> State | None:
        """Return the state of an instance that the last run answered, and whose answer is not here.

        None where a file it wrote is gone too: then it is asked again.
        """
        name = self._flow.name(prepared.instance.id)
        if self._flow.run_state.selection.asks_again(name):
            return None
        found = self._flow.freshness.answered(prepared, upstream)
        if found is None:
            return None
        self._flow.again[name] = (prepared, values, upstream)
        return self._flow.current(name, found)

    async def worked(
        self,
        prepared: Prepared,
        values: Values,
        upstream: State | None,
        *,
        is_wanted: bool = False,
        is_left_out: bool = False,
    ) -> StepResult | None:
        """Do an instance's work. `is_wanted` asks for its result even where it is current.

        One left out gives its result and is neither asked nor written.
        """
        return await self._flow.run_state.work(
            lambda: asyncio.ensure_future(
                self._result(
                    prepared, values, upstream, is_wanted=is_wanted, is_left_out=is_left_out
                )
            )
        )

    def succeeded(
        self,
        name: str,
        prepared: Prepared,
        upstream: State | None,
        result: StepResult,
        began: float,
    ) -> State:
        self._flow.run_state.succeed(name, result, began=began)
        recipe = self._flow.freshness.recipe(prepared, upstream)
        block = None
        if recipe is not None:
            block = self._flow.freshness.blocks_of(result, recipe, prepared.instance.step)
            self._flow.run_state.lock_update.keep(name, block)
        self._flow.facts.ok(name, prepared, upstream, result, block)
        return State(name=name, key=prepared.instance.key, status="ok", result=result, block=block)

    async def _result(
        self,
        prepared: Prepared,
        values: Values,
        upstream: State | None,
        *,
        is_wanted: bool,
        is_left_out: bool,
    ) -> StepResult:
        step = prepared.instance.step
        spec = self._flow.plan.flow.steps[step]
        if spec.kind == "flow":
            return await self._use(
                prepared.instance, values, is_wanted=is_wanted, is_left_out=is_left_out
            )
        before: tuple[Message, ...] = ()
        if spec.history is not None:
            is_chained = upstream is not None and spec.history == self._flow.plan.chains[step]
            states = (upstream,) if is_chained else self._flow.states[spec.history].instances
            before = next((s.conversation for s in states if s is not None), ())
        name = self._flow.name(prepared.instance.id)
        return await self._steps.run(
            StepInput(
                prepared=prepared,
                name=name,
                values=values,
                before=before,
                locked=self._flow.freshness.known(prepared, upstream),
                proofs=self._flow.freshness.proofs(prepared, upstream),
                is_left_out=is_left_out,
                base=None if is_left_out else self._base(prepared, upstream),
                is_wanted=is_wanted or self._flow.run_state.selection.asks_again(name),
            )
        )

    def _base(self, prepared: Prepared, upstream: State | None) -> bytes | None:
        """Return what a person's file held before, if the answer is to be merged into it.

        Raises `StepError` where nobody knows any more, or the marks of a merge are still in it.
        """
        if self._flow.run_state.context.git is None:
            return None
        kept = self._flow.freshness.kept(prepared, upstream)
        if kept is None or kept.block.accepted is None:
            return None
        if kept.edited.get(kept.block.accepted.path) == "marked":
            raise EditedError(kept.block.accepted.path, "marked")
        step, key = prepared.instance.step, prepared.instance.key
        base = self._flow.kept.base(step, key, kept.block)
        if base is None:
            path = kept.block.accepted.path
            message = f"what {path} held before it was edited is neither in the cache nor in git"
            raise StepError(message, hint="`poeflow accept` it again, or replace it with --force")
        return base


class Demand:
    """Brings the instances of one flow about."""

    def __init__(self, flow: FlowState, runner: InstanceRunner) -> None:
        self._flow = flow
        self._runner = runner
        self._fetching: dict[str, asyncio.Lock] = {}

    async def run(
        self, step: str, source: str | None, index: int, unit: Unit, values: Values
    ) -> State:
        """Run an instance, or find it current. `source` is the step it runs over, if any."""
        instance = instance_of(unit)
        name, began = self._flow.name(instance.id), self._flow.run_state.elapsed()
        if not self._flow.covers(instance, index):
            return self._flow.left_out(name, instance.key)
        upstream: State | None = None
        if source is not None and instance.key is not None:
            upstream = await asyncio.shield(self._flow.ended[source][index])
            if upstream.status != "ok":
                return self._flow.blocked(step, name, instance.key, upstream, began)
        if isinstance(unit, Current):
            return self._flow.current(name, unit)
        try:
            is_absent = upstream is not None and upstream.is_absent
            if is_absent or self._is_proof_enough(step, unit):
                current = self._flow.freshness.current(early(unit), upstream)
                if current is not None:
                    return self._flow.current(name, current)
            if upstream is not None and is_absent:
                upstream = await self._fetched(source or "", upstream, reader=name)
            return await self._runner.attempt(unit, values, upstream, began)
        except NotStartedError as error:
            return self._flow.skipped(name, instance.key, error.message, blocks=True)
        except UnaskedError as error:
            return self._flow.unknown(name, instance.key, error)
        except PoeflowError as error:
            return self._flow.failed(step, name, instance.key, error, began)

    def _is_proof_enough(self, step: str, unit: Unit) -> bool:
        """Whether nobody wants the answer: then the lock's word is enough, where it has one."""
        is_own = self._flow.plan.flow.steps[step].kind != "flow"
        return is_own and isinstance(unit, Prepared) and not self._flow.run_state.context.asks

    async def fetch(self, steps: Iterable[str], *, reader: str) -> None:
        """Get answers that are current and not here, asking again where no place has them.

        `reader` is the instance or step that needs them. Raises `UnknownError` where nothing is
        asked now.
        """

        async def work(_index: int, step: str) -> None:
            await self._fetch_step(step, reader=reader)

        needed = list(steps)
        await side_by_side(needed, work, width=len(needed))

    async def recall(self, steps: Iterable[str]) -> None:
        """Take answers that are current from the cache or from files; none is asked for.

        Of a run of named steps, those of other instances are not wanted.
        """
        for step in steps:
            await self._fetch_step(step, reader=None)

    async def _fetch_step(self, step: str, *, reader: str | None) -> None:
        """Fetch the instances of a step side by side, or recall them if nothing reads them."""
        async with self._fetching.setdefault(step, asyncio.Lock()):
            state = self._flow.states.get(step)
            if state is None or not state.is_absent:
                return
            instances = list(state.instances)

            is_part = reader is None and bool(self._flow.run_state.selection.named)

            async def work(index: int, one: State) -> None:
                if one.is_absent and not (is_part and one.is_left_out):
                    instances[index] = await (
                        self._recalled(step, one)
                        if reader is None
                        else self._fetched(step, one, reader=reader)
                    )

            await side_by_side(instances, work, width=self._flow.plan.concurrency)
            self._flow.settle(step, instances)

    async def _fetched(self, step: str, state: State, *, reader: str) -> State:
        """Return an absent instance with its result. Raises `StepError` or `UnknownError`."""
        context = self._flow.run_state.context
        if state.is_left_out and context.asks and not context.selection.is_whole:
            self._flow.run_state.emitter(state.name).warned(["its last result is used as it is"])
        kept = self._flow.kept.result(step, state.key, state.block) if state.block else None
        if kept is not None:
            return msgspec.structs.replace(state, result=kept, is_absent=False)
        if state.block is not None and state.block.accepted is not None:
            if context.files.look(state.block.accepted.path) == "marked":
                raise EditedError(state.block.accepted.path, "marked")
            message = f"{state.block.accepted.path} was edited since it was accepted"
            raise StepError(message, hint="`poeflow accept` it again, or run with --force")
        began = self._flow.run_state.elapsed()
        again: tuple[Prepared, Values, State | None] | None = None
        try:
            again = self._flow.again.get(state.name) or await self._again(step, state)
            prepared, values, upstream = again
            result = await self._runner.worked(
                prepared, values, upstream, is_wanted=True, is_left_out=state.is_left_out
            )
        except UnaskedError as error:
            if not state.is_left_out:
                asked = error.asked if isinstance(error, NotStoredError) else None
                self._flow.facts.needed(state.name, step, asked, reader=reader)
            raise self._unknown(state) from None
        if result is None:
            raise StepError(f"{state.name} was not run")
        if state.is_left_out or not context.asks:
            return msgspec.structs.replace(state, result=result, is_absent=False)
        return self._runner.succeeded(state.name, prepared, upstream, result, began)

    @staticmethod
    def _unknown(state: State) -> UnknownError:
        """Return the error of a reader whose upstream answer has to be asked again first."""
        if state.is_left_out:
            hint = "run it too, with --until"
            return UnknownError(f"the answer of {state.name} is not here", hint=hint)
        return UnknownError(f"unknown until {state.name} has run")

    async def _recalled(self, step: str, state: State) -> State:
        """Return an absent instance with its result where it is at hand, else as it is."""
        kept = self._flow.kept.result(step, state.key, state.block) if state.block else None
        if kept is None:
            try:
                again = self._flow.again.get(state.name)
                again = again or await self._again(step, state, may_ask=False)
                kept = await self._runner.worked(*again, is_wanted=True, is_left_out=True)
            except PoeflowError:
                return state
        return msgspec.structs.replace(state, result=kept, is_absent=kept is None)

    async def _again(
        self, step: str, state: State, *, may_ask: bool = True
    ) -> tuple[Prepared, Values, State | None]:
        """Return what an instance is run with that was current by its recipe.

        Raises `UnknownError` where what it builds on is not here and may not be asked.
        """
        source = self._flow.plan.chains.get(step)
        needs = [need for need in self._flow.plan.edges[step] if need != source]
        await (self.fetch(needs, reader=state.name) if may_ask else self.recall(needs))
        if any(self._flow.states[need].is_absent for need in needs):
            raise self._unknown(state)
        values = self._flow.values(needs)
        for index, unit in enumerate(found_units(self._flow, step, source, values)):
            instance = instance_of(unit)
            if self._flow.name(instance.id) != state.name:
                continue
            upstream = None
            if source is not None:
                upstream = await asyncio.shield(self._flow.ended[source][index])
                if upstream.is_absent:
                    upstream = await (
                        self._fetched(source, upstream, reader=state.name)
                        if may_ask
                        else self._recalled(source, upstream)
                    )
            own = {**values, **instance.names}
            if upstream is not None:
                own["source"] = upstream.values()
            return prepared_unit(self._flow, unit, own), own, upstream
        raise StepError(f"{state.name} is not there any more")
