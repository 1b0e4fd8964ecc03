"""HTTP/1.1 without I/O: a request becomes bytes, bytes become a head and a body."""

import base64
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from poeflow.client.http.framing import Framing, framing_of
from poeflow.client.http.heads import Head, HeadReader
from poeflow.client.messages import ChatRequest, DataUrl
from poeflow.digest import encode_json
from poeflow.settings import is_loopback

_STEP: Final = 3 * 64 * 1024
_HEAD: Final = re.compile(
    r"[A-Z]+ [\x21-\x7e]+ HTTP/1\.1\r\n"
    r"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e]*\r\n)+\r\n"
)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a connection goes."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"https": 443, "http": 80}[self.scheme]
        return (
            f"{self.scheme}://{host}"
            if self.port == usual
            else f"{self.scheme}://{host}:{self.port}"
        )

    @property
    def authority(self) -> str:
        return str(self).partition("://")[2]

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)


def origin_of(url: str) -> Origin:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Origin(parts.scheme, parts.hostname or "", port)


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body in segments; attachments become base64 only as they are sent."""

    segments: tuple[bytes | DataUrl, ...] = ()

    @property
    def length(self) -> int:
        return sum(len(segment) for segment in self.segments)

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes, a bounded piece at a time; may be called again."""
        for segment in self.segments:
            if isinstance(segment, bytes):
                yield segment
            else:
                yield f"data:{segment.media_type};base64,".encode()
                view = memoryview(segment.data)
                for start in range(0, len(view), _STEP):
                    yield base64.b64encode(view[start : start + _STEP])


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """One HTTP request. `target` is path and query."""

    origin: Origin
    target: str
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    body: Body = Body()


def chat_body(request: ChatRequest) -> Body:
    """Encode a request, keeping attachments apart until they are sent."""
    holes: list[DataUrl] = []
    mark = secrets.token_hex(16)  # nobody can have written it into a prompt

    def spell(url: DataUrl) -> str:
        holes.append(url)
        return f"{mark}"

    body = encode_json(request.body(spell))
    if not holes:
        return Body((body,))
    segments: list[bytes | DataUrl] = []
    for piece, hole in zip(body.split(mark.encode()), [*holes, None], strict=True):
        segments.append(piece)
        if hole is not None:
            segments.append(hole)
    return Body(tuple(segments))


class Talk:
    """One request and its response on a connection that is already open."""

    def __init__(self, request: WireRequest) -> None:
        self._reader = HeadReader()
        self._request = request
        self._body: Framing | None = None
        self._head: Head | None = None

    def head_bytes(self) -> bytes:
        """Return the request's head. Raises `ValueError` where a header holds a line break."""
        request = self._request
        lines = [f"{request.method} {request.target} HTTP/1.1", f"host: {request.origin.authority}"]
        lines += [f"{name}: {value}" for name, value in request.headers]
        if request.method != "GET":
            lines.append(f"content-length: {request.body.length}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        if not _HEAD.fullmatch(head) or len(lines) != head.count("\n") - 1:
            raise ValueError("a header or the address holds what HTTP does not allow")
        return head.encode("ascii")

    def receive_head(self, data: bytes) -> Head | None:
        """Take bytes and return the head once it is whole.

        Raises `APIResponseError` for what is not HTTP.
        """
        self._head = self._reader.feed(data)
        if self._head is not None:
            self._body = framing_of(self._head.status, self._head.headers)
        return self._head

    def first_body(self) -> bytes:
        """Return the body bytes that came together with the head."""
        return self.receive_body(self._reader.rest)

    def receive_body(self, data: bytes) -> bytes:
        """Take bytes off the wire and return those of the body among them."""
        if self._body is None:
            raise AssertionError("the head comes first")
        return self._body.feed(data)

    def end(self) -> bool:
        """Take note that the connection ended; True where that was the body's proper end."""
        return self._body is not None and self._body.end()

    @property
    def is_complete(self) -> bool:
        return self._body is not None and self._body.is_complete

    @property
    def may_reuse(self) -> bool:
        """Whether the connection can serve another request."""
        head = self._head
        if head is None or self._body is None or not self._body.is_reusable:
            return False
        tokens = head.headers.get("connection", "").lower().replace(",", " ").split()
        return head.http_version == "1.1" and "close" not in tokens
