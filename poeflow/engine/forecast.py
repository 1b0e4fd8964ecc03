"""What an instance would send if it had to be asked: which requests, how many, and how long.

Counts are bounds, lengths are guesses that say where they come from. What it all costs is for
`costs` to say.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from poeflow.client.catalogue import Catalogue
from poeflow.costs import CHARACTERS, limit_of, tokens_of
from poeflow.digest import Json
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.tools import MAX_ROUNDS
from poeflow.flowfile.model import Flow, Judge, Step
from poeflow.flowfile.step_settings import Settings, judge_settings, judges_of, samples_of
from poeflow.records import Calls

_TRIES: Final = 2
"""How often a judge is asked at most: once more where what it says is no verdict."""
_BETWEEN: Final = 100
"""About how many tokens a correction, or the result of a tool, has."""
_FRAME: Final = 250
"""About how many tokens a judge is told besides rubric, question and answer."""
_VERDICT: Final = 60
"""About how many tokens a verdict has."""


class Forecast:
    """Tells what the instances of one flow would send. `lock_update` has what the last run used."""

    def __init__(self, flow: Flow, lock_update: LockUpdate, catalogue: Catalogue | None) -> None:
        self._flow = flow
        self._lock_update = lock_update
        self._catalogue = catalogue

    def sure(
        self, name: str, step: str, settings: Settings | None, request: Mapping[str, Json] | None
    ) -> tuple[Calls, ...]:
        """Return the requests of an instance that must be asked.

        `settings` and `request` are None where another answer decides them: then it is taken to be
        as long as last time.
        """
        prompt = self._lock_update.prompt_tokens(name) if request is None else tokens_of(request)
        first = self._first(step, settings, least=self._samples(step), prompt=prompt or 0)
        first = self._measured(name, first, None if request is None else limit_of(request))
        return (first, *self._others(step, settings, first))

    def possible(self, name: str, step: str, settings: Settings | None) -> tuple[Calls, ...]:
        """Return the requests of an instance that may turn out to be asked, or to be current.

        Nothing is told where the last run does not say how long its first request was.
        """
        prompt = self._lock_update.prompt_tokens(name)
        if prompt is None or settings is None:
            return ()
        first = self._measured(name, self._first(step, settings, least=0, prompt=prompt), None)
        return (first, *self._others(step, settings, first))

    def _first(self, step: str, settings: Settings | None, *, least: int, prompt: int) -> Calls:
        return Calls(
            purpose="answer",
            model=None if settings is None else settings.model,
            least=least,
            most=self._samples(step),
            prompt_tokens=prompt,
        )

    def _samples(self, step: str) -> int:
        return samples_of(self._flow.steps[step]).count

    def _measured(self, name: str, first: Calls, limit: int | None) -> Calls:
        """Return the first request with how long its answer may be."""
        known = self._lock_update.answer_tokens(name)
        if known is None:
            bot = self._catalogue.find(first.model or "") if self._catalogue is not None else None
            limits = [limit, None if bot is None else bot.context.max_output]
            found = min((one for one in limits if one is not None), default=None)
            known = None if found is None else (found, "limit")
        if known is None:
            return first
        return msgspec.structs.replace(first, answer_tokens=known[0], answer_from=known[1])

    def _others(self, name: str, settings: Settings | None, first: Calls) -> Iterator[Calls]:
        """Yield what may follow the first request of a step: repairs, rounds of tools, judges."""
        step = self._flow.steps[name]
        rounds = MAX_ROUNDS if step.tools and step.tools_mode != "return" else 0
        for purpose, often in (("repair", step.output.repair or 0), ("tools", rounds)):
            if often:
                grown = (often + 1) * ((first.answer_tokens or 0) + _BETWEEN) // 2
                yield msgspec.structs.replace(
                    first,
                    purpose=purpose,
                    least=0,
                    most=first.most * often,
                    prompt_tokens=first.prompt_tokens + grown,
                )
        for judge in judges_of(step):
            yield self._judge(step, judge, settings, first)

    def _judge(self, step: Step, judge: Judge, settings: Settings | None, first: Calls) -> Calls:
        model = first.model
        if settings is not None and judge.model is not None:
            model = judge_settings(self._flow, judge.model, settings).model
        rubric = judge.rubric if isinstance(judge.rubric, str) else ""
        about = first.prompt_tokens + (first.answer_tokens or 0) + len(rubric) // CHARACTERS
        return Calls(
            purpose="judge",
            model=model,
            least=first.least if _is_always_judged(step) else 0,
            most=first.most * _TRIES,
            prompt_tokens=_FRAME + about,
            answer_tokens=_VERDICT,
            answer_from="usual",
        )


def _is_always_judged(step: Step) -> bool:
    """Whether nothing but judges can find fault with an answer."""
    output = step.output
    is_plain = output.format in (None, "text") and not output.schema and not output.one_of
    return is_plain and all(one.judge is not None or one.level != "error" for one in step.expect)
