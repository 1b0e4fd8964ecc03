"""Plays a script: finds the rule for a request and makes of it an answer, an error or a fault."""

from collections.abc import Mapping
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.simulator.chat_request import Asked
from poeflow.simulator.faults import Fault, Faults, Recipe, RefusedError
from poeflow.simulator.http_messages import encoded
from poeflow.simulator.made_up_answers import Answer, ToolCall, arguments_for, media_answer
from poeflow.simulator.sample_media import Kind, Media, told
from poeflow.simulator.script import (
    AnswerSpec,
    Call,
    ErrorSpec,
    MediaFile,
    Prepared,
    Script,
    template_path,
)
from poeflow.templates.render import TemplateError

_KINDS: Final[Mapping[str, Kind]] = {"image": "image", "video": "video", "audio": "audio"}


class ScriptedReply(msgspec.Struct, frozen=True, kw_only=True):
    """What the script says to one request; None leaves it to the simulation."""

    answer: Answer | None = None
    error: Fault | None = None
    recipe: Recipe | None = None
    delay: float = 0.0


class ScriptPlayer:
    """A script being played: counts how often each rule's conditions were met."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._met = [0] * len(script.rules)
        self._faults = [Faults(rule.recipes) for rule in script.rules]
        self._shelf = {rule.media_hash: rule.media for rule in script.rules if rule.media}

    def media(self, name: str) -> Media | None:
        """Return a media file of the script by its hash."""
        return self._shelf.get(name)

    def cue(self, asked: Asked, origin: str) -> ScriptedReply:
        """Return what the first rule that matches says. Raises `RefusedError`."""
        met = [index for index, rule in enumerate(self._script.rules) if _meets(rule, asked)]
        for index in met:
            self._met[index] += 1
        for index in met:
            if self._script.rules[index].rule.match.nth in (None, self._met[index]):
                return self._played(index, asked, origin)
        if self._script.refuses_others:
            raise RefusedError(400, "No rule of the script matches the request")
        return ScriptedReply()

    def _played(self, index: int, asked: Asked, origin: str) -> ScriptedReply:
        prepared = self._script.rules[index]
        spec = prepared.rule.answer
        recipe = self._faults[index].next(asked.seed)
        if spec is None:
            return ScriptedReply(recipe=recipe, delay=prepared.delay)
        if spec.error is not None:
            return ScriptedReply(error=_fault(spec.error), recipe=recipe, delay=prepared.delay)
        answer = self._answer(index, spec, asked, origin)
        return ScriptedReply(answer=answer, recipe=recipe, delay=prepared.delay)

    def _answer(self, index: int, spec: AnswerSpec, asked: Asked, origin: str) -> Answer | None:
        calls = tuple(_call(call, asked) for call in spec.tool_calls)
        usual = "tool_calls" if calls else "stop"
        is_media = spec.media is not None
        if spec.media is not None:
            text = _media_text(self._script.rules[index], spec.media, asked, origin)
        elif spec.template is not None:
            text = self._rendered(index, spec.template, asked)
        elif spec.json is not msgspec.UNSET:
            text = encoded(spec.json).decode()
        else:
            text = spec.text or ""
        return Answer(
            text=text,
            reasoning=spec.reasoning,
            tool_calls=calls,
            finish_reason=spec.finish_reason or usual,
            is_media=is_media,
        )

    def _rendered(self, index: int, template: str, asked: Asked) -> str:
        wording = self._script.wording
        if wording is None:
            raise AssertionError("a script with rules has its wording")
        values = _values(asked, self._met[index])
        try:
            return wording.rendered(template, template_path(index), values)
        except TemplateError as error:
            raise RefusedError(400, f"The script's template failed: {error}") from None


def _meets(prepared: Prepared, asked: Asked) -> bool:
    match, answer = prepared.rule.match, prepared.rule.answer
    last = asked.turns[-1].role
    calls_tools = answer is not None and bool(answer.tool_calls)
    if match.last is None and calls_tools and last == "tool":
        return False
    if match.last not in (None, last):
        return False
    if match.model is not None and match.model.casefold() != asked.model.casefold():
        return False
    if match.text is not None and match.text not in asked.prompt:
        return False
    if match.system is not None and match.system not in _system(asked):
        return False
    return prepared.pattern is None or prepared.pattern.is_in(asked.prompt)


def _system(asked: Asked) -> str:
    return "\n".join(turn.text for turn in asked.turns if turn.role == "system")


def _values(asked: Asked, nth: int) -> dict[str, Json]:
    """Return what a template sees."""
    files = [item.name for turn in asked.turns for item in turn.attachments]
    return {
        "prompt": asked.prompt,
        "system": _system(asked),
        "model": asked.model,
        "params": dict(asked.custom),
        "files": [*files],
        "nth": nth,
    }


def _media_text(prepared: Prepared, media: Kind | MediaFile, asked: Asked, origin: str) -> str:
    if not isinstance(media, MediaFile):
        return media_answer(asked, media, origin).text
    if prepared.media is None:
        raise AssertionError("a script's media files are read with it")
    kind = _KINDS[prepared.media.media_type.partition("/")[0]]
    return told(kind, f"{origin}/base/{kind}/{prepared.media_hash}", asked.prompt)


def _call(call: Call, asked: Asked) -> ToolCall:
    tool = next((tool for tool in asked.tools if tool.name == call.name), None)
    if tool is None:
        message = f"The script calls the tool '{call.name}', which the request does not offer"
        raise RefusedError(400, message, param="tools")
    if call.arguments is None:
        return ToolCall(name=tool.name, arguments=arguments_for(tool, asked.seed))
    if isinstance(call.arguments, str):
        return ToolCall(name=tool.name, arguments=call.arguments)
    return ToolCall(name=tool.name, arguments=encoded(call.arguments).decode())


def _fault(error: ErrorSpec) -> Fault:
    return Fault(
        status=error.status,
        message=error.message,
        kind=error.type,
        code=error.code,
        param=error.param,
        retry_after=error.retry_after,
    )
