"""Instances on demand: run, found to be current, or fetched because another step needs them."""

import asyncio
from collections.abc import Iterable

import msgspec

from poeflow.engine.ask import NotStoredError, UnaskedError
from poeflow.engine.flow_state import FlowState, UnknownError
from poeflow.engine.freshness import Current
from poeflow.engine.instance_runner import InstanceRunner
from poeflow.engine.output_files import EditedError
from poeflow.engine.run_state import NotStartedError
from poeflow.engine.states import State
from poeflow.engine.units import (
    Unit,
    early,
    found_units,
    instance_of,
    prepared_unit,
    side_by_side,
)
from poeflow.errors import PoeflowError, StepError
from poeflow.planning.prepare import Prepared
from poeflow.templates.texts import Values


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
        name, began = self._flow.name(instance.id), self._flow.course.elapsed()
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
        is_own = self._flow.plan.file.flow.steps[step].kind != "flow"
        return is_own and isinstance(unit, Prepared) and not self._flow.course.means.asks

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

            is_part = reader is None and bool(self._flow.course.means.selection.named)

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
        means = self._flow.course.means
        if state.is_left_out and means.asks and not means.selection.is_whole:
            self._flow.course.teller(state.name).warned(["its last result is used as it is"])
        kept = self._flow.kept.result(step, state.key, state.block) if state.block else None
        if kept is not None:
            return msgspec.structs.replace(state, result=kept, is_absent=False)
        if state.block is not None and state.block.accepted is not None:
            if means.files.look(state.block.accepted.path) == "marked":
                raise EditedError(state.block.accepted.path, "marked")
            message = f"{state.block.accepted.path} was edited since it was accepted"
            raise StepError(message, hint="`poeflow accept` it again, or run with --force")
        began = self._flow.course.elapsed()
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
        if state.is_left_out or not means.asks:
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
        source = self._flow.plan.checked.chains.get(step)
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
