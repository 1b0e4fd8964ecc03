"""What the API answers, as typed views over the JSON that arrived: unknown keys stay in `raw`.

Every accessor takes null, missing and mistyped values as absent, because the API's two wire
profiles differ in what they leave out.
"""

from collections.abc import Mapping
from typing import Literal, TypeVar

from poeflow.digest import Json

Flag = Literal["length", "empty", "no_finish", "content_filter"]


class View:
    """A JSON object seen through properties. `raw` holds all of it, unknown keys included."""

    __slots__ = ("raw",)

    def __init__(self, raw: Mapping[str, Json]) -> None:
        self.raw = raw

    def __eq__(self, other: object) -> bool:
        return isinstance(other, View) and type(other) is type(self) and other.raw == self.raw

    __hash__ = None  # type: ignore[assignment]  # the JSON below is mutable

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self.raw)!r})"

    def _text(self, key: str) -> str | None:
        value = self.raw.get(key)
        return value if isinstance(value, str) else None

    def _count(self, key: str) -> int | None:
        value = self.raw.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


V = TypeVar("V", bound=View)


class Function(View):
    """The function a tool call names; `arguments` is JSON text as the model wrote it."""

    __slots__ = ()

    @property
    def name(self) -> str:
        return self._text("name") or ""

    @property
    def arguments(self) -> str:
        return self._text("arguments") or ""


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


class Delta(View):
    """What a chunk adds to a message."""

    __slots__ = ()

    @property
    def role(self) -> str | None:
        return self._text("role")

    @property
    def content(self) -> str | None:
        return self._text("content")

    @property
    def reasoning(self) -> str | None:
        """The reasoning text: `reasoning_content`, else `reasoning` (profiles send either)."""
        return self._text("reasoning_content") or self._text("reasoning")

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
        param: dict[str, Json] = {"role": self.role or "assistant", "content": self.content}
        if self.tool_calls:
            param["tool_calls"] = self.raw["tool_calls"]
        return param


class Choice(View):
    """An answer and why it ended."""

    __slots__ = ()

    @property
    def index(self) -> int:
        return self._count("index") or 0

    @property
    def message(self) -> AnswerMessage:
        return AnswerMessage(_object(self.raw, "message"))

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
        return Delta(_object(self.raw, "delta"))

    @property
    def finish_reason(self) -> str | None:
        return self._text("finish_reason") or None


class Usage(View):
    """Tokens as the server reports them: an estimate for many bots, never a bill."""

    __slots__ = ()

    @property
    def prompt_tokens(self) -> int:
        return self._count("prompt_tokens") or 0

    @property
    def completion_tokens(self) -> int:
        return self._count("completion_tokens") or 0

    @property
    def total_tokens(self) -> int:
        return self._count("total_tokens") or self.prompt_tokens + self.completion_tokens


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
    def flag(self) -> Flag | None:
        """What makes this answer doubtful, or None: cut, filtered, unfinished, or empty.

        An answer is empty also where the model put all of it into `reasoning`.
        """
        if self.finish_reason == "length":
            return "length"
        if self.finish_reason == "content_filter":
            return "content_filter"
        if self.finish_reason is None:
            return "no_finish"
        return None if self.text.strip() or self.tool_calls else "empty"


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
    def choices(self) -> list[ChunkChoice]:
        return _objects(self.raw, "choices", ChunkChoice)

    @property
    def usage(self) -> Usage | None:
        found = self.raw.get("usage")
        return Usage(found) if isinstance(found, dict) else None


def _object(raw: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    found = raw.get(key)
    return found if isinstance(found, dict) else {}


def _objects(raw: Mapping[str, Json], key: str, view: type[V]) -> list[V]:
    found = raw.get(key)
    if not isinstance(found, list):
        return []
    return [view(item) for item in found if isinstance(item, dict)]
