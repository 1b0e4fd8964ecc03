"""Counts what passed in a run: of each loop, and of each model and value of a matrix in it."""

from collections.abc import Iterator
from typing import Final

import msgspec

from poeflow.events import Event, StepFailed, StepFinished, StepStarted
from poeflow.records import key_of, step_of, whole_instance
from poeflow.report.loop_overview import MOST_VALUES, axis_values

MODEL: Final = "model"


class Rate(msgspec.Struct):
    """How some instances of a step went, `passed` if they met all that is expected, at every level.

    `cost_usd` is None if the price of something that was sent is not known.
    """

    axis: str = ""
    value: str = ""
    judged: int = 0
    passed: int = 0
    scores: int = 0
    score: float = 0.0
    tokens: int = 0
    cost_usd: float | None = 0.0

    def add(self, event: StepFinished | StepFailed) -> None:
        self.judged += 1
        has_passed = isinstance(event, StepFinished) and all(one.passed for one in event.verdicts)
        self.passed += has_passed
        if event.score is not None:
            self.scores += 1
            self.score += event.score
        tokens = (event.prompt_tokens or 0) + (event.completion_tokens or 0)
        self.tokens += tokens
        if event.cost_usd is not None and self.cost_usd is not None:
            self.cost_usd += event.cost_usd
        elif tokens:
            self.cost_usd = None

    @property
    def mean_score(self) -> float | None:
        return self.score / self.scores if self.scores else None


class PassRates:
    """Listens to a run. What ran once, and what is current, is not counted."""

    def __init__(self) -> None:
        self._steps: dict[str, _Loop] = {}
        self._models: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted(model=str() as model) if key_of(event.step) is not None:
                self._models[whole_instance(event.step)] = model
            case StepFinished() | StepFailed(is_told=False) if key_of(event.step) is not None:
                loop = self._steps.setdefault(step_of(event.step), _Loop())
                loop.add(event, self._models.pop(event.step, ""))
            case _:
                pass

    def __iter__(self) -> Iterator[tuple[str, list[Rate]]]:
        """Yield each step with something to judge: the rate of the whole, then those of parts."""
        for step, loop in self._steps.items():
            if loop.is_judged:
                yield step, [loop.whole, *loop.parts()]


class _Loop:
    """The rates of a step, and of its parts by axis and value.

    The model of what came from the cache is not known: then there are no parts by models.
    """

    def __init__(self) -> None:
        self.whole = Rate()
        self.is_judged = False
        self._axes: dict[str, dict[str, Rate]] = {}

    def add(self, event: StepFinished | StepFailed, model: str) -> None:
        self.is_judged = self.is_judged or bool(event.verdicts) or isinstance(event, StepFailed)
        self.whole.add(event)
        for axis, value in {MODEL: model, **axis_values(key_of(event.step) or "")}.items():
            values = self._axes.setdefault(axis, {})
            if len(values) <= MOST_VALUES:
                values.setdefault(value, Rate(axis, value)).add(event)

    def parts(self) -> Iterator[Rate]:
        """Yield the rates of the values of each axis that has several, but not very many."""
        for values in self._axes.values():
            if 1 < len(values) <= MOST_VALUES and "" not in values:
                yield from values.values()
