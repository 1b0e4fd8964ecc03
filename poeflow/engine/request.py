"""An instance and its values become one exact request: messages, parameters, schema, files."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from poeflow.answers.prompts import instruction
from poeflow.answers.schemas import Schema, compile_schema
from poeflow.client.messages import ChatRequest, Message, Part, TextPart
from poeflow.digest import Json
from poeflow.engine.context import RunContext
from poeflow.engine.message_parts import load
from poeflow.engine.tools import definitions
from poeflow.errors import StepError
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.model import (
    Attachment,
    Example,
    MessagePart,
    MessageSpec,
    Params,
    Step,
    TextFile,
)
from poeflow.flowfile.step_settings import Given, Settings
from poeflow.flowfile.tables import MAX_BYTES, rows
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.plan import Plan
from poeflow.planning.preparation import Attached, Prepared
from poeflow.project.attachment_files import AttachmentSource, Found, find
from poeflow.project.project import Project
from poeflow.redact import Keyring
from poeflow.templates.reader import schema_in
from poeflow.templates.render import TemplateError, Values
from poeflow.templates.sites import Texts, as_text


def add_text(messages: list[Message], text: str) -> None:
    """Put `text` behind the last user message, as a paragraph. Raises `StepError`."""
    index = _last_user(messages)
    content = messages[index].content
    if isinstance(content, tuple):
        changed: str | tuple[Part, ...] = (*content, TextPart(text=text))
    else:
        changed = f"{(content or '').rstrip()}\n\n{text}"
    messages[index] = msgspec.structs.replace(messages[index], content=changed)


def add_parts(messages: list[Message], parts: Sequence[Part]) -> None:
    """Put files behind the text of the last user message. Raises `StepError`."""
    index = _last_user(messages)
    content = messages[index].content
    own = (TextPart(text=content),) if isinstance(content, str) else tuple(content or ())
    messages[index] = msgspec.structs.replace(messages[index], content=(*own, *parts))


def refuse_blank(messages: Sequence[Message], *, has_files: bool) -> None:
    """Refuse to ask with nothing: a user message that is blank, the last one if it has no files.

    Raises `StepError`.
    """
    asked = [m.content for m in messages if m.role == "user" and isinstance(m.content, str)]
    for index, content in enumerate(asked):
        if not content.strip() and not (has_files and index == len(asked) - 1):
            raise StepError("the prompt is blank", hint="check what its template gives")


def _last_user(messages: list[Message]) -> int:
    index = max((i for i, m in enumerate(messages) if m.role == "user"), default=None)
    if index is None:
        raise StepError("there is no user message to add to", hint="add one to messages:")
    return index


def tool_params(step: Step) -> dict[str, Json]:
    """Return the keys of the request that tell of tools."""
    if not step.tools:
        return {}
    params: dict[str, Json] = {"tools": definitions(step.tools)}
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


def check_params(step: str, params: dict[str, Json]) -> None:
    """Check rendered parameters again: the schema saw only that they were templates."""
    try:
        msgspec.convert(params, Params)
    except msgspec.ValidationError as error:
        reason = str(error).replace("`", "").replace("$.", "params.")
        raise StepError(f"step {step}: {reason[:1].lower()}{reason[1:]}") from None
    for name, value in params.items():
        if isinstance(value, str) and "{{" in value:
            raise StepError(f"step {step}: params.{name} rendered to a template", hint="check it")


class Examples:
    """Finds the examples of one flow. Their texts are taken as they are, never rendered."""

    def __init__(self, project: Project, file: FlowFile, texts: Texts) -> None:
        self._project = project
        self._file = file
        self._texts = texts

    def pairs(
        self, path: KeyPath, message: MessageSpec, values: Values
    ) -> Iterator[tuple[str, str]]:
        """Yield what a user says and what the answer should be. Raises `TemplateError`."""
        for index, example in enumerate(self._listed(path, message, values)):
            try:
                pair = msgspec.convert(example, Example)
            except msgspec.ValidationError:
                place = self._file.document.place(path)
                wrong = f"example {index + 1} is not a user's and an assistant's text"
                raise TemplateError(
                    place, wrong, hint="write {user: ..., assistant: ...}"
                ) from None
            yield pair.user, pair.assistant

    def _listed(self, path: KeyPath, message: MessageSpec, values: Values) -> list[Json]:
        written = message.few_shot
        if isinstance(written, list):
            return [msgspec.to_builtins(example) for example in written]
        if isinstance(written, TextFile):
            own: KeyPath = (*path, "file")
            named = as_text(self._texts.value(own, written.file, values), "file")
            canonical = self._project.canonical(named, relative_to=self._file.path)
            return rows(self._project.read_bytes(canonical, limit=MAX_BYTES), name=canonical)
        found = self._texts.expression(path, values)
        if isinstance(found, list):
            return found
        place = self._file.document.place(path)
        raise TemplateError(place, "few_shot gives no list", hint="give a list of examples")


class Schemas:
    """Reads and compiles the schemas of one flow, each once."""

    def __init__(self, project: Project, file: FlowFile) -> None:
        self._project = project
        self._file = file
        self._compiled: dict[str, Schema | None] = {}

    def written(self, step: str) -> dict[str, Json] | None:
        """Return the schema of a step's answer, inline or out of its file."""
        schema = self._file.flow.steps[step].output.schema
        return None if schema is None else schema_in(self._project, schema, self._file.path)

    def compiled(self, step: str) -> Schema | None:
        """Return the same, ready to check answers. Raises `StepError` where it is no schema."""
        if step not in self._compiled:
            written = self.written(step)
            self._compiled[step] = None if written is None else compile_schema(written)
        return self._compiled[step]

    def response_format(self, step: str) -> dict[str, Json]:
        """Return the key of a request that asks a provider for what is wanted, if anything is."""
        written, choices = self.written(step), self._file.flow.steps[step].output.one_of
        if written is None and choices is not None:
            written = {"type": "string", "enum": [*choices]}
        if written is None:
            return {}
        named: dict[str, Json] = {"name": step, "schema": written}
        return {"response_format": {"type": "json_schema", "json_schema": named}}


