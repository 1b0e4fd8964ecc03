"""The API's responses, as typed views of the JSON; unknown keys stay in `raw`.

Every accessor treats null, missing and mistyped values as absent, because the API's two wire
profiles omit different keys; known alternative spellings of other servers are read, too.
"""

import copy
from collections.abc import Callable, Mapping
from typing import ClassVar, Final, TypeVar

from msgspec.json import format as format_json

from poeflow.client.finish_reasons import LENGTH, doubt_in
from poeflow.digest import Json, encode_json, without_nulls

_LARGEST: Final = 2**53
_COUNTS: Final = ("prompt_tokens", "completion_tokens", "total_tokens")
_TEXT_KEYS: Final = ("text", "value", "content")
_THOUGHT_KEYS: Final = ("thinking", "reasoning", "summary", *_TEXT_KEYS)
_TEXT_TYPES: Final = ("text", "output_text")
_THOUGHT_TYPES: Final = ("thinking", "reasoning", "reasoning_text", "thought")
_DEEPEST: Final = 4


class View:
    """A JSON object with properties. `raw` is the whole object, unknown keys included."""

    __slots__ = ("raw",)

    def __init__(self, raw: Mapping[str, Json]) -> None:
        self.raw: Mapping[str, Json] = raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and type(other) is type(self) and other.raw == self.raw

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # the JSON below is mutable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self.raw)!r})"

    def to_dict(self) -> dict[str, Json]:
        """Return a copy of `raw`."""
        return copy.deepcopy(dict(self.raw))

    def model_dump(self, *, exclude_none: bool = False) -> dict[str, Json]:
        """Return `to_dict()`, the OpenAI SDK's name for it; `exclude_none` leaves nulls out."""
        return without_nulls(self.raw) if exclude_none else self.to_dict()

    def model_dump_json(self, *, indent: int | None = None, exclude_none: bool = False) -> str:
        """Return `raw` as JSON, with `indent` over several lines."""
        document = encode_json(without_nulls(self.raw) if exclude_none else dict(self.raw))
        return (document if indent is None else format_json(document, indent=indent)).decode()

    def _text(self, key: str) -> str | None:
        value = self.raw.get(key)
        return value if isinstance(value, str) else None

    def _count(self, key: str) -> int | None:
        return whole_number(self.raw.get(key))


V = TypeVar("V", bound=View)


class Function(View):
    """The function of a tool call; `arguments` is JSON text as the model wrote it.

    Some servers send an object instead, which is converted to text.
    """

    __slots__ = ()

    @property
    def name(self) -> str:
        return self._text("name") or ""

    @property
    def arguments(self) -> str:
        return arguments_in(self.raw.get("arguments"))


class ToolCall(View):
    """One tool call. In a stream only the first chunk of a call has `id` and `name`."""

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
        """Return the call for a later request, with all keys and its arguments as text."""
        function: dict[str, Json] = dict(self.function.raw)
        if not isinstance(function.get("arguments"), str):
            function["arguments"] = self.function.arguments
        return {**self.raw, "function": function}


class MessageDelta(View):
    """The part of a message in a chunk."""

    __slots__ = ()

    @property
    def role(self) -> str | None:
        return self._text("role")

    @property
    def content(self) -> str | None:
        """The text; if the server sent a list of parts, that of its text parts."""
        return text_in(self.raw.get("content"))

    @property
    def reasoning(self) -> str | None:
        """The reasoning: `reasoning_content`, else `reasoning`, else the thinking parts."""
        return reasoning_in(self.raw)

    reasoning_content = reasoning

    @property
    def refusal(self) -> str | None:
        """The model's explanation if it refuses to answer."""
        return refusal_in(self.raw)

    @property
    def annotations(self) -> list[Json] | None:
        found = self.raw.get("annotations")
        return found if isinstance(found, list) else None

    @property
    def tool_calls(self) -> list[ToolCall] | None:
        found = _objects(self.raw, "tool_calls", ToolCall)
        return found or None


