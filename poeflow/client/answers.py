"""What the API answers, as typed views over the JSON that arrived: unknown keys stay in `raw`.

Every accessor takes null, missing and mistyped values as absent, because the API's two wire
profiles differ in what they leave out; what servers are known to spell in other ways is read.
"""

import copy
from collections.abc import Callable, Mapping
from typing import ClassVar, Final, TypeVar

from poeflow.client.finish_reasons import LENGTH, doubt_in
from poeflow.digest import Json, encode_json

_LARGEST: Final = 2**53
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_TEXT_KEYS: Final = ("text", "value", "content")
_THOUGHT_KEYS: Final = ("thinking", "reasoning", "summary", *_TEXT_KEYS)
_TEXT_TYPES: Final = ("text", "output_text")
_THOUGHT_TYPES: Final = ("thinking", "reasoning", "reasoning_text", "thought")
_DEEPEST: Final = 4


class View:
    """A JSON object seen through properties. `raw` holds all of it, unknown keys included."""

    __slots__ = ("raw",)

    def __init__(self, raw: Mapping[str, Json]) -> None:
        self.raw = raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and type(other) is type(self) and other.raw == self.raw

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # the JSON below is mutable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self.raw)!r})"

    def to_dict(self) -> dict[str, Json]:
        """Return a copy of `raw`, to change or to keep."""
        return copy.deepcopy(dict(self.raw))

    def model_dump(self) -> dict[str, Json]:
        """Return what `to_dict` does, under the name the OpenAI SDK's objects have it by."""
        return self.to_dict()

    def model_dump_json(self) -> str:
        """Return `raw` as JSON."""
        return encode_json(dict(self.raw)).decode()

    def _text(self, key: str) -> str | None:
        value = self.raw.get(key)
        return value if isinstance(value, str) else None

    def _count(self, key: str) -> int | None:
        return whole_number(self.raw.get(key))


V = TypeVar("V", bound=View)


class Function(View):
    """The function a tool call names; `arguments` is JSON text as the model wrote it.

    Some servers send an object instead, which becomes such text.
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        return self._text("name") or ""

    @property
    def arguments(self) -> str:
        return arguments_in(self.raw.get("arguments"))


class ToolCall(View):
    """One call the model asks for. In a stream's chunk `id` and `name` come once, at the start."""

    __slots__ = ()

    @property
    def id(self) -> str | None:
        return self._text("id")

    @property
    def index(self) -> int:
        return self._count("index") or 0

    @property
    def type(self) -> str:
        return self._text("type") or "function"

    @property
    def function(self) -> Function:
        return Function(_object(self.raw, "function"))

    def to_param(self) -> dict[str, Json]:
        """Return the call as the API takes it back: every key kept, its arguments as text."""
        function: dict[str, Json] = dict(self.function.raw)
        if not isinstance(function.get("arguments"), str):
            function["arguments"] = self.function.arguments
        return {**self.raw, "function": function}


class Delta(View):
    """What a chunk adds to a message."""

    __slots__ = ()

    @property
    def role(self) -> str | None:
        return self._text("role")

    @property
    def content(self) -> str | None:
        """The text; where the server sent a list of parts, that of its text parts."""
        return text_in(self.raw.get("content"))

    @property
    def reasoning(self) -> str | None:
        """The reasoning: `reasoning_content`, else `reasoning`, else the thinking among parts."""
        return reasoning_in(self.raw)

    @property
    def refusal(self) -> str | None:
        """What the model says where it will not answer."""
        return refusal_in(self.raw)

    @property
    def annotations(self) -> list[Json] | None:
        found = self.raw.get("annotations")
        return found if isinstance(found, list) else None

    @property
    def tool_calls(self) -> list[ToolCall] | None:
        found = _objects(self.raw, "tool_calls", ToolCall)
        return found or None


class AnswerMessage(Delta):
    """The assistant's message. `to_param()` gives it back for the next turn."""

    __slots__ = ()

    def to_param(self) -> dict[str, Json]:
        """Return this turn as the API takes it, every key of its tool calls kept.

        Gemini's `extra_content` signatures, for one, must be echoed.
        """
        calls = self.tool_calls
        content = self.content if self.content or calls else self.refusal or self.content
        param: dict[str, Json] = {"role": self.role or "assistant", "content": content}
        if calls:
            param["tool_calls"] = [call.to_param() for call in calls]
        return param