class Files:
    """Loads the files of one flow's requests.

    `drawn` is the tree that holds what earlier steps drew, `forbidden` the keys no file may hold.
    What to warn of is added to the `warnings` handed in.
    """

    def __init__(
        self, texts: Texts, project: Project, drawn: Project, *, forbidden: Keyring
    ) -> None:
        self._texts = texts
        self._project = project
        self._drawn = drawn
        self._forbidden = forbidden

    def found(self, found: tuple[Found, ...], warnings: list[str]) -> Iterator[Part]:
        """Yield the parts of files that were found before."""
        return self._loaded(found, self._project, warnings)

    def parts(
        self,
        path: KeyPath,
        written: list[MessagePart],
        attached: Attached,
        values: Values,
        warnings: list[str],
    ) -> Iterator[Part]:
        """Yield the parts of a message's content, texts rendered and files loaded."""
        for index, part in enumerate(written):
            own: KeyPath = (*path, "content", index)
            if part.text is not None:
                yield TextPart(text=self._texts.prose((*own, "text"), values))
            elif part.attach is not None:
                own = (*own, "attach")
                yield from self.found(attached[own], warnings)
                yield from self.drawn(own, part.attach, values, warnings)

    def drawn(
        self, path: KeyPath, entry: str | Attachment, values: Values, warnings: list[str]
    ) -> Iterator[Part]:
        """Yield what an earlier step drew: paths it gave, in the tree that outputs go to."""
        if not isinstance(entry, Attachment) or entry.from_ is None:
            return
        paths = self._texts.expression((*path, "from"), values)
        if isinstance(paths, str):
            paths = [paths]
        if not isinstance(paths, list) or not all(isinstance(one, str) for one in paths):
            raise StepError("attachments.from must give paths", hint="write steps.ID.media")
        for one in paths:
            source = AttachmentSource(
                path=str(one), as_=entry.as_, name=entry.name, media_type=entry.media_type
            )
            found = find(self._drawn, source, relative_to="//")
            yield from self._loaded(found, self._drawn, warnings)

    def _loaded(
        self, found: tuple[Found, ...], project: Project, warnings: list[str]
    ) -> Iterator[Part]:
        for item in found:
            loaded = load(project, item, forbidden=self._forbidden)
            if loaded.warning:
                warnings.append(loaded.warning)
            yield loaded.part


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
        spec = self._plan.flow.steps[step]
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
        spec = self._plan.flow.steps[step]
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
        spec = self._plan.flow.steps[step]
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
        for index, entry in enumerate(self._plan.flow.steps[step].attachments):
            files += self._files.drawn((*own, index), entry, values, warnings)
        if files:
            add_parts(messages, files)


def _has_system(step: Step) -> bool:
    has_own = any(message.role == "system" for message in step.messages or ())
    return has_own or step.history is not None


def composer_of(plan: Plan, schemas: Schemas, context: RunContext) -> Composer:
    files = Files(plan.texts, context.project, context.outputs, forbidden=context.keys)
    examples = Examples(context.project, plan.file, plan.texts)
    return Composer(plan, schemas, files, examples, context.declared)
