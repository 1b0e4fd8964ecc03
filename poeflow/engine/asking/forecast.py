"""Forecasts which requests the instances of a flow would send, and how long their answers may be.

Counts of requests are bounds, lengths are guesses with their source. `costs` adds the prices.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

import msgspec

from poeflow.client.catalogue import Catalogue
from poeflow.costs import CHARACTERS, size_of
from poeflow.digest import Json
from poeflow.engine.asking.request import ModelRequest, ToBeAsked
from poeflow.engine.asking.tools import MAX_ROUNDS
from poeflow.flowfile.loops import samples_of
from poeflow.flowfile.model import Flow, Judge, Step
from poeflow.flowfile.step_settings import Settings, judge_settings, judges_of, settings_of
from poeflow.records import Calls, Measure

_NO_SAMPLES: Final = ToBeAsked()
_TRIES: Final = 2
"""Maximum requests to a judge: a second one if the first answer is not a verdict."""
_BETWEEN: Final = 100
"""About how many tokens a correction, or the result of a tool, has."""
_FRAME: Final = 250
"""About how many tokens a judge reads besides rubric, question and answer."""
_VERDICT: Final = 60
"""About how many tokens a verdict has."""


class LastUsage(Protocol):
    """The usage of instances in the last run, by their names in the lock."""

    def prompt_tokens(self, name: str) -> int | None:
        """Return the length of the first request, None if it is not known."""

    def answer_tokens(self, name: str) -> tuple[int, Measure] | None:
        """Return the length of the answer with its source, None if it is not known."""


class _Alike(msgspec.Struct, frozen=True):
    """The requests of instances that are alike; of the `possible` ones no judge is certain.

    Their `settings` are held, so that no others have the same id.
    """

    settings: Settings | None
    certain: tuple[Calls, ...]
    possible: tuple[Calls, ...]


class Forecast:
    """Forecasts the requests of one flow's instances."""

    def __init__(self, flow: Flow, last_usage: LastUsage, catalogue: Catalogue | None) -> None:
        self._flow = flow
        self._last_usage = last_usage
        self._catalogue = catalogue
        self._wanted: dict[str, int] = {}
        """How many answers each step that was looked at requests of its model, if it has one."""
        self._known: dict[tuple[object, ...], _Alike] = {}
        """The requests of instances that are alike: those of a table mostly are."""

    def sure(
        self,
        name: str,
        step: str,
        settings: Settings | None,
        request: Mapping[str, Json] | None,
        samples: ToBeAsked = _NO_SAMPLES,
        *,
        is_unjudged: bool = False,
    ) -> tuple[Calls, ...]:
        """Return the requests of an instance that must be asked.

        `settings` and `request` are None if another answer decides them: then the length of the
        last run is assumed. `samples` counts those that are stored. Only judges are asked about a
        command, and the requests of a used flow are those of its steps. Unless its text certainly
        `is_unjudged`, an equal one may have been judged: that is done once.
        """
        wanted = self._wanted.get(step)
        if wanted is None:
            is_asked = self._flow.steps[step].kind == "model"
            wanted = self._wanted[step] = self._samples(step) if is_asked else 0
        if not wanted:
            found = tuple(self._judges_of_text(step, settings, request))
            return found if is_unjudged else _one_certain(found, settings)
        if request is None:
            prompt, limit = self._last_usage.prompt_tokens(name) or 0, None
        else:
            prompt, limit = size_of(request)
        count = wanted - samples.stored - samples.judged
        alike = self._alike(name, step, settings, count, prompt=prompt, limit=limit)
        if samples.judged:
            return self._with_judged(step, alike.certain, samples)
        return alike.certain if is_unjudged and not samples.stored else alike.possible

    def _with_judged(
        self, step: str, kinds: tuple[Calls, ...], samples: ToBeAsked
    ) -> tuple[Calls, ...]:
        """Add the requests to judges of stored answers; those to come may equal them."""
        spec = self._flow.steps[step]
        is_certain = _is_always_judged(spec) and len(judges_of(spec)) == 1
        least, more = samples.judgements if is_certain else 0, samples.judged * _TRIES
        return tuple(
            msgspec.structs.replace(one, least=least, most=one.most + more)
            if one.purpose == "judge"
            else one
            for one in kinds
        )

    def _alike(
        self,
        name: str,
        step: str,
        settings: Settings | None,
        count: int,
        *,
        prompt: int,
        limit: int | None,
    ) -> _Alike:
        """Return the requests for so many answers, the same ones for instances that are alike."""
        length = self._last_usage.answer_tokens(name)
        alike = (step, id(settings), count, prompt, limit, length)
        found = self._known.get(alike)
        if found is None:
            first = self._first(step, settings, least=count, prompt=prompt)
            first = msgspec.structs.replace(first, most=count)
            first = self._measured(first, length, limit)
            calls = (first, *self._others(step, settings, first))
            found = self._known[alike] = _Alike(settings, calls, _possible_judges(calls))
        return found

    def of_judge(
        self, name: str, step: str, request: ModelRequest, samples: ToBeAsked
    ) -> tuple[Calls, ...]:
        """Return the requests of an instance whose answer is stored, and which `request` judges.

        The answers to other samples may not be stored.
        """
        found = self.sure(name, step, request.settings, request.identity, samples)
        if self._samples(step) > 1:
            return found
        rest = tuple(one for one in found if one.purpose != "answer")
        return _one_certain(rest, request.settings, prompt=size_of(request.identity)[0])

    def judging(self, step: str, *, is_unjudged: bool) -> tuple[Calls, ...]:
        """Return the requests for judging a text that no model is asked for, and is not known.

        Unless it certainly `is_unjudged`, an equal one may have been judged.
        """
        found = self._judges_of_text(step, None, None)
        is_certain = is_unjudged and _is_always_judged(self._flow.steps[step])
        return tuple(found) if is_certain else _possible_judges(found)

    def possible(self, name: str, step: str, settings: Settings | None) -> tuple[Calls, ...]:
        """Return the requests of an instance that may or may not be current.

        Returns none if the length of its first request in the last run is unknown.
        """
        prompt = self._last_usage.prompt_tokens(name)
        if prompt is None or settings is None:
            return ()
        first = self._first(step, settings, least=0, prompt=prompt)
        first = self._measured(first, self._last_usage.answer_tokens(name), None)
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

    def _measured(
        self, first: Calls, length: tuple[int, Measure] | None, limit: int | None
    ) -> Calls:
        """Return the first request with the possible length of its answer, if `length` is none."""
        if length is None:
            bot = self._catalogue.find(first.model or "") if self._catalogue is not None else None
            limits = [limit, None if bot is None else bot.context.max_output]
            found = min((one for one in limits if one is not None), default=None)
            length = None if found is None else (found, "limit")
        if length is None:
            return first
        return msgspec.structs.replace(first, answer_tokens=length[0], answer_from=length[1])

    def _others(self, name: str, settings: Settings | None, first: Calls) -> Iterator[Calls]:
        """Yield the requests that may follow the first: turns, repairs, rounds of tools, judges."""
        step = self._flow.steps[name]
        turns = 1 if step.repeat is None else step.repeat.max
        if turns > 1:
            grown = first.prompt_tokens + (first.answer_tokens or 0) + _BETWEEN
            most = first.most * (turns - 1)
            yield msgspec.structs.replace(
                first, purpose="repeat", least=0, most=most, prompt_tokens=grown
            )
        repairs = step.output.repair or 0
        rounds = MAX_ROUNDS if step.functions and step.tools_mode != "return" else 0
        for purpose, often in (("repair", repairs), ("tools", rounds)):
            if often:
                grown = (often + 1) * ((first.answer_tokens or 0) + _BETWEEN) // 2
                yield msgspec.structs.replace(
                    first,
                    purpose=purpose,
                    least=0,
                    most=first.most * turns * often,
                    prompt_tokens=first.prompt_tokens + grown,
                )
        for judge in judges_of(step):
            found = self._judge(step, judge, settings, first)
            yield msgspec.structs.replace(found, most=found.most * turns * (1 + repairs))

    def _judges_of_text(
        self, name: str, settings: Settings | None, request: Mapping[str, Json] | None
    ) -> Iterator[Calls]:
        """Yield what judges a text that no model wrote; `request` asks the first of them."""
        prompt = 0 if request is None else size_of(request)[0]
        text = Calls(purpose="answer", model=None, least=1, most=1, prompt_tokens=prompt)
        for judge in judges_of(self._flow.steps[name]):
            asking = settings or settings_of(self._flow, name, named=None)
            found = self._judge(self._flow.steps[name], judge, asking, text)
            yield msgspec.structs.replace(found, least=1)

    def _judge(self, step: Step, judge: Judge, settings: Settings | None, first: Calls) -> Calls:
        model = first.model
        if settings is not None and judge.model is not None:
            model = judge_settings(self._flow, judge.model, settings).model
        texts = [judge.rubric, judge.system, *(judge.rubrics or {}).values()]
        texts += [one.answer + one.reason for one in judge.examples]
        written = sum(len(text) for text in texts if isinstance(text, str))
        about = first.prompt_tokens + (first.answer_tokens or 0) + written // CHARACTERS
        return Calls(
            purpose="judge",
            model=model,
            least=min(1, first.least) if _is_always_judged(step) else 0,
            most=first.most * _TRIES,
            prompt_tokens=_FRAME + about,
            answer_tokens=_VERDICT * len(judge.rubrics or [""]),
            answer_from="usual",
        )


def _possible_judges(kinds: Iterable[Calls]) -> tuple[Calls, ...]:
    """Return requests of which those to judges are not certain."""
    return tuple(
        msgspec.structs.replace(one, least=0) if one.purpose == "judge" else one for one in kinds
    )


def _one_certain(
    kinds: tuple[Calls, ...], settings: Settings | None, *, prompt: int | None = None
) -> tuple[Calls, ...]:
    """Return requests of which one is certain: to a judge, with these settings if any has them."""
    found = [msgspec.structs.replace(one, least=0) for one in kinds]
    judges = [at for at, one in enumerate(found) if one.purpose == "judge"]
    model = None if settings is None else settings.model
    for at in [*(at for at in judges if found[at].model == model), *judges][:1]:
        tokens = found[at].prompt_tokens if prompt is None else prompt
        found[at] = msgspec.structs.replace(found[at], least=1, prompt_tokens=tokens)
    return tuple(found)


def _is_always_judged(step: Step) -> bool:
    """Whether only judges can reject an answer."""
    output = step.output
    is_plain = output.format in (None, "text") and not output.schema and not output.one_of
    return is_plain and all(one.judge is not None or one.level != "error" for one in step.expect)
