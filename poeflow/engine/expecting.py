"""What a step expects of its answer, judged by rules; `judging` asks models."""

from collections.abc import Iterator

import msgspec

from poeflow.answers.expect import Verdict, verdict
from poeflow.answers.parse import Reading
from poeflow.digest import Json
from poeflow.flowfile.model import Expectation, Flow
from poeflow.flowfile.tree import KeyPath
from poeflow.templates.texts import Texts, Values, as_text


class Expecting:
    """The expectations of one instance. `values` are what its templates see."""

    def __init__(self, texts: Texts, flow: Flow, step: str, values: Values) -> None:
        self._texts = texts
        self._flow = flow
        self._step = step
        self._values = values

    def verdicts(self, reading: Reading) -> tuple[Verdict, ...]:
        """Judge an answer by every expectation that needs no model. Raises `TemplateError`."""
        values = {**self._values, "output": answer_values(reading)}
        return tuple(self._verdicts(reading, values))

    def _verdicts(self, reading: Reading, values: Values) -> Iterator[Verdict]:
        for index, expectation in enumerate(self._flow.steps[self._step].expect):
            path: KeyPath = ("steps", self._step, "expect", index)
            if expectation.judge is not None:
                continue
            holds = None
            if expectation.that is not None:
                holds = bool(self._texts.expression((*path, "that"), values))
            yield verdict(self._rendered(path, expectation, values), reading, holds=holds)

    def _rendered(self, path: KeyPath, expectation: Expectation, values: Values) -> Expectation:
        changes: dict[str, Json] = {}
        for key in ("contains", "not_contains", "matches"):
            written = getattr(expectation, key)
            if written is not None:
                changes[key] = as_text(self._texts.value((*path, key), written, values), key)
        if expectation.equals is not msgspec.UNSET:
            changes["equals"] = self._texts.value((*path, "equals"), expectation.equals, values)
        return msgspec.structs.replace(expectation, **changes) if changes else expectation


def answer_values(reading: Reading) -> dict[str, Json]:
    """Return what expectations see as `output`."""
    return {"text": reading.text, "data": reading.data, "value": reading.value}
