"""An instance and its values become one exact request: messages, parameters, schema, files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from poeflow.answers.prompts import instruction
from poeflow.client.messages import ChatRequest, Message, Part, TextPart
from poeflow.digest import Json, encode_json
from poeflow.engine.asking.answer_schemas import AnswerSchemas
from poeflow.engine.asking.context import RunContext
from poeflow.engine.asking.message_parts import AttachmentReader
from poeflow.engine.asking.request_data import DataTurns, Files, MediaFolder
from poeflow.engine.asking.tools import definitions
from poeflow.errors import StepError
from poeflow.flowfile.loops import continues_itself
from poeflow.flowfile.model import MessageSpec, Params, Step
from poeflow.flowfile.step_settings import Given, Settings, model_of, settings_of
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.instances import StepInstance
from poeflow.planning.plan import Plan
from poeflow.templates.render import Values
from poeflow.templates.sites import as_text

_NO_SECRETS: Final = frozenset[str]()


class Composed(msgspec.Struct, frozen=True):
    """A request, warnings about it, and the values of the secret inputs that its texts use."""

    request: ChatRequest
    warnings: tuple[str, ...]
    secrets: frozenset[str] = frozenset()


class Composer:
    """Composes the requests of one flow. `media_folders` have the media of earlier steps."""

    def __init__(
        self,
        plan: Plan,
        schemas: AnswerSchemas,
        context: RunContext,
        attachments: AttachmentReader,
        media_folders: Sequence[MediaFolder],
    ) -> None:
        self._plan = plan
        self._steps = plan.steps
        self._texts = plan.texts
        self._schemas = schemas
        self._files = Files(plan.texts, attachments, media_folders)
        self._from_data = DataTurns(context.project, plan.file, plan.texts)
        self._declared = context.declared

    def compose(
        self,
        instance: StepInstance,
        settings: Settings,
        values: Values,
        *,
        before: tuple[Message, ...] = (),
        takes_schemas: bool = False,
    ) -> Composed:
        """Return the request of an instance. Raises `StepError` or `FileProblem`.

        `before` is the conversation it continues; `takes_schemas` is whether the provider supports
        `response_format`.
        """
        step = instance.step
        spec = self._steps[step]
        params: dict[str, Json] = {}
        extra_body: dict[str, Json] = {}
        if settings.params:  # what there is not takes no time: a table has many rows
            params = self._rendered(settings.params, values)
            params = {name: value for name, value in params.items() if value is not None}
        model = settings.model or as_text(settings.model, "model")
        if settings.extra_body:
            extra_body = self._declared(model, self._rendered(settings.extra_body, values))
        if params:
            _check_params(step, params)
        if takes_schemas:
            params = {**self._schemas.response_format(step), **params}
        if spec.tools:
            params = {**params, **_tool_params(spec)}
        warnings: list[str] = []
        messages = self._messages(instance, settings, values, warnings)
        request = ChatRequest(
            model=model,
            messages=self._joined(step, before, messages) if before else messages,
            params=params,
            extra_body=extra_body,
            stream=settings.stream,
        )
        secrets = self._secrets(step, settings) if self._plan.checked.secrets else _NO_SECRETS
        return Composed(request, tuple(warnings), secrets)

    def _secrets(self, step: str, settings: Settings) -> frozenset[str]:
        """Return the secrets in the messages of a step, and in those of the step it continues."""
        flow = self._plan.flow
        own = (("steps", step, key) for key in ("prompt", "messages"))
        found = self._plan.secrets(*own, settings.system)
        other = self._steps[step].history
        if other is None or continues_itself(flow, step):
            return found
        model = model_of(flow, other)
        named = None if model is None else str(model.value)
        return found | self._secrets(other, settings_of(flow, other, named=named))

    def _joined(
        self, step: str, before: tuple[Message, ...], messages: tuple[Message, ...]
    ) -> tuple[Message, ...]:
        """Return a conversation with the next messages; in a loop the first has the system's."""
        is_again = continues_itself(self._plan.flow, step) and messages[0].role == "system"
        return (*before, *(messages[1:] if is_again else messages))

    def _rendered(self, given: Mapping[str, Given], values: Values) -> dict[str, Json]:
        return {name: self._texts.value(g.path, g.value, values) for name, g in given.items()}

    def _messages(
        self, instance: StepInstance, settings: Settings, values: Values, warnings: list[str]
    ) -> tuple[Message, ...]:
        step = instance.step
        spec = self._steps[step]
        if spec.messages is None:
            content = self._texts.prose(("steps", step, "prompt"), values)
            messages = [Message(role="user", content=content)]
        else:
            messages = self._written_messages(instance, spec.messages, values, warnings)
        if settings.system is not None and not self._has_system(step, messages):
            system = self._texts.prose(settings.system, values)
            messages.insert(0, Message(role="system", content=system))
        _refuse_blank(messages, has_files=bool(spec.attachments))
        if spec.output.schema is not None or spec.output.one_of is not None:
            self._ask_for_shape(step, messages)
        if spec.attachments:
            self._attach(instance, messages, values, warnings)
        return tuple(messages)

    def _written_messages(
        self, instance: StepInstance, written: object, values: Values, warnings: list[str]
    ) -> list[Message]:
        """Return the `messages:` of a step."""
        path: KeyPath = ("steps", instance.step, "messages")
        messages: list[Message] = []
        turns = self._steps[instance.step].turns
        if not turns:
            messages += self._from_data.thread(path, written, values)
        for index, message in enumerate(turns):
            own: KeyPath = (*path, index)
            if message.few_shot is not None:
                messages += self._example_turns((*own, "few_shot"), message, values)
            else:
                messages.append(self._message(own, message, instance, values, warnings))
        return messages

    def _has_system(self, step: str, messages: Sequence[Message]) -> bool:
        """Whether a conversation has a message of the system: its own, or of one it continues."""
        history = self._steps[step].history
        is_begun = history is not None and not continues_itself(self._plan.flow, step)
        return is_begun or any(m.role == "system" for m in messages)

    def _message(
        self,
        path: KeyPath,
        message: MessageSpec,
        instance: StepInstance,
        values: Values,
        warnings: list[str],
    ) -> Message:
        content: str | tuple[Part, ...] | None = None
        if isinstance(message.content, list):
            content = tuple(
                self._files.parts(path, message.content, instance.attached, values, warnings)
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
        for user, assistant in self._from_data.pairs(path, message, values):
            yield Message(role="user", content=user)
            yield Message(role="assistant", content=assistant)

    def _ask_for_shape(self, step: str, messages: list[Message]) -> None:
        """Add the required form of the answer to the last user message."""
        wanted = instruction(self._steps[step].output, self._schemas.written(step))
        if wanted:
            _add_text(messages, wanted)

    def _attach(
        self, instance: StepInstance, messages: list[Message], values: Values, warnings: list[str]
    ) -> None:
        """Add the step's attachments after the text of the last user message."""
        step = instance.step
        own: KeyPath = ("steps", step, "attachments")
        files = list(self._files.found(instance.attached.get(own, ()), warnings))
        for index, entry in enumerate(self._steps[step].attachments):
            files += self._files.step_media((*own, index), entry, values, warnings)
        if files:
            _add_parts(messages, files)


def _check_params(step: str, params: dict[str, Json]) -> None:
    """Check rendered parameters again: the schema saw only that they were templates."""
    try:
        msgspec.convert(params, Params)
    except msgspec.ValidationError as error:
        raise StepError(f"step {step}: {_wrong_param(str(error), params)}") from None
    for name, value in params.items():
        if isinstance(value, str) and "{{" in value:
            raise StepError(f"step {step}: params.{name} rendered to a template", hint="check it")


_KINDS: Final = {
    "int": "a whole number",
    "float": "a number",
    "array": "a list",
    "bool": "true or false",
    "object": "a mapping",
    "str": "a text",
}


def _wrong_param(reason: str, params: dict[str, Json]) -> str:
    """Return in words which parameter has a value that is not allowed, and what is."""
    expected, _, way = reason.replace("`", "").partition(" - at $.")
    name = way.partition("[")[0]
    value = params.get(name)
    if not expected.startswith("Expected ") or value is None:
        return f"{expected[:1].lower()}{expected[1:]}" + (f" at params.{way}" if way else "")
    bounds = expected.removeprefix("Expected ").partition(", got ")[0].split(" ")
    kinds: list[str] = []
    while bounds and (bounds[0] in _KINDS or bounds[0] in ("|", "null")):
        kinds.append(bounds.pop(0))
    if bounds[:1] == ["matching"]:  # any text is taken for a template of a number
        kinds, bounds = ["float" if "float" in str(Params.__annotations__[name]) else "int"], []
    if not {"int", "float"}.isdisjoint(kinds):
        kinds = [kind for kind in kinds if kind != "str"]
    allowed = " or ".join(_KINDS[kind] for kind in kinds if kind in _KINDS)
    shown = encode_json(value).decode()[:60]
    return f"params.{way} must be {' '.join((allowed, *bounds)).strip()}, not {shown}"


def _tool_params(step: Step) -> dict[str, Json]:
    """Return the keys of the request about tools."""
    params: dict[str, Json] = {"tools": definitions(step.functions)}
    if step.tool_choice is not None:
        params["tool_choice"] = _choice(step.tool_choice)
    if step.parallel_tool_calls is not None:
        params["parallel_tool_calls"] = step.parallel_tool_calls
    return params


def _choice(written: str | dict[str, Json]) -> Json:
    """Return the choice as the API takes it: a word, or a function that is named by itself."""
    if isinstance(written, dict) or written in ("auto", "none", "required"):
        return written
    return {"type": "function", "function": {"name": written}}


def _refuse_blank(messages: Sequence[Message], *, has_files: bool) -> None:
    """Check that no user message is blank; the last one may be, if it has files.

    Raises `StepError`.
    """
    for message in reversed(messages):
        content = message.content
        if message.role == "user" and isinstance(content, str):
            if not has_files and (not content or content.isspace()):
                raise StepError("the prompt is blank", hint="check what its template gives")
            has_files = False


def _add_text(messages: list[Message], text: str) -> None:
    """Add `text` to the last user message, as a paragraph. Raises `StepError`."""
    index = _last_user(messages)
    content = messages[index].content
    if isinstance(content, tuple):
        changed: str | tuple[Part, ...] = (*content, TextPart(text=text))
    else:
        changed = f"{(content or '').rstrip()}\n\n{text}"
    messages[index] = msgspec.structs.replace(messages[index], content=changed)


def _add_parts(messages: list[Message], parts: Sequence[Part]) -> None:
    """Add files after the text of the last user message. Raises `StepError`."""
    index = _last_user(messages)
    content = messages[index].content
    own = (TextPart(text=content),) if isinstance(content, str) else tuple(content or ())
    messages[index] = msgspec.structs.replace(messages[index], content=(*own, *parts))


def _last_user(messages: list[Message]) -> int:
    index = max((i for i, m in enumerate(messages) if m.role == "user"), default=None)
    if index is None:
        raise StepError("there is no user message to add to", hint="add one to messages:")
    return index
