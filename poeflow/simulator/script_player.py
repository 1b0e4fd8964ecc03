"""Plays a script: finds the rule for a request and makes its answer, error or fault."""

from collections.abc import Mapping
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.simulator.chat_request import CompletionRequest
from poeflow.simulator.faults import Fault, FaultRecipe, Faults, RefusedError
from poeflow.simulator.http_messages import encoded
from poeflow.simulator.made_up_answers import (
    MadeUpAnswer,
    MadeUpToolCall,
    arguments_for,
    media_answer,
)
from poeflow.simulator.sample_media import Media, MediaKind, media_content
from poeflow.simulator.script import (
    AnswerSpec,
    ErrorSpec,
    MediaFile,
    PreparedRule,
    Script,
    ScriptedCall,
    template_path,
)
from poeflow.templates.render import TemplateError

_KINDS: Final[Mapping[str, MediaKind]] = {"image": "image", "video": "video", "audio": "audio"}


class ScriptedReply(msgspec.Struct, frozen=True, kw_only=True):
    """The script's reply to one request; what is None is left to the simulation."""

    answer: MadeUpAnswer | None = None
    error: Fault | None = None
    recipe: FaultRecipe | None = None
    delay: float = 0.0


class ScriptPlayer:
    """Plays a script; counts how often the conditions of each rule were met."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._met = [0] * len(script.rules)
        self._faults = [Faults(rule.recipes) for rule in script.rules]
        self._shelf = {rule.media_hash: rule.media for rule in script.rules if rule.media}

    def media(self, name: str) -> Media | None:
        """Return a media file of the script by its hash."""
        return self._shelf.get(name)

    def reply_to(self, request: CompletionRequest, origin: str) -> ScriptedReply:
        """Return the reply of the first rule that matches. Raises `RefusedError`."""
        met = [index for index, rule in enumerate(self._script.rules) if _matches(rule, request)]
        for index in met:
            self._met[index] += 1
        for index in met:
            if self._script.rules[index].rule.match.nth in (None, self._met[index]):
                return self._play(index, request, origin)
        if self._script.refuses_others:
            raise RefusedError(400, "No rule of the script matches the request")
        return ScriptedReply()

    def _play(self, index: int, request: CompletionRequest, origin: str) -> ScriptedReply:
        prepared = self._script.rules[index]
        spec = prepared.rule.answer
        recipe = self._faults[index].next(request.seed)
        if spec is None:
            return ScriptedReply(recipe=recipe, delay=prepared.delay)
        if spec.error is not None:
            return ScriptedReply(
                error=_error_fault(spec.error), recipe=recipe, delay=prepared.delay
            )
        answer = self._answer(index, spec, request, origin)
        return ScriptedReply(answer=answer, recipe=recipe, delay=prepared.delay)

    def _answer(
        self, index: int, spec: AnswerSpec, request: CompletionRequest, origin: str
    ) -> MadeUpAnswer | None:
        calls = tuple(_call(call, request) for call in spec.tool_calls)
        usual = "tool_calls" if calls else "stop"
        is_media = spec.media is not None
        if spec.media is not None:
            text = _media_text(self._script.rules[index], spec.media, request, origin)
        elif spec.template is not None:
            text = self._rendered(index, spec.template, request)
        elif spec.json is not msgspec.UNSET:
            text = encoded(spec.json).decode()
        else:
            text = spec.text or ""
        return MadeUpAnswer(
            text=text,
            reasoning=spec.reasoning,
            tool_calls=calls,
            finish_reason=spec.finish_reason or usual,
            is_media=is_media,
        )

    def _rendered(self, index: int, template: str, request: CompletionRequest) -> str:
        templates = self._script.templates
        if templates is None:
            raise AssertionError("a script with rules has its templates")
        values = _values(request, self._met[index])
        try:
            return templates.rendered(template, template_path(index), values)
        except TemplateError as error:
            raise RefusedError(400, f"The script's template failed: {error}") from None


def _matches(prepared: PreparedRule, request: CompletionRequest) -> bool:
    match, answer = prepared.rule.match, prepared.rule.answer
    last = request.turns[-1].role
    calls_tools = answer is not None and bool(answer.tool_calls)
    if match.last is None and calls_tools and last == "tool":
        return False
    if match.last not in (None, last):
        return False
    if match.model is not None and match.model.casefold() != request.model.casefold():
        return False
    if match.text is not None and match.text not in request.prompt:
        return False
    if match.system is not None and match.system not in _system(request):
        return False
    return prepared.pattern is None or prepared.pattern.is_in(request.prompt)


def _system(request: CompletionRequest) -> str:
    return "\n".join(turn.text for turn in request.turns if turn.role == "system")


def _values(request: CompletionRequest, count: int) -> dict[str, Json]:
    """Return the names that a template can use."""
    files = [item.name for turn in request.turns for item in turn.attachments]
    return {
        "prompt": request.prompt,
        "system": _system(request),
        "model": request.model,
        "params": dict(request.custom),
        "files": [*files],
        "nth": count,
    }


def _media_text(
    prepared: PreparedRule, media: MediaKind | MediaFile, request: CompletionRequest, origin: str
) -> str:
    if not isinstance(media, MediaFile):
        return media_answer(request, media, origin).text
    if prepared.media is None:
        raise AssertionError("a script's media files are read with it")
    kind = _KINDS[prepared.media.media_type.partition("/")[0]]
    return media_content(kind, f"{origin}/base/{kind}/{prepared.media_hash}", request.prompt)


def _call(call: ScriptedCall, request: CompletionRequest) -> MadeUpToolCall:
    tool = next((tool for tool in request.tools if tool.name == call.name), None)
    if tool is None:
        message = f"The script calls the tool '{call.name}', which the request does not offer"
        raise RefusedError(400, message, param="tools")
    if call.arguments is None:
        return MadeUpToolCall(name=tool.name, arguments=arguments_for(tool, request.seed))
    if isinstance(call.arguments, str):
        return MadeUpToolCall(name=tool.name, arguments=call.arguments)
    return MadeUpToolCall(name=tool.name, arguments=encoded(call.arguments).decode())


def _error_fault(error: ErrorSpec) -> Fault:
    return Fault(
        status=error.status,
        message=error.message,
        kind=error.type,
        code=error.code,
        param=error.param,
        retry_after=error.retry_after,
    )
