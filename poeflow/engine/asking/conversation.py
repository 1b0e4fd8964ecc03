"""A conversation up to a usable answer: rounds of tools, repairs, expectations, judges.

Every turn is a request, stored under its own fingerprint: a conversation that was interrupted goes
on from its last turn.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import msgspec

from poeflow.answers import expect
from poeflow.answers.display import if_empty, why_untrue
from poeflow.answers.parse import Reading, default_reading, read
from poeflow.answers.prompts import correction
from poeflow.answers.schemas import Schema
from poeflow.client.answers import Completion
from poeflow.client.messages import Message
from poeflow.digest import Json
from poeflow.engine.asking.asker import Asker, refuse_flagged
from poeflow.engine.asking.request import (
    Answer,
    ModelRequest,
    NotHere,
    ToBeAsked,
    UnusableAnswerError,
)
from poeflow.engine.asking.tools import MAX_ROUNDS, RefusedToolbox, Toolbox, turn_of
from poeflow.engine.asking.turns import Dialogue, ReadText, answer_values
from poeflow.errors import StepError
from poeflow.events import Verdict
from poeflow.flowfile.model import Expectation, Output
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.plan import Plan
from poeflow.templates.reader import Reads
from poeflow.templates.render import Values

_OF_ANSWERS: Final = frozenset({"max_cost", "max_seconds"})
"""Kinds of expectations that judge how an answer was given, and not its text."""
_SHOWN: Final = 3
_BEGINNING: Final = 60


class Expectations:
    """The expectations of one instance. `values` are what its templates see.

    `reads` collects what they read.
    """

    def __init__(self, plan: Plan, step: str, values: Values, *, reads: Reads) -> None:
        self._texts = plan.texts
        self._flow = plan.flow
        self._step = step
        self._values = values
        self._reads = reads

    @property
    def is_any(self) -> bool:
        """Whether the step expects anything."""
        return bool(self._flow.steps[self._step].expect)

    def verdicts(
        self, reading: Reading, *, cost: float | None = None, seconds: float | None = None
    ) -> tuple[Verdict, ...]:
        """Judge a text by every expectation that is a rule. Raises `TemplateError`.

        `cost` is that of the answer in USD, `seconds` how long it took; None if it is not known.
        """
        if not self.is_any:
            return ()
        with self._texts.reader.recording(self._reads):
            return tuple(
                expect.verdict(expected, reading, holds=holds, cost=cost, seconds=seconds)
                for expected, holds in self._rendered(reading)
            )

    def read(self, text: str, schema: Schema | None) -> ReadText:
        """Read a text that no model wrote, and judge it by every rule. Raises `StepError`."""
        spec = self._flow.steps[self._step]
        output = msgspec.structs.replace(spec.output, reasoning="keep")
        reading = read(output, text, schema)
        if not reading.faults:
            return ReadText(reading=reading, verdicts=self.verdicts(reading))
        if not output.has_default:
            hint = "check the template" if spec.kind == "render" else "check its output"
            raise StepError("; ".join(reading.faults), hint=hint)
        return ReadText(reading=default_reading(output, schema), unread=reading.faults)

    def of_edited(self, reading: Reading) -> tuple[tuple[Expectation, ...], tuple[Verdict, ...]]:
        """Return the expectations that a rule can judge of an edited text, and the verdicts.

        Models and functions judged another text, and cost and time are those of an answer.
        """
        pairs = [
            (expected, expect.verdict(expected, reading, holds=holds))
            for expected, holds in self._rendered(reading)
            if expect.kind_of(expected) not in _OF_ANSWERS
        ]
        return tuple(expected for expected, _ in pairs), tuple(found for _, found in pairs)

    def _truth(self, path: KeyPath, values: Values) -> bool | str:
        """Return whether the expression at `path` is true, or why it is not."""
        unmet = self._texts.unmet(path, values)
        if unmet is None:
            return True
        return f"that {unmet}" if unmet else why_untrue(self._texts.compared(path, values))

    def _rendered(self, reading: Reading) -> Iterator[tuple[Expectation, bool | str | None]]:
        """Yield each rule with its templates rendered, and the truth of `that`."""
        values = {**self._values, "output": answer_values(reading)}
        for index, expectation in enumerate(self._flow.steps[self._step].expect):
            if not expect.is_ruled(expectation):
                continue
            path: KeyPath = ("steps", self._step, "expect", index)
            rendered: dict[str, Json] = {}
            holds: bool | str | None = None
            for key, written, renders in expect.templates_in(expectation):
                match renders.to:
                    case "truth":
                        holds = self._truth((*path, key), values)
                    case "text":
                        hint = if_empty(key, str(written))
                        text = self._texts.text((*path, key), str(written), values, hint=hint)
                        rendered[key] = text
                    case "value":
                        rendered[key] = self._texts.value((*path, key), written, values)
            yield msgspec.structs.replace(expectation, **rendered), holds


class ToolListener(Protocol):
    """Gets each tool call that ran."""

    def __call__(self, tool: str, *, is_error: bool) -> None: ...


class JudgeCall(Protocol):
    """Returns the verdicts `ruled` and those of functions and models that judge an answer."""

    async def __call__(
        self, *, reading: Reading, ruled: tuple[Verdict, ...]
    ) -> tuple[Verdict, ...] | NotHere | ToBeAsked: ...


class AnswerRules(msgspec.Struct, frozen=True, kw_only=True):
    """The rules for an answer.

    `expectations` and `judge` are None if the step expects nothing, `toolbox` if tool calls are the
    result. `is_whole` is whether every turn is needed, and not only the last one. `is_continued` is
    whether another step continues the conversation.
    """

    output: Output
    schema: Schema | None
    expectations: Expectations | None
    judge: JudgeCall | None
    toolbox: Toolbox | RefusedToolbox | None
    is_whole: bool
    is_continued: bool
    on_tool: ToolListener


async def converse(
    asker: Asker, request: ModelRequest, rules: AnswerRules, *, others: Iterable[ModelRequest] = ()
) -> Dialogue | NotHere | ToBeAsked:
    """Ask until there is an answer that can be used, or no repair is left.

    Raises `StepError` for an answer that cannot be read and has no default, and whatever asking
    raises. An answer that can be read and fails an expectation is returned with its verdicts.
    """
    takes_turns = rules.toolbox is not None or bool(rules.output.repair)
    if takes_turns and (earlier := await _earlier_dialogue(asker, request, rules)) is not None:
        return earlier
    first: Answer | None = None
    repairs, rounds = rules.output.repair or 0, 0
    while True:
        answer = await asker.answer(request, () if first else others)
        if not isinstance(answer, Answer):
            return answer
        first, completion = first or answer, answer.completion
        refuse_flagged(completion, rules.output, has_tools=request.has_tools)
        if rules.toolbox is not None and completion.tool_calls and "length" not in completion.flags:
            if not asker.may_run:
                return ToBeAsked(request=request, is_sure=asker.stored_end(request) is None)
            request.passed()
            rounds += 1
            _refuse_rounds(rounds)
            messages = await _tool_results(rules.toolbox, completion, rules.on_tool)
            request = asker.requests.following(request, messages, "tools")
            continue
        dialogue = await _judged(_read(asker, request, first, answer, rules), rules)
        if not isinstance(dialogue, Dialogue):
            return dialogue
        faults = _faults(dialogue)
        if not faults or not repairs:
            break
        repairs -= 1
        again = Message(role="user", content=correction(rules.output, faults))
        request = asker.requests.following(request, (turn_of(completion), again), "repair")
    if faults and answer.source == "cached" and not takes_turns:
        dialogue = await _earlier_dialogue(asker, request, rules) or dialogue
        if not isinstance(dialogue, Dialogue):
            return dialogue
    if not faults:
        request.passed()
        await asker.store_end(first, answer)
    return _with_default(dialogue, rules)


async def _earlier_dialogue(
    asker: Asker, request: ModelRequest, rules: AnswerRules
) -> Dialogue | NotHere | ToBeAsked | None:
    """Return the end of the same conversation in an earlier run, None if it cannot be used.

    With it, no tools or repairs are needed.
    """
    end = None if rules.is_whole else asker.stored_end(request)
    if end is None:
        return None
    last = asker.last_request(request) if rules.is_continued else request
    if last is None:
        return None
    dialogue = await _judged(_read(asker, last, end, end, rules), rules)
    return None if isinstance(dialogue, Dialogue) and _faults(dialogue) else dialogue


def _read(
    asker: Asker, request: ModelRequest, first: Answer, last: Answer, rules: AnswerRules
) -> Dialogue:
    """Return the content of an answer with its verdicts."""
    reading = read(rules.output, last.completion.text, rules.schema)
    verdicts: tuple[Verdict, ...] = ()
    if rules.expectations is not None and not reading.faults:
        cost, seconds = asker.cost_usd(request, last), last.seconds
        verdicts = rules.expectations.verdicts(reading, cost=cost, seconds=seconds)
    return Dialogue(
        first=first,
        last=last,
        reading=reading,
        verdicts=verdicts,
        asked=request.chat.messages,
    )


async def _judged(dialogue: Dialogue, rules: AnswerRules) -> Dialogue | NotHere | ToBeAsked:
    """Return a dialogue with the verdicts of functions and models too, if nothing else failed."""
    if rules.judge is None or _faults(dialogue):
        return dialogue
    found = await rules.judge(reading=dialogue.reading, ruled=dialogue.verdicts)
    if not isinstance(found, tuple):
        return found
    if found == dialogue.verdicts:
        return dialogue
    return msgspec.structs.replace(dialogue, verdicts=found)


def _faults(dialogue: Dialogue) -> tuple[str, ...]:
    """Return why an answer cannot be used: it cannot be read, or fails an expectation."""
    if not dialogue.verdicts:
        return dialogue.reading.faults
    failures = (v.message for v in dialogue.verdicts if not v.passed and v.level == "error")
    return dialogue.reading.faults or tuple(failures)


def _refuse_rounds(rounds: int) -> None:
    """Raise `StepError` if a model only ever calls tools."""
    if rounds > MAX_ROUNDS:
        message = f"the model called tools {MAX_ROUNDS} times and did not answer"
        raise StepError(message, hint="make its task or its tools simpler")


async def _tool_results(
    toolbox: Toolbox | RefusedToolbox, completion: Completion, on_tool: ToolListener
) -> tuple[Message, ...]:
    """Run the tools that an answer calls; return its turn and their results."""
    answered = await toolbox.answer(completion.tool_calls)
    for use in answered.uses:
        on_tool(use.name, is_error=use.is_error)
    return (turn_of(completion), *answered.messages)


def _with_default(dialogue: Dialogue, rules: AnswerRules) -> Dialogue:
    """Put the default in place of an answer that cannot be read.

    Raises `UnusableAnswerError` if there is none.
    """
    faults = dialogue.reading.faults
    if not faults:
        return dialogue
    if not rules.output.has_default:
        text = dialogue.reading.text or dialogue.last.completion.text
        raise UnusableAnswerError(_unusable(faults, text), hint=_hint(rules.output))
    reading = default_reading(rules.output, rules.schema)
    return msgspec.structs.replace(dialogue, reading=reading, unread=faults)


def _unusable(faults: tuple[str, ...], text: str) -> str:
    rest = len(faults) - _SHOWN
    shown = "; ".join(faults[:_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")
    beginning = " ".join(text[: 2 * _BEGINNING].split())[:_BEGINNING]
    return f'{shown} (it begins "{beginning}")'


def _hint(output: Output) -> str:
    if output.repair:
        often = "once" if output.repair == 1 else f"{output.repair} times"
        return f"asked again {often}; ask anew with --failed, or make the prompt clearer"
    return "ask again with --failed or output: {repair: 2}, or make the prompt clearer"
