"""What goes over the socket, as data: the request that came in, the reply that will go out.

How bytes reach the socket is `connection`'s affair; what stands in them is decided in `service`.
"""

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
    """A request, read whole. Header names are in lower case; of equal names the last counts."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""


class Segment(msgspec.Struct, frozen=True):
    """Bytes that are written at once, `wait` seconds after what went before."""

    data: bytes
    wait: float = 0.0


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A reply as a plan: `wait` seconds, the head, the segments, and how it ends.

    `cut` closes the connection where the segments end, `stall` holds it open and says no more.
    `silent` holds it open and `reset` breaks it before the first byte. Without a content-length
    the body goes in chunks.
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
    """Return a reply whose body is `value` in JSON."""
    return whole(status, encoded(value), (JSON_TYPE, *headers))


def event(data: bytes) -> bytes:
    """Frame one server-sent event."""
    return b"data: " + data + b"\n\n"


def encoded(value: object, *, in_order: bool = False) -> bytes:
    """Encode as JSON, keys sorted if `in_order`; lone surrogates go as escapes."""
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
