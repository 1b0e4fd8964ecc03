"""Instances on demand: run, found to be current, or fetched because another step needs them."""

import asyncio
from collections.abc import Iterable

import msgspec

from poeflow.engine.asking import UnaskedError
from poeflow.engine.course import NotStartedError
from poeflow.engine.flow_state import Current, FlowState, UnknownError
from poeflow.engine.instance_run import InstanceRunner
from poeflow.engine.prepare import Prepared
from poeflow.engine.states import State, step_state
from poeflow.engine.texts import Values
from poeflow.engine.units import Unit, early, found_units, instance_of, prepared_unit
from poeflow.errors import PoeflowError, StepError
from poeflow.spec.loops import is_fan_out


class Demand:
    """Brings the instances of one flow about."""

    def __init__(self, flow: FlowState, runner: InstanceRunner) -> None:
        self._flow = flow
        self._runner = runner

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
                    return self._flow.current(name, Current(early(unit), current))
            if upstream is not None and is_absent:
                upstream = await self.fetched(source or "", upstream)
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

    async def fetch(self, steps: Iterable[str]) -> None:
        """Ask again for answers that are current and not here, because a step needs them."""
        for step in steps:
            state = self._flow.states[step]
            if not state.is_absent:
                continue
            instances = [
                await self.fetched(step, one) if one.is_absent else one for one in state.instances
            ]
            fans_out = is_fan_out(self._flow.plan.file.flow.steps[step])
            self._flow.states[step] = step_state(instances, is_fan_out=fans_out)

    async def fetched(self, step: str, state: State) -> State:
        """Return an absent instance with its result. Raises `StepError` or `UnknownError`."""
        kept = self._flow.kept.result(step, state.key, state.block) if state.block else None
        if state.is_left_out and self._flow.course.means.asks:
            self._flow.course.teller(state.name).warned(["its last result is used as it is"])
        if kept is not None:
            return msgspec.structs.replace(state, result=kept, is_absent=False)
        again = self._flow.again.get(state.name) or await self._again(step, state)
        prepared, values, upstream = again
        try:
            result = await self._runner.worked(
                prepared, values, upstream, is_wanted=True, is_left_out=state.is_left_out
            )
        except UnaskedError:
            message = f"the answer of {state.name} is not here"
            raise UnknownError(message, hint="run the flow, or commit the cache") from None
        if result is None:
            raise StepError(f"{state.name} was not run")
        if state.is_left_out or not self._flow.course.means.asks:
            return msgspec.structs.replace(state, result=result, is_absent=False)
        began = self._flow.course.elapsed()
        return self._runner.succeeded(state.name, prepared, upstream, result, began)

    async def _again(self, step: str, state: State) -> tuple[Prepared, Values, State | None]:
        """Return what an instance is run with that was current by its recipe."""
        source = self._flow.plan.checked.chains.get(step)
        needs = [need for need in self._flow.plan.edges[step] if need != source]
        await self.fetch(needs)
        values = self._flow.values(needs)
        for index, unit in enumerate(found_units(self._flow, step, source, values)):
            instance = instance_of(unit)
            if self._flow.name(instance.id) != state.name:
                continue
            upstream = None
            if source is not None:
                upstream = await asyncio.shield(self._flow.ended[source][index])
                if upstream.is_absent:
                    upstream = await self.fetched(source, upstream)
            own = {**values, **instance.names}
            if upstream is not None:
                own["source"] = upstream.values()
            return prepared_unit(self._flow, unit, own), own, upstream
        raise StepError(f"{state.name} is not there any more")
