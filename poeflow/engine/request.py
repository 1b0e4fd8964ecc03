"""An instance and its values become one exact request."""

from collections.abc import Callable, Iterator, Mapping

import msgspec

from poeflow.answers.prompts import instruction
from poeflow.client.messages import ChatRequest, Message, Part
from poeflow.digest import Json
from poeflow.engine.attached import Files
from poeflow.engine.examples import Examples
from poeflow.engine.last_turn import add_parts, add_text, refuse_blank
from poeflow.engine.params import check_params, tool_params
from poeflow.engine.schemas import Schemas
from poeflow.flowfile.model import MessageSpec, Step
from poeflow.flowfile.step_settings import Given, Settings
from poeflow.flowfile.tree import KeyPath
from poeflow.planning.plan import Plan
from poeflow.planning.prepare import Prepared
from poeflow.templates.texts import Values, as_text

Declared = Callable[[str, dict[str, Json]], dict[str, Json]]
"""Returns the parameters of a bot as the bot declares them."""


class Composed(msgspec.Struct, frozen=True):
    """A request, and what to warn of."""

    request: ChatRequest
    warnings: tuple[str, ...]


class Composer:
    """Composes the requests of one flow. `declared` spells a bot's own parameters as it does."""

    def __init__(
        self, plan: Plan, schemas: Schemas, files: Files, examples: Examples, declared: Declared
    ) -> None:
        self._plan = plan
        self._texts = plan.texts
        self._schemas = schemas
        self._files = files
        self._examples = examples
        self._declared = declared

    def compose(
        self,
        prepared: Prepared,
        settings: Settings,
        values: Values,
        *,
        before: tuple[Message, ...] = (),
        takes_schemas: bool = False,
    ) -> Composed:
        """Return the request of an instance. Raises `StepError` or `FileProblem`.

        `before` is the conversation it goes on with; `takes_schemas` tells that the provider heeds
        `response_format`.
        """
        step = prepared.instance.step
        spec = self._plan.file.flow.steps[step]
        params = self._rendered(settings.params, values)
        model = as_text(settings.model, "model")
        extra_body = self._declared(model, self._rendered(settings.extra_body, values))
        check_params(step, params)
        if takes_schemas:
            params = {**self._schemas.response_format(step), **params}
        params = {**params, **tool_params(spec)}
        warnings: list[str] = []
        request = ChatRequest(
            model=model,
            messages=(*before, *self._messages(prepared, settings, values, warnings)),
            params=params,
            extra_body=extra_body,
            stream=settings.stream,
        )
        return Composed(request, tuple(warnings))

    def _rendered(self, given: Mapping[str, Given], values: Values) -> dict[str, Json]:
        return {name: self._texts.value(g.path, g.value, values) for name, g in given.items()}

    def _messages(
        self, prepared: Prepared, settings: Settings, values: Values, warnings: list[str]
    ) -> tuple[Message, ...]:
        step = prepared.instance.step
        spec = self._plan.file.flow.steps[step]
        messages: list[Message] = []
        if settings.system is not None and not _has_system(spec):
            system = self._texts.prose(settings.system, values)
            messages.append(Message(role="system", content=system))
        if spec.messages is None:
            content = self._texts.prose(("steps", step, "prompt"), values)
            messages.append(Message(role="user", content=content))
        for index, message in enumerate(spec.messages or ()):
            path: KeyPath = ("steps", step, "messages", index)
            if message.few_shot is not None:
                messages += self._example_turns((*path, "few_shot"), message, values)
            else:
                messages.append(self._message(path, message, prepared, values, warnings))
        refuse_blank(messages, has_files=bool(spec.attachments))
        self._ask_for_shape(step, messages)
        self._attach(prepared, messages, values, warnings)
        return tuple(messages)

    def _message(
        self,
        path: KeyPath,
        message: MessageSpec,
        prepared: Prepared,
        values: Values,
        warnings: list[str],
    ) -> Message:
        content: str | tuple[Part, ...] | None = None
        if isinstance(message.content, list):
            content = tuple(
                self._files.parts(path, message.content, prepared.attached, values, warnings)
            )
        elif message.content is not None:
            content = self._texts.prose((*path, "content"), values)
        calls = [
            {
                key: self._texts.value((*path, "tool_calls", index, key), value, values)
                for key, value in call.items()
            }
            for index, call in enumerate(message.tool_calls or ())
        ]

        def rendered(key: str, written: str | None) -> str | None:
            if written is None:
                return None
            return as_text(self._texts.value((*path, key), written, values), key)

        if message.role is None:
            raise AssertionError("a message without examples has a role")
        return Message(
            role=message.role,
            content=content,
            name=rendered("name", message.name),
            tool_calls=tuple(calls) or None,
            tool_call_id=rendered("tool_call_id", message.tool_call_id),
        )

    def _example_turns(
        self, path: KeyPath, message: MessageSpec, values: Values
    ) -> Iterator[Message]:
        for user, assistant in self._examples.pairs(path, message, values):
            yield Message(role="user", content=user)
            yield Message(role="assistant", content=assistant)

    def _ask_for_shape(self, step: str, messages: list[Message]) -> None:
        """Add to the last user message what the answer must look like."""
        spec = self._plan.file.flow.steps[step]
        told = instruction(spec.output, self._schemas.written(step))
        if told:
            add_text(messages, told)

    def _attach(
        self, prepared: Prepared, messages: list[Message], values: Values, warnings: list[str]
    ) -> None:
        """Put the step's attachments behind the text of the last user message."""
        step = prepared.instance.step
        own: KeyPath = ("steps", step, "attachments")
        files = list(self._files.found(prepared.attached.get(own, ()), warnings))
        for index, entry in enumerate(self._plan.file.flow.steps[step].attachments):
            files += self._files.drawn((*own, index), entry, values, warnings)
        if files:
            add_parts(messages, files)


def _has_system(step: Step) -> bool:
    has_own = any(message.role == "system" for message in step.messages or ())
    return has_own or step.history is not None
