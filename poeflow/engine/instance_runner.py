"""The instances of one flow, run or found to be current, and fetched where a step needs them."""

import asyncio
from typing import Protocol

from poeflow.client.messages import Message
from poeflow.engine.ask import KnownError, NotStoredError
from poeflow.engine.flow_state import FlowState
from poeflow.engine.freshness import Current
from poeflow.engine.job import Job
from poeflow.engine.output_files import EditedError
from poeflow.engine.results import StepResult
from poeflow.engine.states import State
from poeflow.engine.step import StepRunner
from poeflow.engine.units import Unit, instance_of, prepared_unit
from poeflow.errors import StepError
from poeflow.planning.instances import Instance
from poeflow.planning.prepare import Prepared
from poeflow.templates.texts import Values


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
        self._steps = StepRunner(flow.plan, flow.course)

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
        if person is not None and not (person.stale and self._flow.course.means.git):
            return self._flow.current(name, person)
        try:
            result = await self._made(prepared, own, upstream)
        except NotStoredError as error:
            self._flow.facts.pending(name, prepared, upstream, error)
            return State(name=name, key=instance.key, status="failed", blocks=True, is_pending=True)
        if isinstance(result, State):
            return result
        if result is None:
            stop = self._flow.course.reason_to_stop() or "another step failed"
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
        if self._flow.course.means.selection.asks_again(name):
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
        return await self._flow.course.work(
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
        self._flow.course.succeed(name, result, began=began)
        recipe = self._flow.freshness.recipe(prepared, upstream)
        block = None
        if recipe is not None:
            block = self._flow.freshness.blocks_of(result, recipe, prepared.instance.step)
            self._flow.course.memory.keep(name, block)
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
        spec = self._flow.plan.file.flow.steps[step]
        if spec.kind == "flow":
            return await self._use(
                prepared.instance, values, is_wanted=is_wanted, is_left_out=is_left_out
            )
        before: tuple[Message, ...] = ()
        if spec.history is not None:
            is_chained = (
                upstream is not None and spec.history == self._flow.plan.checked.chains[step]
            )
            states = (upstream,) if is_chained else self._flow.states[spec.history].instances
            before = next((s.conversation for s in states if s is not None), ())
        name = self._flow.name(prepared.instance.id)
        return await self._steps.run(
            Job(
                prepared=prepared,
                name=name,
                values=values,
                before=before,
                locked=self._flow.freshness.known(prepared, upstream),
                proofs=self._flow.freshness.proofs(prepared, upstream),
                is_left_out=is_left_out,
                base=None if is_left_out else self._base(prepared, upstream),
                is_wanted=is_wanted or self._flow.course.means.selection.asks_again(name),
            )
        )

    def _base(self, prepared: Prepared, upstream: State | None) -> bytes | None:
        """Return what a person's file held before, if the answer is to be merged into it.

        Raises `StepError` where nobody knows any more, or the marks of a merge are still in it.
        """
        if self._flow.course.means.git is None:
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
