"""Requests: messages and parameters of Poe's chat completions, checked before sending.

A bot's own parameters go into `extra_body`, which is merged into the top level of the request.
"""

import base64
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Literal,
    Protocol,
    Required,
    TypeAlias,
    TypedDict,
)

import msgspec

from poeflow.bots import RESERVED_KEYS
from poeflow.client.answers import AnswerMessage
from poeflow.digest import Json, encode_json
from poeflow.errors import UsageError

_STEP: Final = 3 * 64 * 1024


class StoredBytes(Protocol):
    """Bytes that are read in pieces, each time the same; all but the last divide by three."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...


if TYPE_CHECKING:
    Content: TypeAlias = bytes | StoredBytes
else:
    Content = Any  # msgspec knows no protocols
Role = Literal["system", "user", "assistant", "tool"]


class DataUrl(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that are encoded as `data:<media_type>;base64,...` only while sending."""

    media_type: str
    data: Content

    def __len__(self) -> int:
        """The number of characters of the URL."""
        return len(f"data:{self.media_type};base64,") + (len(self.data) + 2) // 3 * 4

    def pieces(self) -> Iterator[bytes]:
        """Yield the URL in bounded pieces; may be called again."""
        yield f"data:{self.media_type};base64,".encode()
        yield from map(base64.b64encode, in_pieces(self.data))


def in_pieces(data: Content) -> Iterable[bytes | memoryview]:
    """Return bytes in bounded pieces."""
    if not isinstance(data, bytes):
        return data
    view = memoryview(data)
    return (view[start : start + _STEP] for start in range(0, len(view), _STEP))


class TextPart(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="text"):
    text: str


class ImageUrl(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    url: str | DataUrl
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="image_url"):
    image_url: ImageUrl


class FileData(msgspec.Struct, frozen=True, kw_only=True):
    filename: str
    file_data: str | DataUrl


class FilePart(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="file"):
    file: FileData


Part = TextPart | ImagePart | FilePart


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message. Keys that are None are not sent."""

    role: Role
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    tool_calls: tuple[dict[str, Json], ...] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The text of the message, its attachments left out."""
        if self.content is None or isinstance(self.content, str):
            return self.content or ""
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One complete request.

    `params` are the documented completion parameters, `extra_body` the bot's own; both are merged
    into the top level of the body, and no name is in both.
    """

    model: str
    messages: tuple[Message, ...]
    params: dict[str, Json] = {}
    extra_body: dict[str, Json] = {}
    stream: bool = False

    def body(self, spell: Callable[[DataUrl], str]) -> dict[str, object]:
        """Return the JSON body, with every `DataUrl` replaced by `spell`."""
        body: dict[str, object] = {"model": self.model}
        body["messages"] = [
            _spelled(one, one.content, spell) if isinstance(one.content, tuple) else one
            for one in self.messages
        ]
        body |= self.params
        body |= self.extra_body
        if self.stream:
            body["stream"] = True
        return body


def _spelled(
    message: Message, content: tuple[Part, ...], spell: Callable[[DataUrl], str]
) -> Message:
    parts = tuple(_spelled_part(part, spell) for part in content)
    return msgspec.structs.replace(message, content=parts)


def _spelled_part(part: Part, spell: Callable[[DataUrl], str]) -> Part:
    match part:
        case ImagePart(image_url=ImageUrl(url=DataUrl() as data) as image):
            return ImagePart(image_url=msgspec.structs.replace(image, url=spell(data)))
        case FilePart(file=FileData(filename=name, file_data=DataUrl() as data)):
            return FilePart(file=FileData(filename=name, file_data=spell(data)))
        case _:
            return part


ROLES: Final = ("system", "user", "assistant", "tool")
_RANGES: Final = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "top_logprobs": (0, 20),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_COUNTS: Final = ("max_tokens", "max_completion_tokens")
_KINDS: Final[Mapping[str, tuple[type | UnionType, str]]] = {
    "seed": (int, "a whole number"),
    "parallel_tool_calls": (bool, "True or False"),
    "logprobs": (bool, "True or False"),
    "store": (bool, "True or False"),
    "media": (bool, "True or False"),
    "reasoning_effort": (str, "a text"),
    "service_tier": (str, "a text"),
    "user": (str, "a text"),
    "stream_options": (Mapping, "a mapping"),
    "response_format": (Mapping, "a mapping"),
    "logit_bias": (Mapping, "a mapping"),
    "metadata": (Mapping, "a mapping"),
    "extra_headers": (Mapping, "a mapping"),
    "extra_query": (Mapping, "a mapping"),
    "tool_choice": (str | Mapping, "a text or a mapping"),
}
_MAX_STOPS: Final = 4
_OBJECTS: Final = (dict, Mapping)
"""With `dict` first: to ask for a `Mapping` is slow."""
_ARRAYS: Final = (list, tuple, set, frozenset)
_UNLIKE_JSON: Final = (bytes, bytearray, memoryview, Decimal)
_OURS: Final = frozenset({"extra_body", "extra_headers", "extra_query", "timeout", "media"})


MessageParam: TypeAlias = Mapping[str, object] | AnswerMessage
"""A message of a request: a mapping with `role` and `content`, or a message of an answer."""


class StreamOptions(TypedDict, total=False):
    """`include_usage` requests a last chunk with the token counts."""

    include_usage: bool


class CreateParams(TypedDict, total=False):
    """Keyword arguments of `create`. Values that are None are not sent.

    `model` is a bot's name; case does not matter. `messages` are mappings with `role` and
    `content`, or messages of earlier answers. `n` must be 1. `stop` has up to four texts.
    `timeout` is in seconds, for each attempt. `media=True` is for an image, video or audio bot:
    the timeout is longer, and a request that may have been billed is not sent again.
    """

    model: Required[str]
    messages: Required[Iterable[MessageParam]]
    max_tokens: int | None
    max_completion_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: str | Sequence[str] | None
    seed: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    logit_bias: Mapping[str, float] | None
    store: bool | None
    metadata: Mapping[str, object] | None
    user: str | None
    service_tier: str | None
    n: Literal[1] | None
    tools: Iterable[Mapping[str, object]] | None
    tool_choice: str | Mapping[str, object] | None
    parallel_tool_calls: bool | None
    stream_options: StreamOptions | None
    reasoning_effort: str | None
    logprobs: bool | None
    top_logprobs: int | None
    response_format: Mapping[str, object] | None
    extra_body: Mapping[str, object] | None
    extra_headers: Mapping[str, str] | None
    extra_query: Mapping[str, object] | None
    timeout: float | None
    media: bool


def encode_params(params: CreateParams, *, stream: bool) -> bytes:
    """Return the request's body as JSON. Raises `UsageError`, naming the wrong parameter."""
    body = params_body(params, stream=stream)
    encoded = b""
    wrong: str | None = None
    try:
        encoded = _encoded(body)
    except (TypeError, ValueError, RecursionError):
        wrong = next(name for name, value in body.items() if not _can_be_encoded({name: value}))
    else:
        wrong = next((name for name, value in body.items() if not _is_json(value)), None)
    if wrong is not None:
        hint = "use texts, finite numbers, lists and mappings"
        raise UsageError(f"{wrong} has a value that JSON does not have", hint=hint)
    return encoded