class AnswerMessage(MessageDelta):
    """The assistant's message. `to_param()` returns it for the next request."""

    __slots__ = ()

    def to_param(self) -> dict[str, Json]:
        """Return this message for the next request, with all keys of its tool calls.

        Gemini's `extra_content` signatures, for example, must be sent back.
        """
        calls = self.tool_calls
        content = self.content if self.content or calls else self.refusal or self.content
        param: dict[str, Json] = {"role": self.role or "assistant", "content": content}
        if calls:
            param["tool_calls"] = [call.to_param() for call in calls]
        return param


class _AnyChoice(View):
    """What choices of whole answers and of chunks have alike."""

    __slots__ = ()

    @property
    def index(self) -> int:
        return self._count("index") or 0

    @property
    def logprobs(self) -> Mapping[str, Json] | None:
        """The log probabilities of the tokens as the API sends them; None if not requested."""
        return _object(self.raw, "logprobs") or None

    @property
    def finish_reason(self) -> str | None:
        return self._text("finish_reason") or None


class Choice(_AnyChoice):
    """An answer and its finish reason."""

    __slots__ = ()

    @property
    def message(self) -> AnswerMessage:
        return AnswerMessage(_object(self.raw, "message") or _bare_text(self.raw))


class ChunkChoice(_AnyChoice):
    """A part of an answer."""

    __slots__ = ()

    @property
    def delta(self) -> MessageDelta:
        """The added part; the whole message if the server sends one instead."""
        found = self.raw.get("delta")  # without more calls for the usual one: an answer has many
        return MessageDelta(found if type(found) is dict and found else delta_in(self.raw))


class TokenDetails(dict[str, Json]):
    """The parts of a token count by name; all `..._tokens` are attributes, too."""

    __slots__ = ()

    def __getattr__(self, name: str) -> int | None:
        if not name.endswith("_tokens"):
            raise AttributeError(name)
        return whole_number(self.get(name))


class Usage(View):
    """Token counts as the server reports them: an estimate for many bots."""

    __slots__ = ()

    @property
    def prompt_tokens(self) -> int:
        return self._known("prompt_tokens", "input_tokens") or 0

    @property
    def completion_tokens(self) -> int:
        """If the server sent only the sum, the sum less the prompt's tokens."""
        found = self._known("completion_tokens", "output_tokens")
        if found is not None:
            return found
        return max((self._known("total_tokens") or 0) - self.prompt_tokens, 0)

    @property
    def total_tokens(self) -> int:
        return self._known("total_tokens") or self.prompt_tokens + self.completion_tokens

    def _known(self, *names: str) -> int | None:
        """Return the first of several keys that has a count of at least zero."""
        for name in names:
            if (count := whole_number(self.raw.get(name))) is not None:
                return max(count, 0)
        return None

    @property
    def prompt_tokens_details(self) -> TokenDetails | None:
        """Such as `cached_tokens`, from servers that send it."""
        return TokenDetails(_object(self.raw, "prompt_tokens_details")) or None

    @property
    def completion_tokens_details(self) -> TokenDetails | None:
        """Such as `reasoning_tokens`, from servers that send it."""
        return TokenDetails(_object(self.raw, "completion_tokens_details")) or None

    def counted(self) -> dict[str, Json]:
        """Return `raw` with `prompt_tokens` and `completion_tokens` as whole numbers.

        Some servers write `1100.0` or `"1100"`, or call them `input_tokens` and `output_tokens`.
        """
        counts = [*map(self.raw.get, _COUNTS)]
        if not all(type(count) is int and 0 < count <= _LARGEST for count in counts):
            total = [] if self._known("total_tokens") is None else [self.total_tokens]
            counts = [self.prompt_tokens, self.completion_tokens, *total]
        rest = {name: value for name, value in self.raw.items() if name not in _COUNTS}
        return {**dict(zip(_COUNTS, counts, strict=False)), **rest}


class _Answer(View):
    """What whole answers and their chunks have alike."""

    __slots__ = ()

    @property
    def id(self) -> str | None:
        return self._text("id")

    @property
    def model(self) -> str | None:
        """The model that answered: the requested name, or its snapshot."""
        return self._text("model")

    @property
    def created(self) -> int | None:
        """Seconds since 1970."""
        return self._count("created")

    @property
    def system_fingerprint(self) -> str | None:
        return self._text("system_fingerprint")

    @property
    def service_tier(self) -> str | None:
        return self._text("service_tier")

    @property
    def usage(self) -> Usage | None:
        found = self.raw.get("usage")
        return Usage(found) if isinstance(found, dict) else None


