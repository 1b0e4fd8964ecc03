"""A plan becomes a run: steps start when what they need is done, events tell what happens."""

import asyncio
from collections.abc import Mapping

import msgspec

from poeflow.digest import Json
from poeflow.engine.means import Means
from poeflow.engine.plan import Plan
from poeflow.engine.result import StepResult
from poeflow.engine.step import StepRunner
from poeflow.engine.texts import Texts
from poeflow.errors import EXIT_CLASSES, PoeflowError, most_serious
from poeflow.events import (
    Event,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepSkipped,
)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. `outputs` is empty unless every step it needs succeeded."""

    exit_code: int
    outputs: dict[str, Json]
    results: Mapping[str, StepResult]
    failures: Mapping[str, PoeflowError]
    skipped: Mapping[str, str]


async def run_plan(plan: Plan, means: Means, texts: Texts, *, keep_going: bool = False) -> Outcome:
    """Run every step of `plan` and return how it ended; a step's failure is no exception here.

    Independent steps run at the same time, up to the plan's concurrency. After a failure nothing
    new is started unless `keep_going`; what is under way is paid for and finishes.
    """
    return await _Run(plan, means, texts, keep_going=keep_going).outcome()


class _Run:
    def __init__(self, plan: Plan, means: Means, texts: Texts, *, keep_going: bool) -> None:
        self._plan = plan
        self._means = means
        self._texts = texts
        self._keep_going = keep_going
        self._began = means.clock.monotonic()
        self._steps = StepRunner(plan, means, texts, elapsed=self._elapsed)
        self._slots = asyncio.Semaphore(plan.concurrency)
        self._done = {step: asyncio.Event() for step in plan.order}
        self._results: dict[str, StepResult] = {}
        self._failures: dict[str, PoeflowError] = {}
        self._skipped: dict[str, str] = {}

    async def outcome(self) -> Outcome:
        self._say(
            RunStarted(
                at=0.0,
                flow=self._plan.file.name,
                steps=self._plan.order,
                simulated=self._means.simulated,
            )
        )
        try:
            async with asyncio.TaskGroup() as group:
                for step in self._plan.order:
                    group.create_task(self._step(step))
        except* PoeflowError as errors:
            raise errors.exceptions[0] from None
        outputs: dict[str, Json] = {}
        if not self._failures and not self._skipped:
            outputs = self._outputs()
        return self._finish(outputs)

    async def _step(self, step: str) -> None:
        for need in self._plan.edges[step]:
            await self._done[need].wait()
        try:
            async with self._slots:
                reason = self._reason_to_skip(step)
                if reason:
                    self._skipped[step] = reason
                    self._say(StepSkipped(at=self._elapsed(), step=step, reason=reason))
                else:
                    await self._attempt(step)
        finally:
            self._done[step].set()

    async def _attempt(self, step: str) -> None:
        began = self._elapsed()
        try:
            result = await self._steps.run(step, self._values(self._plan.edges[step]))
        except PoeflowError as error:
            self._failures[step] = error
            self._say(
                StepFailed(
                    at=self._elapsed(),
                    step=step,
                    message=str(error),
                    error_class=EXIT_CLASSES[error.exit_code],
                    seconds=self._elapsed() - began,
                )
            )
            return
        self._results[step] = result
        usage = result.completion.usage if result.completion else None
        self._say(
            StepFinished(
                at=self._elapsed(),
                step=step,
                source=result.source,
                simulated=self._means.simulated,
                seconds=self._elapsed() - began,
                prompt_tokens=usage.prompt_tokens if usage else None,
                completion_tokens=usage.completion_tokens if usage else None,
            )
        )

    def _reason_to_skip(self, step: str) -> str:
        for need in self._plan.edges[step]:
            if need in self._failures:
                return f"{need} failed"
            if need in self._skipped:
                return f"{need} was skipped"
        if self._failures and not self._keep_going:
            return f"{next(iter(self._failures))} failed"
        return ""

    def _values(self, steps: tuple[str, ...]) -> dict[str, Json]:
        values = self._plan.early_values()
        values["steps"] = {step: self._results[step].values() for step in steps}
        return values

    def _outputs(self) -> dict[str, Json]:
        """Return what the flow declares, else the texts of the steps nothing depends on."""
        declared = self._plan.file.flow.outputs
        if declared:
            values = self._values(self._plan.order)
            return {
                name: self._texts.value(("outputs", name), written, values)
                for name, written in declared.items()
            }
        needed = {need for needs in self._plan.edges.values() for need in needs}
        return {step: self._results[step].text for step in self._plan.order if step not in needed}

    def _finish(self, outputs: dict[str, Json]) -> Outcome:
        exit_code = most_serious(error.exit_code for error in self._failures.values())
        sources = [result.source for result in self._results.values()]
        self._say(
            RunFinished(
                at=self._elapsed(),
                exit_code=exit_code,
                asked=sources.count("asked"),
                cached=sources.count("cached"),
                rendered=sources.count("rendered"),
                failed=len(self._failures),
                skipped=len(self._skipped),
                seconds=self._elapsed(),
                simulated=self._means.simulated,
                outputs=outputs,
            )
        )
        return Outcome(
            exit_code=exit_code,
            outputs=outputs,
            results=self._results,
            failures=self._failures,
            skipped=self._skipped,
        )

    def _say(self, event: Event) -> None:
        self._means.listen(event)

    def _elapsed(self) -> float:
        return self._means.clock.monotonic() - self._began
