"""The messages of a request and their parts, parsed as the API does or refused."""

import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from poeflow.client.messages import ROLES
from poeflow.digest import Json
from poeflow.simulator.refusals import RefusedError

_DATA_URL: Final = re.compile(r"data:([a-z]+/[A-Za-z0-9.+-]+)(?:;[a-z-]+=[^;,]*)*;base64,")
_NAMES: Final = {"image": "an image", "audio": "a recording", "video": "a video"}
_TOKENS: Final = 1_000
"""What an attachment that is not text counts for."""


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """A file that came with a message: what it is called, its media type and its size in tokens."""

    name: str
    media_type: str
    tokens: int

    @property
    def medium(self) -> str:
        """The first half of the media type; addresses of pictures have none, and are pictures."""
        return self.media_type.partition("/")[0] or "image"

    def __str__(self) -> str:
        return f"{self.name} ({self.media_type})" if self.media_type else self.name


class Content(msgspec.Struct, frozen=True):
    text: str
    attachments: tuple[Attachment, ...] = ()


def read_content(content: Json, *, is_strict: bool) -> Content:
    """Read a message's `content`. Raises `RefusedError` for what the documentation does not have.

    `input_audio` is dropped silently unless `is_strict`.
    """
    if content is None:
        return Content("")
    if isinstance(content, str):
        return Content(content)
    if not isinstance(content, list):
        raise RefusedError(400, "'content' must be a string or a list of parts", param="messages")
    texts: list[str] = []
    attachments: list[Attachment] = []
    for part in content:
        read = _part(part, is_strict=is_strict)
        if isinstance(read, str):
            texts.append(read)
        elif read is not None:
            attachments.append(read)
    return Content("\n".join(texts), tuple(attachments))


def _part(part: Json, *, is_strict: bool) -> str | Attachment | None:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return _image(url)
        case {"type": "file", "file": {"file_data": str(data), **rest}}:
            return _file(data, rest)
        case {"type": "input_audio"} if not is_strict:
            return None
        case {"type": str(kind)}:
            raise RefusedError(400, f"Invalid content part of type '{kind}'", param="messages")
        case _:
            raise RefusedError(400, "A content part has no 'type'", param="messages")


def _image(url: str) -> Attachment:
    if url.startswith("https://"):
        return Attachment(name=url.partition("?")[0], media_type="", tokens=_TOKENS)
    media_type, _ = _data(url, "image_url")
    kind = media_type.partition("/")[0]
    return Attachment(name=_NAMES.get(kind, "a file"), media_type=media_type, tokens=_TOKENS)


def _file(url: str, described: Mapping[object, object]) -> Attachment:
    media_type, data = _data(url, "file_data")
    named = described.get("filename")
    name = named if isinstance(named, str) and named else "a file"
    is_text = media_type.startswith("text/") or media_type == "application/json"
    tokens = len(data) // 4 if is_text else _TOKENS
    return Attachment(name=name, media_type=media_type, tokens=tokens)


def _data(url: str, name: str) -> tuple[str, bytes]:
    """Take a data URL apart. Raises `RefusedError` where it is none."""
    head = _DATA_URL.match(url)
    if head is None:
        message = f"'{name}' must be a data URL such as data:image/png;base64,..."
        raise RefusedError(400, message, param="messages")
    try:
        data = binascii.a2b_base64(url[head.end() :], strict_mode=True)
    except (binascii.Error, ValueError):
        raise RefusedError(400, f"'{name}' is not valid base64", param="messages") from None
    if not data:
        raise RefusedError(400, f"'{name}' holds no data", param="messages")
    return head[1], data


_PER_TURN: Final = 3


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message. `called` are the names of the tools an assistant's asks for."""

    role: str
    text: str
    called: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    @property
    def tokens(self) -> int:
        """What the turn counts for: about a token for four bytes."""
        return _PER_TURN + tokens_in(self.text) + sum(item.tokens for item in self.attachments)


def tokens_in(text: str) -> int:
    """Return how many tokens a text has, near enough."""
    return (len(text.encode("utf-8", "surrogatepass")) + 3) // 4


def read_turns(messages: Json, *, is_strict: bool) -> tuple[Turn, ...]:
    """Read `messages`. Raises `RefusedError`."""
    if not isinstance(messages, list) or not messages:
        raise _refused("'messages' must be a list with at least one message", "missing_parameter")
    turns: list[Turn] = []
    unanswered: set[str] = set()
    for message in messages:
        if not isinstance(message, dict):
            raise _refused("A message must be an object with 'role' and 'content'")
        role = _role(message)
        _check_order(role, message, unanswered)
        called = dict(_called(message))
        unanswered |= set(called)
        content = _content(role, message, is_strict=is_strict)
        turn = Turn(
            role=role,
            text=content.text,
            called=tuple(called.values()),
            attachments=content.attachments,
        )
        turns.append(turn)
    if unanswered:
        raise _unanswered(unanswered)
    return tuple(turns)


def _role(message: dict[str, Json]) -> str:
    role = message.get("role")
    if role not in ROLES:
        allowed = "'system', 'user', 'assistant' or 'tool'"
        why = "; Poe has no 'developer', send it as 'system'" if role == "developer" else ""
        raise _refused(f"Invalid 'role': Input should be {allowed}{why}")
    return str(role)


def _check_order(role: str, message: dict[str, Json], unanswered: set[str]) -> None:
    """Check that tool calls and their results belong together."""
    if role == "tool":
        call = message.get("tool_call_id")
        if not isinstance(call, str) or call not in unanswered:
            raise _refused("A message of role 'tool' must answer a 'tool_call_id' asked for before")
        unanswered.discard(call)
    elif unanswered:
        raise _unanswered(unanswered)


def _called(message: dict[str, Json]) -> Iterator[tuple[str, str]]:
    """Yield the id and the tool's name of an assistant message's tool calls."""
    calls = message.get("tool_calls")
    if calls is None:
        return
    if message["role"] != "assistant" or not isinstance(calls, list):
        raise _refused("'tool_calls' must be a list in a message of role 'assistant'")
    for call in calls:
        match call:
            case {"id": str(id_), "function": {"name": str(name), "arguments": str()}}:
                yield id_, name
            case _:
                raise _refused("A tool call needs 'id' and 'function' with 'name' and 'arguments'")


def _content(role: str, message: dict[str, Json], *, is_strict: bool) -> Content:
    content = message.get("content")
    if content is None and role in ("system", "user"):
        raise _refused(f"A message of role '{role}' needs 'content'", "missing_parameter")
    return read_content(content, is_strict=is_strict)


def _unanswered(calls: set[str]) -> RefusedError:
    return _refused(f"Tool calls without a message of role 'tool': {', '.join(sorted(calls))}")


def _refused(message: str, code: str = "") -> RefusedError:
    return RefusedError(400, message, code=code, param="messages")