class Choice(View):
    """An answer and why it ended."""

    __slots__ = ()

    @property
    def index(self) -> int:
        return self._count("index") or 0

    @property
    def message(self) -> AnswerMessage:
        return AnswerMessage(_object(self.raw, "message") or _bare_text(self.raw))

    @property
    def logprobs(self) -> Mapping[str, Json] | None:
        """How likely the tokens were, as the API says it; None where that was not asked for."""
        return _object(self.raw, "logprobs") or None

    @property
    def finish_reason(self) -> str | None:
        return self._text("finish_reason") or None


class ChunkChoice(View):
    """A part of an answer."""

    __slots__ = ()

    @property
    def index(self) -> int:
        return self._count("index") or 0

    @property
    def delta(self) -> Delta:
        """What is added; the whole message where the server sends one in its place."""
        return Delta(delta_in(self.raw))

    @property
    def logprobs(self) -> Mapping[str, Json] | None:
        return _object(self.raw, "logprobs") or None

    @property
    def finish_reason(self) -> str | None:
        return self._text("finish_reason") or None


class Usage(View):
    """Tokens as the server reports them: an estimate for many bots, never a bill."""

    __slots__ = ()

    @property
    def prompt_tokens(self) -> int:
        return self._known("prompt_tokens", "input_tokens") or 0

    @property
    def completion_tokens(self) -> int:
        """Where only the sum came, what the prompt leaves of it."""
        found = self._known("completion_tokens", "output_tokens")
        rest = (self._known("total_tokens") or 0) - self.prompt_tokens
        return max(rest, 0) if found is None else found

    @property
    def total_tokens(self) -> int:
        return self._known("total_tokens") or self.prompt_tokens + self.completion_tokens

    def _known(self, *names: str) -> int | None:
        """Return the first count there is, by any of its names; none is below zero."""
        found = (self._count(name) for name in names)
        return next((max(count, 0) for count in found if count is not None), None)

    @property
    def prompt_tokens_details(self) -> Mapping[str, Json] | None:
        """Such as `cached_tokens`, from those servers that say so."""
        return _object(self.raw, "prompt_tokens_details") or None

    @property
    def completion_tokens_details(self) -> Mapping[str, Json] | None:
        """Such as `reasoning_tokens`, from those servers that say so."""
        return _object(self.raw, "completion_tokens_details") or None

    def counted(self) -> dict[str, Json]:
        """Return `raw` with the counts of prompt and completion, whole numbers by these names.

        Some servers write `1100.0` or `"1100"`, or call them `input_tokens` and `output_tokens`.
        """
        counts = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        total = {} if self._known("total_tokens") is None else {"total_tokens": self.total_tokens}
        rest = {name: self.raw[name] for name in self.raw if name not in _COUNTS}
        return {**counts, **total, **rest}


class Completion(View):
    """A whole answer. `request_id` is the server's `x-request-id`, or None."""

    __slots__ = ("request_id",)

    def __init__(self, raw: Mapping[str, Json], *, request_id: str | None = None) -> None:
        super().__init__(raw)
        self.request_id = request_id

    @property
    def id(self) -> str | None:
        return self._text("id")

    @property
    def model(self) -> str | None:
        """The model that answered: as asked for, or the snapshot behind it."""
        return self._text("model")

    @property
    def created(self) -> int | None:
        """Seconds since 1970."""
        return self._count("created")

    @property
    def object(self) -> str:
        return self._text("object") or "chat.completion"

    @property
    def system_fingerprint(self) -> str | None:
        return self._text("system_fingerprint")

    @property
    def service_tier(self) -> str | None:
        return self._text("service_tier")

    @property
    def choices(self) -> list[Choice]:
        return _objects(self.raw, "choices", Choice)

    @property
    def usage(self) -> Usage | None:
        found = self.raw.get("usage")
        return Usage(found) if isinstance(found, dict) else None

    @property
    def message(self) -> AnswerMessage:
        """The first choice's message."""
        choices = self.choices
        return choices[0].message if choices else AnswerMessage({})

    @property
    def text(self) -> str:
        return self.message.content or ""

    @property
    def reasoning(self) -> str:
        return self.message.reasoning or ""

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(self.message.tool_calls or ())

    @property
    def finish_reason(self) -> str | None:
        choices = self.choices
        return choices[0].finish_reason if choices else None

    @property
    def flag(self) -> str | None:
        """The first of `flags`, or None."""
        return next(iter(self.flags), None)

    @property
    def flags(self) -> tuple[str, ...]:
        """What makes this answer doubtful, the weightiest first; nothing where it is good.

        `refusal`, `length` (cut), `content_filter`, `no_finish`, a finish reason that is not
        known by its name, and `empty`: also where the model put all of it into `reasoning`, or
        was cut within a call.
        """
        doubt = doubt_in(self.finish_reason)
        is_silent = not self.text.strip() and (doubt == LENGTH or not self.tool_calls)
        refusal = "refusal" if is_silent and (self.message.refusal or "").strip() else None
        found = (refusal, doubt, "empty" if is_silent else None)
        return tuple(flag for flag in found if flag is not None)


