"""The wire types that cross package borders: what is asked. What is answered is in `answers`.

Shapes follow Poe's OpenAI-compatible chat completions API.
"""

from collections.abc import Callable
from typing import Final, Literal

import msgspec

from poeflow.digest import Json

RESERVED: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "n", "tools", "tool_choice"}
)
"""Names `extra_body` may not hold: each is a field, and `model` would replace the bot."""

Role = Literal["system", "user", "assistant", "tool"]


class DataUrl(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that become `data:<media_type>;base64,...` only while the request is being sent."""

    media_type: str
    data: bytes

    def __len__(self) -> int:
        """Characters of the finished URL."""
        return len(f"data:{self.media_type};base64,") + (len(self.data) + 2) // 3 * 4


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
    """One turn. Keys that are None are left out of the body."""

    role: Role
    content: str | tuple[Part, ...] | None = None
    name: str | None = None
    tool_calls: tuple[dict[str, Json], ...] | None = None
    tool_call_id: str | None = None


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request, exact.

    `params` are the documented completion parameters, `extra_body` the bot's own; both are merged
    into the top level of the body, and no name is in both.
    """

    model: str
    messages: tuple[Message, ...]
    params: dict[str, Json] = {}
    extra_body: dict[str, Json] = {}
    stream: bool = False

    def body(self, spell: Callable[[DataUrl], str]) -> dict[str, object]:
        """Return the JSON body, with what `spell` gives in place of every `DataUrl`."""
        body: dict[str, object] = {"model": self.model}
        body["messages"] = [_spelled(message, spell) for message in self.messages]
        body |= self.params
        body |= self.extra_body
        if self.stream:
            body["stream"] = True
        return body


def _spelled(message: Message, spell: Callable[[DataUrl], str]) -> Message:
    if not isinstance(message.content, tuple):
        return message
    parts = tuple(_spelled_part(part, spell) for part in message.content)
    return msgspec.structs.replace(message, content=parts)


def _spelled_part(part: Part, spell: Callable[[DataUrl], str]) -> Part:
    match part:
        case ImagePart(image_url=ImageUrl(url=DataUrl() as data) as image):
            return ImagePart(image_url=msgspec.structs.replace(image, url=spell(data)))
        case FilePart(file=FileData(filename=name, file_data=DataUrl() as data)):
            return FilePart(file=FileData(filename=name, file_data=spell(data)))
        case _:
            return part
