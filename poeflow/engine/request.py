"""A step and its values become one exact request."""

from collections.abc import Mapping

import msgspec

from poeflow.attachments.find import Found
from poeflow.attachments.parts import load
from poeflow.client.messages import ChatRequest, Message, Part, TextPart
from poeflow.digest import Json
from poeflow.engine.plan import Plan
from poeflow.engine.texts import Texts, Values, as_text
from poeflow.errors import StepError
from poeflow.files import Project
from poeflow.redact import Secret
from poeflow.spec.model import MessagePart, Params, Step
from poeflow.spec.resolve import Given, Settings
from poeflow.spec.tree import Path


class Composed(msgspec.Struct, frozen=True):
    """A request, and what to warn of."""

    request: ChatRequest
    warnings: tuple[str, ...]


class Composer:
    """Composes the requests of one run's steps. `forbidden` is the key no attachment may hold."""

    def __init__(
        self, plan: Plan, project: Project, texts: Texts, forbidden: Secret | None
    ) -> None:
        self._plan = plan
        self._project = project
        self._texts = texts
        self._forbidden = forbidden

    def compose(self, step: str, values: Values) -> Composed:
        """Return the request of `step`. Raises `StepError` or `FileProblem`."""
        settings = self._plan.settings[step]
        params = self._rendered(settings.params, values)
        extra_body = self._rendered(settings.extra_body, values)
        _check_params(step, params)
        warnings: list[str] = []
        request = ChatRequest(
            model=as_text(settings.model, "model"),
            messages=self._messages(step, settings, values, warnings),
            params=params,
            extra_body=extra_body,
            stream=settings.stream,
        )
        return Composed(request, tuple(warnings))

    def _rendered(self, given: Mapping[str, Given], values: Values) -> dict[str, Json]:
        return {name: self._texts.value(g.path, g.value, values) for name, g in given.items()}

    def _messages(
        self, step: str, settings: Settings, values: Values, warnings: list[str]
    ) -> tuple[Message, ...]:
        spec = self._plan.file.flow.steps[step]
        messages: list[Message] = []
        if settings.system is not None and not _has_system(spec):
            system = self._texts.prose(settings.system, values)
            messages.append(Message(role="system", content=system))
        if spec.messages is None:
            content = self._texts.prose(("steps", step, "prompt"), values)
            messages.append(Message(role="user", content=content))
        for index, message in enumerate(spec.messages or ()):
            path: Path = ("steps", step, "messages", index, "content")
            if isinstance(message.content, list):
                parts = self._parts(path, message.content, values, warnings)
                messages.append(Message(role=message.role, content=parts))
            else:
                text = self._texts.prose(path, values)
                messages.append(Message(role=message.role, content=text))
        return self._attached(step, messages, warnings)

    def _parts(
        self, path: Path, parts: list[MessagePart], values: Values, warnings: list[str]
    ) -> tuple[Part, ...]:
        found: list[Part] = []
        for index, part in enumerate(parts):
            if part.text is not None:
                text = self._texts.prose((*path, index, "text"), values)
                found.append(TextPart(text=text))
            else:
                found += self._files(self._plan.attached[(*path, index, "attach")], warnings)
        return tuple(found)

    def _attached(
        self, step: str, messages: list[Message], warnings: list[str]
    ) -> tuple[Message, ...]:
        """Put the step's attachments behind the text of the last user message."""
        files = self._files(self._plan.attached.get(("steps", step, "attachments"), ()), warnings)
        if not files:
            return tuple(messages)
        index = max((i for i, m in enumerate(messages) if m.role == "user"), default=None)
        if index is None:
            raise StepError("attachments need a user message", hint="add one to messages:")
        content = messages[index].content
        parts = (TextPart(text=content),) if isinstance(content, str) else tuple(content or ())
        messages[index] = msgspec.structs.replace(messages[index], content=(*parts, *files))
        return tuple(messages)

    def _files(self, found: tuple[Found, ...], warnings: list[str]) -> tuple[Part, ...]:
        loaded = [load(self._project, item, forbidden=self._forbidden) for item in found]
        warnings += [item.warning for item in loaded if item.warning]
        return tuple(item.part for item in loaded)


def _has_system(step: Step) -> bool:
    return any(message.role == "system" for message in step.messages or ())


def _check_params(step: str, params: dict[str, Json]) -> None:
    """Check rendered parameters again: the schema saw only that they were templates."""
    try:
        msgspec.convert(params, Params)
    except msgspec.ValidationError as error:
        reason = str(error).replace("`", "").replace("$.", "params.")
        raise StepError(f"step {step}: {reason[:1].lower()}{reason[1:]}") from None
    for name, value in params.items():
        if isinstance(value, str) and "{{" in value:
            raise StepError(f"step {step}: params.{name} rendered to a template", hint="check it")
