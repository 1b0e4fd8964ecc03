"""Functions and models that judge an answer: the call or request to each, and its verdict."""

from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from poeflow.answers.expect import judge_verdict
from poeflow.answers.judge import (
    ALONE,
    JudgeTask,
    JudgeVerdict,
    function_verdict,
    judge_messages,
    read_verdicts,
)
from poeflow.answers.parse import Reading
from poeflow.answers.prompts import correction
from poeflow.answers.schemas import compile_schema
from poeflow.client.messages import ChatRequest, Message, TextPart
from poeflow.engine.asking.asker import Asker, refuse_flagged
from poeflow.engine.asking.conversation import JudgeCall
from poeflow.engine.asking.request import (
    AskPolicy,
    ModelRequest,
    NotHere,
    ToBeAsked,
    UnusableAnswerError,
)
from poeflow.engine.asking.tools import ProjectFunction
from poeflow.engine.asking.turns import answer_values
from poeflow.errors import StepError
from poeflow.events import Verdict
from poeflow.flowfile.model import Expectation, Judge
from poeflow.flowfile.rules import model_fault
from poeflow.flowfile.step_settings import (
    Settings,
    judge_settings,
    settings_of,
)
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.plan import Plan
from poeflow.templates.reader import Reads
from poeflow.templates.render import Values
from poeflow.templates.sites import as_text


class Judges:
    """The judges of one instance. `values` are what its templates see.

    `function` returns the function with a name, if the user permits it. `reads` collects what the
    templates read.
    """

    def __init__(
        self,
        plan: Plan,
        step: str,
        values: Values,
        *,
        function: Callable[[str], ProjectFunction],
        reads: Reads,
    ) -> None:
        self._plan = plan
        self._texts = plan.texts
        self._flow = plan.flow
        self._step = step
        self._values = values
        self._function = function
        self._reads = reads

    def call(self, asker: Asker, asked: ModelRequest) -> JudgeCall:
        """Return what asks the models that judge the answer to `asked`, the step's own request."""
        return partial(
            self.verdicts,
            asker,
            asked.settings,
            instance=asked.instance,
            question=asked.chat.messages[-1],
            policy=asked.policy,
        )

    async def of_text(
        self,
        asker: Asker,
        reading: Reading,
        *,
        ruled: tuple[Verdict, ...],
        instance: str,
        may_send: bool,
    ) -> tuple[Verdict, ...] | NotHere | ToBeAsked:
        """Return all verdicts on a text that no model wrote, as `verdicts` does."""
        judge = partial(
            self.verdicts,
            asker,
            None,
            instance=instance,
            question=None,
            reading=reading,
            ruled=ruled,
        )
        if not may_send or not asker.mends(instance):
            return await judge(policy=AskPolicy(may_send=may_send))
        return await asker.answer_twice(
            lambda taken: judge(policy=AskPolicy(taken=taken)),
            is_failing=lambda found: isinstance(found, tuple) and any(v.is_failure for v in found),
        )

    async def verdicts(
        self,
        asker: Asker,
        asking: Settings | None,
        *,
        instance: str,
        question: Message | None,
        reading: Reading,
        ruled: tuple[Verdict, ...],
        policy: AskPolicy,
    ) -> tuple[Verdict, ...] | NotHere | ToBeAsked:
        """Return all verdicts on a text; functions judge it if it passed the rules, then models.

        `asking` are the step's settings, None if it asks no model. `ruled` are the verdicts by the
        rules. `question` is None for a text that answers none. `policy` is that of the step's own
        request: only if that may be sent is one asked anew. Raises `StepError` if a judge gives no
        verdict, or its rubric or model renders to nothing, and whatever asking raises.
        """
        if not self._flow.steps[self._step].expect or any(one.is_failure for one in ruled):
            return ruled
        called = await self._called(reading, may_run=policy.may_send and asker.may_run)
        if called is None:
            return ToBeAsked()
        found = [*ruled, *called]
        if any(verdict.is_failure for verdict in called):
            return tuple(found)
        for index, expectation in enumerate(self._flow.steps[self._step].expect):
            if expectation.judge is None:
                continue
            judgement = await self._ask_judge(
                index,
                expectation.judge,
                asker=asker,
                asking=asking or settings_of(self._flow, self._step, named=None),
                instance=instance,
                question=question,
                reading=reading,
                policy=AskPolicy(may_send=policy.may_send, taken=policy.taken),
            )
            if not isinstance(judgement, dict):
                return judgement
            found += [
                judge_verdict(expectation, score=one.score, reason=one.reason, rubric=name)
                for name, one in judgement.items()
            ]
        return tuple(found)

    async def _ask_judge(
        self,
        index: int,
        judge: Judge,
        *,
        asker: Asker,
        asking: Settings,
        instance: str,
        question: Message | None,
        reading: Reading,
        policy: AskPolicy,
    ) -> dict[str, JudgeVerdict] | NotHere | ToBeAsked:
        """Ask the judge of an expectation; return its verdicts by rubric."""
        path: KeyPath = ("steps", self._step, "expect", index, "judge")
        values = {**self._values, "output": answer_values(reading)}
        with self._texts.reader.recording(self._reads):
            own = self._judge_settings(path, judge, asking, values)
            task = self._task(path, judge, own, values, question)
        chat = _judge_request(own, task, takes_schemas=asker.takes_schemas(own.provider))
        asked = None if question is None else question.text
        messages = judge_messages(task, asked, reading.text)
        chat = msgspec.structs.replace(chat, messages=messages)
        request = asker.requests.make(
            chat,
            own,
            instance=instance,
            purpose="judge",
            policy=policy,
            secrets=self._plan.secrets(path, None if judge.system is not None else own.system),
        )
        others = partial(self._fallback_requests, asker, asking, task)
        return await _ask_for_verdicts(asker, request, task, others)

    def _fallback_requests(
        self, asker: Asker, asking: Settings, task: JudgeTask, request: ModelRequest
    ) -> Iterator[ModelRequest]:
        """Yield a judge's request to its fallback models, made only when they are asked."""
        for named in request.settings.fallback:
            other = judge_settings(self._flow, named, asking)
            other = msgspec.structs.replace(other, system=request.settings.system, fallback=())
            chat = _judge_request(other, task, takes_schemas=asker.takes_schemas(other.provider))
            yield asker.requests.make(
                msgspec.structs.replace(chat, messages=request.chat.messages),
                other,
                instance=request.instance,
                purpose="judge",
                policy=request.policy,
                secrets=request.secrets,
            )

    async def _called(self, reading: Reading, *, may_run: bool) -> list[Verdict] | None:
        """Return the verdicts of functions, None if there are any and none may run."""
        expected = self._flow.steps[self._step].expect
        calls = [one for one in expected if one.call is not None]
        if calls and not may_run:
            return None
        found: list[Verdict] = []
        for one in calls:
            name = one.call or ""
            data = await self._function(name).judge(name, answer_values(reading))
            found.append(_call_verdict(one, data))
        return found

    def _task(
        self,
        path: KeyPath,
        judge: Judge,
        settings: Settings,
        values: Values,
        question: Message | None,
    ) -> JudgeTask:
        """Return what a judge goes by. Raises `StepError` for a blank rubric."""
        if judge.rubrics is None:
            rubrics = {ALONE: self._texts.prose((*path, "rubric"), values)}
        else:
            rubrics = {
                name: self._texts.prose((*path, "rubrics", name), values) for name in judge.rubrics
            }
        if not all(text.strip() for text in rubrics.values()):
            raise StepError("the rubric of the judge is blank", hint="check its template")
        persona = (*path, "system") if judge.system is not None else settings.system
        system = "" if persona is None else self._texts.prose(persona, values)
        content = () if question is None else question.content
        parts = () if isinstance(content, str) else content or ()
        attached = [part for part in parts if not isinstance(part, TextPart)]
        return JudgeTask(
            rubrics=rubrics,
            system=system,
            examples=judge.examples,
            attached=attached if judge.attachments else (),
        )

    def _judge_settings(
        self, path: KeyPath, judge: Judge, settings: Settings, values: Values
    ) -> Settings:
        if judge.model is None:
            return judge_settings(self._flow, None, settings)
        named = as_text(self._texts.value((*path, "model"), judge.model, values), "model")
        if model_fault(named):
            raise StepError(f"judge: {model_fault(named)}", hint="check its template")
        return judge_settings(self._flow, named, settings)


