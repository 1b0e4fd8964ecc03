"""One judge, asked until it gives a verdict, or twice."""

from typing import Final

import msgspec

from poeflow.answers.judge import VERDICT_SCHEMA, Judged, judged
from poeflow.answers.repair import correction
from poeflow.answers.schemas import compile_schema
from poeflow.client.messages import Message
from poeflow.engine.ask import Asker, refuse_flagged
from poeflow.engine.send import Asked
from poeflow.errors import StepError
from poeflow.flowfile.model import Output

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
