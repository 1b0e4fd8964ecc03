"""Finds what must be asked, in a run that sends nothing."""

import functools

from poeflow.engine.asking.request import ToBeAsked
from poeflow.engine.flow_state import FlowState
from poeflow.engine.results import InstanceOutcome
from poeflow.engine.step import StepRunner
from poeflow.engine.step_state import StepInput, StepUnderWay
from poeflow.errors import PoeflowError
from poeflow.flowfile.loops import samples_of
from poeflow.planning.instances import StepInstance
from poeflow.templates.reader import Reads


class PendingFinder:
    """Finds instances that must be asked in a run that sends nothing, without a task for each.

    Others, of which more than their own request decides, go the way of every instance.
    """

    def __init__(self, flow: FlowState, steps: StepRunner) -> None:
        self._flow = flow
        self._steps = steps
        self._candidates: dict[str, bool] = {}
        """Whether each step that was looked at may have such instances."""
        self._reads = Reads()
        """What their templates read, which nothing uses."""

    @functools.cached_property
    def _has_answers(self) -> bool:
        context = self._flow.run_state.context
        return context.answers.has_any

    def _is_simple(self, step: str) -> bool:
        """Whether an instance of a step sends one request first, which needs no other instance."""
        plan, spec = self._flow.plan, self._flow.plan.steps[step]
        is_one = samples_of(spec).count == 1 and spec.repeat is None and not spec.functions
        is_known = step in plan.instances and ("steps", step, "if") not in plan.checked.late
        return spec.kind == "model" and is_one and is_known and spec.history is None

    def outcome(self, step: StepUnderWay, instance: StepInstance) -> InstanceOutcome | None:
        """Return the outcome of an instance that must be asked, None if it may be another."""
        flow, run_state = self._flow, self._flow.run_state
        if run_state.context.asks or step.proofs or run_state.reason_to_stop():
            return None
        is_candidate = self._candidates.get(step.step)
        if is_candidate is None:
            is_candidate = self._candidates[step.step] = self._is_simple(step.step)
        if not is_candidate:
            return None
        if not instance.is_ready or instance.skip:
            return None
        name = flow.name(instance.id)
        entries = run_state.lock_update.candidates(name)
        if entries and any(entry.accepted is not None for entry in entries):
            return None
        values, reads = instance.values(step.values), self._reads
        try:
            work = StepInput(
                instance=instance, step=step.step, name=name, values=values, reads=reads
            )
            found = self._steps.to_be_asked(work, has_answers=self._has_answers)
        except PoeflowError:
            found = None
        request = None if found is None else found.request
        is_known = request is None or (
            entries and any(entry.is_of(request.fingerprint) for entry in entries)
        )
        if is_known:
            self._candidates[step.step] = False  # others may have answers, too: none is made twice
            return None
        return flow.pending(name, instance, None, ToBeAsked(request=request))