class Completion(_Answer):
    """A whole answer. `request_id` is the server's `x-request-id`, or None."""

    __slots__ = ("_message", "_text_of_message", "request_id")

    def __init__(self, raw: Mapping[str, Json], *, request_id: str | None = None) -> None:
        self.raw = raw
        self.request_id: str | None = request_id
        self._message: AnswerMessage | None = None
        self._text_of_message: str | None = None

    @property
    def object(self) -> str:
        return self._text("object") or "chat.completion"

    @property
    def choices(self) -> list[Choice]:
        return _objects(self.raw, "choices", Choice)

    @property
    def message(self) -> AnswerMessage:
        """The first choice's message."""
        if self._message is None:
            self._message = Choice(first_choice_in(self.raw)).message
        return self._message

    @property
    def text(self) -> str:
        if self._text_of_message is None:
            self._text_of_message = self.message.content or ""
        return self._text_of_message

    @property
    def reasoning(self) -> str:
        return self.message.reasoning or ""

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        return tuple(self.message.tool_calls or ())

    @property
    def finish_reason(self) -> str | None:
        reason = first_choice_in(self.raw).get("finish_reason")
        return reason if isinstance(reason, str) and reason else None

    @property
    def flag(self) -> str | None:
        """The first of `flags`, or None."""
        return next(iter(self.flags), None)

    @property
    def flags(self) -> tuple[str, ...]:
        """The reasons to doubt this answer, most important first; empty if there are none.

        `refusal`, `length` (cut), `content_filter`, `no_finish`, the name of an unknown finish
        reason, and `empty`, also if the model put everything into `reasoning` or was cut within a
        tool call.
        """
        doubt, message = doubt_in(self.finish_reason), self.message
        found = () if doubt is None else (doubt,)
        if self.text.strip() or (doubt != LENGTH and message.tool_calls):
            return found
        return (*(["refusal"] if (message.refusal or "").strip() else []), *found, "empty")


class CompletionChunk(_Answer):
    """One event of a stream. The last one may have `usage` and no choices."""

    __slots__ = ()

    @property
    def object(self) -> str:
        return self._text("object") or "chat.completion.chunk"

    @property
    def choices(self) -> list[ChunkChoice]:
        return _objects(self.raw, "choices", ChunkChoice)


def whole_number(value: Json) -> int | None:
    """Return a value as a whole number, also if it is text or like 1.0; else None."""
    if type(value) is int and -_LARGEST <= value <= _LARGEST:  # almost every one
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 16:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if abs(value) <= _LARGEST and value == int(value) else None


def text_in(content: Json) -> str | None:
    """Return a message's text, also from a list of parts; None if there is none."""
    if content is None or type(content) is str:
        return content
    return _joined(content, _text_of)


def reasoning_in(delta: Mapping[str, Json]) -> str | None:
    """Return a message's reasoning, from any of its keys or from the parts."""
    for key in ("reasoning_content", "reasoning", "thinking"):
        if delta.get(key) is not None and (found := _plain(delta[key], _THOUGHT_KEYS)):
            return found
    content = delta.get("content")
    return None if isinstance(content, str) else _joined(content, _thought_of)


def refusal_in(delta: Mapping[str, Json]) -> str | None:
    """Return a message's refusal, from its key or from the parts."""
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


def first_choice_in(raw: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return the first choice of an answer or a chunk, empty if it has none."""
    choices = raw.get("choices")
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            return choice
    return {}


def delta_in(choice: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return a chunk's delta, else the message or text it has instead."""
    return _object(choice, "delta") or _object(choice, "message") or _bare_text(choice)


def _bare_text(choice: Mapping[str, Json]) -> dict[str, Json]:
    """Return the text of a choice without a message, as text completion servers send it."""
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
    """Return a text, or the text under the first of `keys` that a value has."""
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
    if len(found) == 1 and type(found[0]) is dict:  # as in almost all
        return [view(found[0])]
    return [view(item) for item in found if isinstance(item, dict)]
