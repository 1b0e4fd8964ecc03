"""Requests and replies as data; `connection` reads and writes them, `service` decides replies."""

import json
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from poeflow.digest import Json

MAX_BODY_BYTES: Final = 64 * 1024 * 1024
Headers = tuple[tuple[str, str], ...]
Ending = Literal["complete", "cut", "stall", "silent", "reset"]
JSON_TYPE: Final = ("content-type", "application/json; charset=utf-8")
SSE_TYPE: Final = ("content-type", "text/event-stream; charset=utf-8")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A whole request. Header names are in lower case; of equal names the last one counts.

    `raw_query` is the query as it was sent.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    raw_query: str = ""


class Segment(msgspec.Struct, frozen=True):
    """Bytes that are written together, `wait` seconds after the previous ones."""

    data: bytes
    wait: float = 0.0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A planned reply: `wait` seconds, the head, the segments, and the ending.

    `cut` closes the connection after the segments, `stall` keeps it open and sends nothing more.
    `silent` keeps it open and `reset` resets it before the first byte. Without a content-length
    the body is chunked.
    """

    status: int
    headers: Headers
    segments: tuple[Segment, ...] = ()
    wait: float = 0.0
    ending: Ending = "complete"


def whole(status: int, body: bytes, headers: Headers) -> Reply:
    """Return a reply with a body of known length."""
    length = ("content-length", str(len(body)))
    return Reply(status=status, headers=(*headers, length), segments=(Segment(body),))


def in_json(status: int, value: object, headers: Headers = ()) -> Reply:
    """Return a reply with `value` as JSON."""
    return whole(status, encoded(value), (JSON_TYPE, *headers))


def event(data: bytes) -> bytes:
    """Frame one server-sent event."""
    return b"data: " + data + b"\n\n"


def encoded(value: object, *, in_order: bool = False) -> bytes:
    """Encode as JSON, keys sorted if `in_order`; lone surrogates are escaped."""
    try:
        return msgspec.json.encode(value, order="sorted" if in_order else None)
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), sort_keys=in_order).encode("ascii")


def decoded(body: bytes) -> Json:
    """Decode JSON, lone surrogates included. Raises `ValueError` for anything else."""
    try:
        try:
            value: Json = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            value = json.loads(body, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
