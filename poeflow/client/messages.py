"""The wire types that cross package borders: what is asked. What is answered is in `answers`.

Shapes follow Poe's OpenAI-compatible chat completions API.
"""

from typing import Final, Literal

import msgspec

from poeflow.digest import Json

RESERVED: Final = frozenset(
    {"model", "messages", "stream", "stream_options", "n", "tools", "tool_choice"}
)
"""Names `extra_body` may not hold: each has a field of its own, and `model` would replace the bot."""

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
    """One request, exact. `params` are the documented completion parameters, `extra_body` the
    bot's own; both are merged into the top level of the body, and no name is in both."""

    model: str
    messages: tuple[Message, ...]
    params: dict[str, Json] = {}
    extra_body: dict[str, Json] = {}
    stream: bool = False

    def body(self) -> dict[str, object]:
        """The JSON body; `DataUrl` values are still unencoded."""
        body: dict[str, object] = {"model": self.model, "messages": self.messages}
        body |= self.params
        body |= self.extra_body
        if self.stream:
            body["stream"] = True
        return body
