"""Models that judge an answer by a rubric: requests of their own, cached like any other."""

from poeflow.answers.expect import Verdict
from poeflow.answers.judge import VERDICT_SCHEMA, judge_messages, judge_verdict
from poeflow.answers.parse import Reading
from poeflow.client.messages import ChatRequest
from poeflow.digest import Json
from poeflow.engine.ask import Asker
from poeflow.engine.expecting import answer_values
from poeflow.engine.judge import verdict_of
from poeflow.engine.send import Asked
from poeflow.errors import StepError
from poeflow.flowfile.model import Flow, Judge
from poeflow.flowfile.rules import model_fault
from poeflow.flowfile.step_settings import Settings, judge_settings
from poeflow.flowfile.tree import KeyPath
from poeflow.templates.texts import Texts, Values, as_text


class Judging:
    """The judges of one instance. `values` are what its templates see."""

    def __init__(self, texts: Texts, flow: Flow, step: str, values: Values) -> None:
        self._texts = texts
        self._flow = flow
        self._step = step
        self._values = values

    async def verdicts(
        self, asker: Asker, asking: Settings, *, name: str, question: str, reading: Reading
    ) -> tuple[Verdict, ...]:
        """Ask the models that judge. `asking` are the step's settings, whose model is the default.

        Raises `StepError` where a judge gives no verdict, or its rubric or model renders to
        nothing, and whatever asking raises.
        """
        values = {**self._values, "output": answer_values(reading)}
        found: list[Verdict] = []
        for index, expectation in enumerate(self._flow.steps[self._step].expect):
            if expectation.judge is None:
                continue
            path: KeyPath = ("steps", self._step, "expect", index, "judge")
            rubric = self._texts.prose((*path, "rubric"), values)
            if not rubric.strip():
                raise StepError("the rubric of the judge is blank", hint="check its template")
            own = self._judge_settings(path, expectation.judge, asking, values)
            request = _request(own, takes_schemas=asker.takes_schemas(own.provider))
            asked = Asked(step=name, purpose="judge", request=request, settings=own)
            messages = judge_messages(rubric, question, reading.text)
            found.append(judge_verdict(expectation, await verdict_of(asker, asked, messages)))
        return tuple(found)

    def _judge_settings(
        self, path: KeyPath, judge: Judge, settings: Settings, values: Values
    ) -> Settings:
        if judge.model is None:
            return judge_settings(self._flow, settings.named, settings)
        named = as_text(self._texts.value((*path, "model"), judge.model, values), "model")
        if model_fault(named):
            raise StepError(f"judge: {model_fault(named)}", hint="check its template")
        return judge_settings(self._flow, named, settings)


def _request(settings: Settings, *, takes_schemas: bool) -> ChatRequest:
    """Return a judge's request without its messages."""
    params = {name: given.value for name, given in settings.params.items()}
    if takes_schemas:
        named: dict[str, Json] = {"name": "verdict", "schema": VERDICT_SCHEMA}
        params["response_format"] = {"type": "json_schema", "json_schema": named}
    return ChatRequest(
        model=as_text(settings.model, "model"),
        messages=(),
        params=params,
        extra_body={name: given.value for name, given in settings.extra_body.items()},
        stream=True,
    )