async def _ask_for_verdicts(
    asker: Asker,
    request: ModelRequest,
    task: JudgeTask,
    others: Callable[[ModelRequest], Iterator[ModelRequest]],
) -> dict[str, JudgeVerdict] | NotHere | ToBeAsked:
    """Ask a judge, and once more if its answer has no verdicts.

    `others` gives a request to its fallback models.
    """
    schema, output = compile_schema(task.schema), task.output
    for is_last in (False, True):
        answer = await asker.answer(request, others(request))
        if isinstance(answer, NotHere | ToBeAsked):
            return answer
        refuse_flagged(answer.completion, output, has_tools=False)
        text = answer.completion.text
        try:
            found = read_verdicts(text, schema, task.rubrics)
        except StepError as error:
            if is_last:
                hint = "ask again with --failed, or try another model as judge"
                raise UnusableAnswerError(error.message, hint=hint) from None
            again = correction(output, (error.message,))
        else:
            if request.policy.taken is not None:
                request.policy.taken.judges_passed()
            return found
        messages = (Message(role="assistant", content=text), Message(role="user", content=again))
        request = asker.requests.following(request, messages, "judge")
    raise AssertionError("the last try returns or raises")


def _judge_request(settings: Settings, task: JudgeTask, *, takes_schemas: bool) -> ChatRequest:
    """Return a judge's request without its messages."""
    params = {name: given.value for name, given in settings.params.items()}
    if takes_schemas:
        params["response_format"] = task.response_format
    return ChatRequest(
        model=as_text(settings.model, "model"),
        messages=(),
        params=params,
        extra_body={name: given.value for name, given in settings.extra_body.items()},
        stream=True,
    )


def _call_verdict(expectation: Expectation, given: bytes) -> Verdict:
    """Return the verdict of the function that an expectation calls, from what it gives."""
    found = function_verdict(expectation.call or "", given)
    said = "" if found.is_good else f", found {found.said}"
    return Verdict(
        kind="call",
        passed=found.is_good,
        level=expectation.level,
        message=f"expected that {expectation.call} holds{said}",
        score=found.score,
        weight=expectation.weight,
        reason=found.reason,
    )