class CompletionChunk(View):
    """One event of a stream. The last one may hold `usage` and no choices."""

    __slots__ = ()

    @property
    def id(self) -> str | None:
        return self._text("id")

    @property
    def model(self) -> str | None:
        return self._text("model")

    @property
    def created(self) -> int | None:
        return self._count("created")

    @property
    def object(self) -> str:
        return self._text("object") or "chat.completion.chunk"

    @property
    def system_fingerprint(self) -> str | None:
        return self._text("system_fingerprint")

    @property
    def service_tier(self) -> str | None:
        return self._text("service_tier")

    @property
    def choices(self) -> list[ChunkChoice]:
        return _objects(self.raw, "choices", ChunkChoice)

    @property
    def usage(self) -> Usage | None:
        found = self.raw.get("usage")
        return Usage(found) if isinstance(found, dict) else None


def whole_number(value: Json) -> int | None:
    """Return a number with nothing behind the point, also where it is written as text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if abs(value) <= _LARGEST and value == int(value) else None


def text_in(content: Json) -> str | None:
    """Return a message's text, whether it is one or a list of parts; None where there is none."""
    if content is None or isinstance(content, str):
        return content
    return _joined(content, _text_of)


def reasoning_in(delta: Mapping[str, Json]) -> str | None:
    """Return what a message says of its reasoning, by any of its names or among its parts."""
    for key in ("reasoning_content", "reasoning", "thinking"):
        found = _plain(delta.get(key), _THOUGHT_KEYS)
        if found:
            return found
    content = delta.get("content")
    return None if isinstance(content, str) else _joined(content, _thought_of)


def refusal_in(delta: Mapping[str, Json]) -> str | None:
    """Return why the model will not answer, as a key of its own or among the parts."""
    refusal = delta.get("refusal")
    if isinstance(refusal, str):
        return refusal
    content = delta.get("content")
    return None if isinstance(content, str) else _joined(content, _refusal_of)


def arguments_in(arguments: Json) -> str:
    """Return a call's arguments as JSON text."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else encode_json(arguments).decode()


def delta_in(choice: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return what a chunk adds: its delta, else the message or text that stands in its place."""
    return _object(choice, "delta") or _object(choice, "message") or _bare_text(choice)


def _bare_text(choice: Mapping[str, Json]) -> dict[str, Json]:
    """Return the text of a choice that has no message, as servers of bare completions send it."""
    text = choice.get("text")
    return {"content": text} if isinstance(text, str) else {}


def _joined(content: Json, read: Callable[[Mapping[str, Json] | str], str | None]) -> str | None:
    parts = content if isinstance(content, list) else [content]
    found = [read(part) for part in parts if isinstance(part, dict | str)]
    texts = [text for text in found if text is not None]
    return "".join(texts) if texts else None


def _text_of(part: Mapping[str, Json] | str) -> str | None:
    if isinstance(part, str):
        return part
    return _plain(part, _TEXT_KEYS) if part.get("type", "text") in _TEXT_TYPES else None


def _thought_of(part: Mapping[str, Json] | str) -> str | None:
    if isinstance(part, str) or part.get("type") not in _THOUGHT_TYPES:
        return None
    return _plain(part, _THOUGHT_KEYS)


def _refusal_of(part: Mapping[str, Json] | str) -> str | None:
    if isinstance(part, str) or part.get("type") != "refusal":
        return None
    return _plain(part, ("refusal", *_TEXT_KEYS))


def _plain(value: object, keys: tuple[str, ...], deepest: int = _DEEPEST) -> str | None:
    """Return the text of a value that is one, or has one under the first of `keys` it knows."""
    if isinstance(value, str) or deepest == 0:
        return value if isinstance(value, str) else None
    if isinstance(value, list):
        texts = [_plain(one, keys, deepest - 1) for one in value]
        return "".join(filter(None, texts)) or None
    if isinstance(value, Mapping):
        under = next((value[key] for key in keys if value.get(key) is not None), None)
        return _plain(under, keys, deepest - 1)
    return None


def _object(raw: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    found = raw.get(key)
    return found if isinstance(found, dict) else {}


def _objects(raw: Mapping[str, Json], key: str, view: type[V]) -> list[V]:
    found = raw.get(key)
    if not isinstance(found, list):
        return []
    return [view(item) for item in found if isinstance(item, dict)]
