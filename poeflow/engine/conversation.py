"""A conversation until there is an answer to use: rounds of tools, and bounded repairs.

Every turn is a request of its own, stored under its own fingerprint: a chain that was cut short
goes on where it stood.
"""

from collections.abc import Iterable
from typing import Final, Protocol

import msgspec

from poeflow.answers.expect import Verdict
from poeflow.answers.parse import Reading, read
from poeflow.answers.repair import correction
from poeflow.answers.schemas import Schema
from poeflow.client.answers import Completion
from poeflow.client.messages import ChatRequest, Message
from poeflow.digest import Json
from poeflow.engine.ask import Answer, Asker, has_tools, refuse_flagged
from poeflow.engine.expecting import Expecting
from poeflow.engine.send import Asked
from poeflow.engine.tools import MAX_ROUNDS, RefusedToolbox, Toolbox, with_ids
from poeflow.errors import StepError
from poeflow.events import Purpose
from poeflow.flowfile.model import Output

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