def params_body(params: CreateParams, *, stream: bool) -> dict[str, object]:
    """Return the request's body. Raises `UsageError`, naming the wrong parameter."""
    given = {name: value for name, value in params.items() if value is not None}
    unknown = sorted(given.keys() - CreateParams.__annotations__.keys())
    if unknown:
        raise UsageError(f"{unknown[0]} is not a parameter of create", hint="pass it in extra_body")
    _check(given)
    body = {name: value for name, value in given.items() if name not in _OURS}
    body["model"] = _model(given.get("model"))
    body["messages"] = _messages(given.get("messages"))
    if "tools" in body:
        body["tools"] = _listed("tools", body["tools"])
    if body.pop("n", 1) != 1:
        raise UsageError("n must be 1", hint="send several requests for several answers")
    extra = given.get("extra_body", {})
    if not isinstance(extra, Mapping):
        raise UsageError(
            "extra_body must be a mapping", hint="for example {'thinking_budget': 1024}"
        )
    for name in extra:
        if not isinstance(name, str):
            raise UsageError("extra_body must have texts as keys")
        if name in RESERVED_KEYS or name in body:
            raise UsageError(f"extra_body must not have {name}", hint=f"pass {name}= itself")
    body |= extra
    if stream:
        body["stream"] = True
    return body


def _encoded(value: object) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:
        return encode_json(msgspec.to_builtins(value, enc_hook=_plain))


def _can_be_encoded(value: object) -> bool:
    try:
        return bool(_encoded(value))
    except (TypeError, ValueError, RecursionError):
        return False


def _plain(value: object) -> object:
    """Return a value of a class that derives from one of JSON's as one of that."""
    match value:
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case Mapping():
            return dict(value)
    raise TypeError


def _is_json(value: object) -> bool:
    """Return whether JSON has what a value that can be encoded holds.

    Without this bytes would silently become base64, a `Decimal` a text, and NaN null.
    """
    waiting = [value]
    while waiting:
        one = waiting.pop()
        kind = type(one)
        if kind is str or kind is int or kind is bool or one is None:
            continue
        if isinstance(one, _OBJECTS):
            waiting.extend(one)
            waiting.extend(one.values())
        elif isinstance(one, _ARRAYS):
            waiting.extend(one)
        elif isinstance(one, float):
            if not math.isfinite(one):
                return False
        elif isinstance(one, _UNLIKE_JSON):
            return False
        elif not isinstance(one, str | int):
            waiting.append(msgspec.to_builtins(one, builtin_types=_UNLIKE_JSON, enc_hook=_plain))
    return True


def _model(model: object) -> str:
    if not isinstance(model, str) or not model.strip():
        raise UsageError("model must be a bot's name", hint="for example Claude-Sonnet-4.5")
    return model


def _messages(messages: object) -> list[object]:
    listed = _listed("messages", messages)
    if not listed:
        raise UsageError("messages must have at least one message")
    listed = [one.to_param() if isinstance(one, AnswerMessage) else one for one in listed]
    for index, message in enumerate(listed):
        role = message.get("role") if isinstance(message, Mapping) else None
        if role not in ROLES:
            hint = "there is no role developer: use system" if role == "developer" else ""
            expected = f"messages[{index}].role must be one of {', '.join(ROLES)}"
            raise UsageError(expected, hint=hint)
    return listed


def _listed(name: str, value: object) -> list[object]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise UsageError(f"{name} must be a list")
    return list(value)


def _check(body: Mapping[str, object]) -> None:
    for name, (kind, expected) in _KINDS.items():
        value = body.get(name)
        if value is not None and (
            not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
        ):
            raise UsageError(f"{name} must be {expected}")
    for name, (least, most) in _RANGES.items():
        value = body.get(name, least)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError(f"{name} must be a number")
        if not least <= value <= most:
            raise UsageError(f"{name} must be between {least} and {most}")
    for name in _COUNTS:
        value = body.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} must be a whole number of at least 1")
    stop = body.get("stop", "")
    stops = [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list | tuple) or not all(isinstance(text, str) for text in stops):
        raise UsageError("stop must be a text or a list of texts")
    if len(stops) > _MAX_STOPS:
        raise UsageError(f"stop must have at most {_MAX_STOPS} texts")
