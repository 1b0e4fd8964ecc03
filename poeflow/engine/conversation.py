"""A conversation until there is an answer to use: rounds of tools, repairs, expectations, judges.

Every turn is a request of its own, stored under its own fingerprint: a chain that was cut short
goes on from there.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import msgspec

from poeflow.answers.expect import (
    VERDICT_SCHEMA,
    Judged,
    Verdict,
    judge_messages,
    judge_verdict,
    judged,
    verdict,
)
from poeflow.answers.parse import Reading, read
from poeflow.answers.prompts import correction
from poeflow.answers.schemas import Schema, compile_schema
from poeflow.client.answers import Completion
from poeflow.client.messages import ChatRequest, Message
from poeflow.digest import Json
from poeflow.engine.ask import Answer, Asker, has_tools, refuse_flagged
from poeflow.engine.send import Asked
from poeflow.engine.tools import MAX_ROUNDS, RefusedToolbox, Toolbox, with_ids
from poeflow.errors import StepError
from poeflow.events import Purpose
from poeflow.flowfile.model import Expectation, Flow, Judge, Output
from poeflow.flowfile.rules import model_fault
from poeflow.flowfile.step_settings import Settings, judge_settings
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.templates.render import Values
from poeflow.templates.sites import Texts, as_text


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


_SHOWN: Final = 3
_BEGINNING: Final = 60


class Dialogue(msgspec.Struct, frozen=True, kw_only=True):
    """How a conversation ended.

    `first` is the answer to the first request, whose fingerprint the instance goes by, `last` the
    one that counts. `verdicts` judge it, but for those that need a model.
    """

    first: Answer
    last: Answer
    reading: Reading
    verdicts: tuple[Verdict, ...]
    messages: tuple[Message, ...]


class ToolListener(Protocol):
    """Hears of each tool that ran."""

    def __call__(self, tool: str, *, is_error: bool) -> None: ...


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer must be. `toolbox` is None where calls are the result.

    `is_continued` tells that another step goes on with the whole conversation.
    """

    output: Output
    schema: Schema | None
    expecting: Expecting
    toolbox: Toolbox | RefusedToolbox | None
    is_continued: bool
    on_tool: ToolListener


async def converse(
    asker: Asker, asked: Asked, rules: Rules, *, others: Iterable[Asked] = ()
) -> Dialogue:
    """Ask until there is an answer that can be used, or no repair is left.

    Raises `StepError` for an answer that cannot be read, and whatever asking raises. An answer
    that can be read and fails an expectation is returned with its verdicts.
    """
    ended = None if rules.is_continued else asker.ended(asked)
    if ended is not None:
        dialogue = _read(asked, ended, ended, rules)
        if not dialogue.reading.faults and not _failures(dialogue.verdicts):
            return dialogue
    first: Answer | None = None
    repairs, rounds = rules.output.repair or 0, 0
    while True:
        answer = await asker.answer(asked, () if first else others)
        first = first or answer
        refuse_flagged(answer.completion, rules.output, has_tools=has_tools(asked.request))
        is_cut = "length" in answer.completion.flags
        if rules.toolbox is not None and answer.completion.tool_calls and not is_cut:
            rounds += 1
            if rounds > MAX_ROUNDS:
                message = f"the model called tools {MAX_ROUNDS} times and did not answer"
                raise StepError(message, hint="make its task or its tools simpler")
            asked = await _with_results(asked, answer.completion, rules)
            continue
        dialogue = _read(asked, first, answer, rules)
        faults = dialogue.reading.faults or _failures(dialogue.verdicts)
        if not faults or not repairs:
            break
        repairs -= 1
        again = Message(role="user", content=correction(rules.output, faults))
        asked = _continued(asked, (said(answer.completion), again), "repair")
    if dialogue.reading.faults:
        text = dialogue.reading.text or answer.completion.text
        raise StepError(_unusable(dialogue.reading.faults, text), hint=_hint(rules.output))
    if not faults:
        await asker.keep_end(first, answer)
    return dialogue


def _read(asked: Asked, first: Answer, last: Answer, rules: Rules) -> Dialogue:
    """Return what an answer holds, judged."""
    reading = read(rules.output, last.completion.text, rules.schema)
    return Dialogue(
        first=first,
        last=last,
        reading=reading,
        verdicts=() if reading.faults else rules.expecting.verdicts(reading),
        messages=(*asked.request.messages, said(last.completion)),
    )


def said(completion: Completion) -> Message:
    """Return the model's turn as the next request repeats it, every key of its calls kept."""
    calls = tuple(call.to_param() for call in with_ids(completion.tool_calls))
    return Message(role="assistant", content=completion.text or None, tool_calls=calls or None)


async def _with_results(asked: Asked, completion: Completion, rules: Rules) -> Asked:
    if rules.toolbox is None:
        raise AssertionError("only a toolbox answers calls")
    answered = await rules.toolbox.answer(completion.tool_calls)
    for use in answered.uses:
        rules.on_tool(use.name, is_error=use.is_error)
    return _continued(asked, (said(completion), *answered.messages), "tools")


def _continued(asked: Asked, messages: tuple[Message, ...], purpose: Purpose) -> Asked:
    """Return the request that goes on. A call that was demanded is not demanded again."""
    request = asked.request
    params: dict[str, Json] = dict(request.params)
    if params.get("tool_choice") not in (None, "auto", "none"):
        params["tool_choice"] = "auto"
    changed: ChatRequest = msgspec.structs.replace(
        request, messages=(*request.messages, *messages), params=params
    )
    return msgspec.structs.replace(asked, request=changed, purpose=purpose)


def _failures(verdicts: Iterable[Verdict]) -> tuple[str, ...]:
    return tuple(v.message for v in verdicts if not v.passed and v.level == "error")


def _unusable(faults: tuple[str, ...], text: str) -> str:
    rest = len(faults) - _SHOWN
    told = "; ".join(faults[:_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
    beginning = " ".join(text[: 2 * _BEGINNING].split())[:_BEGINNING]
    return f'{told} (it begins "{beginning}")'


def _hint(output: Output) -> str:
    if output.repair:
        often = "once" if output.repair == 1 else f"{output.repair} times"
        return f"asked again {often}; make the prompt clearer"
    return "ask again with output: {repair: 2}, or make the prompt clearer"


_JUDGE_OUTPUT: Final = Output(format="json", schema=VERDICT_SCHEMA, repair=1)


async def verdict_of(asker: Asker, asked: Asked, messages: tuple[Message, ...]) -> Judged:
    """Ask a judge, once more where what it says is no verdict."""
    schema = compile_schema(VERDICT_SCHEMA)
    for is_last in (False, True):
        request = msgspec.structs.replace(asked.request, messages=messages)
        answer = await asker.answer(msgspec.structs.replace(asked, request=request))
        refuse_flagged(answer.completion, _JUDGE_OUTPUT, has_tools=False)
        text = answer.completion.text
        try:
            return judged(text, schema)
        except StepError as error:
            if is_last:
                raise
            again = correction(_JUDGE_OUTPUT, (error.message,))
        messages = (
            *messages,
            Message(role="assistant", content=text),
            Message(role="user", content=again),
        )
    raise AssertionError("the last try returns or raises")


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
