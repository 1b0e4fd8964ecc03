"""What a request said, read from the history: messages, their parts, attachments, parameters."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from poeflow.digest import Json
from poeflow.records import InstanceRecord
from poeflow.report.pages.words import pretty

_HASHED: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);sha256,([0-9a-f]{64})")
_ROLES: Final = frozenset({"system", "user", "assistant", "tool", "developer"})


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a message.

    `text` is what was said, or how an attachment is called; `digest` the SHA-256 of an attachment's
    bytes, empty where only its address is known. A `call` is JSON.
    """

    kind: Literal["text", "attachment", "call"]
    text: str
    media_type: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """Who said what. `role` is one the API knows, or `other`."""

    role: str
    parts: tuple[Part, ...]


def body_of(request: Mapping[str, Json] | None) -> Mapping[str, Json]:
    """Return the body of a request in the history, empty where there is none."""
    body = (request or {}).get("body")
    return body if isinstance(body, dict) else {}


def messages_of(body: Mapping[str, Json]) -> tuple[Message, ...]:
    """Return the messages of a request; what has an unknown shape is shown as its JSON."""
    found = body.get("messages")
    return tuple(_message(one) for one in found) if isinstance(found, list) else ()


def parameters_of(body: Mapping[str, Json]) -> Mapping[str, str]:
    """Return all else that a request asked for, each as text."""
    given = {name: value for name, value in body.items() if name not in ("messages", "model")}
    return {
        name: value if isinstance(value, str) else pretty(value) for name, value in given.items()
    }


def digests_of(record: InstanceRecord) -> frozenset[str]:
    """Return the hashes of all files an instance names: what it was given and what it wrote."""
    messages = messages_of(body_of(record.request))
    given = {part.digest for message in messages for part in message.parts if part.digest}
    return frozenset(given | set(record.files.values()))


def _message(one: Json) -> Message:
    if not isinstance(one, dict):
        return Message("other", (Part("call", pretty(one)),))
    role = str(one.get("role"))
    parts = [*_content(one.get("content"))]
    if one.get("tool_calls"):
        parts.append(Part("call", pretty(one["tool_calls"])))
    return Message(role if role in _ROLES else "other", tuple(parts))


def _content(content: Json) -> Iterator[Part]:
    if isinstance(content, str):
        yield Part("text", content)
    elif isinstance(content, list):
        yield from (_part(one) for one in content)


def _part(one: Json) -> Part:
    match one:
        case {"type": "text", "text": str(text)}:
            return Part("text", text)
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return _attachment("", url)
        case {"type": "file", "file": {"filename": str(name), "file_data": str(url)}}:
            return _attachment(name, url)
        case _:
            return Part("call", pretty(one))


def _attachment(name: str, url: str) -> Part:
    found = _HASHED.fullmatch(url)
    if found is None:
        return Part("attachment", name or url)
    return Part("attachment", name, media_type=found[1], digest=found[2])
