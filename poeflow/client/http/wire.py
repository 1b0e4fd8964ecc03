"""HTTP/1.1 without I/O: a request becomes bytes, bytes become a head and a body.

A plain head that arrives whole is read here; one that is cut or odd is read by h11.
"""

import base64
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import h11

from poeflow.client.bounds import MAX_INTERIM, MAX_TRAILERS, Count, Pieces
from poeflow.client.messages import ChatRequest, DataUrl
from poeflow.digest import encode_json
from poeflow.errors import APIResponseError
from poeflow.settings import is_loopback

MAX_HEAD: Final = 64 * 1024
_LONGEST_LENGTH: Final = 20
_PLAIN: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [\x20-\x7e]*)?\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n)+)\r\n"
)
_ASKED: Final = h11.Request(method="POST", target="/", headers=[("host", "x")])


@dataclass(frozen=True, slots=True)
class Head:
    """A response's status and headers, names in lower case.

    `sent_at` is the monotonic moment at which the request had gone out, where that is known.
    """

    status: int
    headers: Mapping[str, str]
    http_version: str = "1.1"
    sent_at: float | None = None


class HeadReader:
    """Takes bytes until the head is whole; `rest` is what came after it."""

    def __init__(self) -> None:
        self.rest = b""
        self._h11: h11.Connection | None = None
        self._interim = Count(MAX_INTERIM, "too many interim responses (1xx) came before an answer")

    def feed(self, data: bytes) -> Head | None:
        """Return the head once it is whole. Raises `APIResponseError` for what is not HTTP."""
        if self._h11 is None:
            plain = _plain_head(data)
            if plain is not None:
                head, end = plain
                self.rest = data[end:]
                return head
            self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
            self._h11.send(_ASKED)
        if len(data) >= MAX_HEAD and data.find(b"\r\n\r\n", 0, MAX_HEAD) < 0:
            raise _no_http()
        try:
            self._h11.receive_data(data)
            event = self._h11.next_event()
            while isinstance(event, h11.InformationalResponse):
                self._interim.add()
                event = self._h11.next_event()
        except h11.RemoteProtocolError:
            raise _no_http() from None
        if not isinstance(event, h11.Response):
            return None
        self.rest = self._h11.trailing_data[0]
        headers: dict[str, str] = {}
        for name, value in event.headers:
            headers.setdefault(name.decode("ascii"), value.decode("latin-1"))
        return Head(event.status_code, headers, event.http_version.decode())


def _no_http() -> APIResponseError:
    return APIResponseError("the server does not speak HTTP", hint="check the base URL")


def _plain_head(data: bytes) -> tuple[Head, int] | None:
    """Return the head and where it ends, or None where it takes more care.

    h11 takes 60 microseconds for a head, a fifth of a request; this takes 6.
    """
    match = _PLAIN.match(data, 0, MAX_HEAD)
    if match is None:
        return None
    headers: dict[str, str] = {}
    for line in match[2].decode("ascii").split("\r\n")[:-1]:
        name, _, value = line.partition(":")
        name = name.lower()
        if name in headers and name in ("content-length", "transfer-encoding"):
            return None
        headers.setdefault(name, value.strip(" \t"))
    length = headers.get("content-length", "0")
    is_sound = length.isdigit() and len(length) <= _LONGEST_LENGTH
    if "transfer-encoding" in headers:
        is_chunked = headers["transfer-encoding"].lower() == "chunked"
        is_sound = is_chunked and "content-length" not in headers
    if not is_sound:
        return None
    return (Head(int(match[1]), headers), match.end())


_MAX_LINE: Final = 64 * 1024


def framing_of(status: int, headers: Mapping[str, str]) -> "Framing":
    """Return what cuts the body out of the bytes that follow this head."""
    if status in (204, 304):
        return _Counted(0)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _Chunked()
    length = headers.get("content-length", "")
    return _Counted(int(length)) if length.isascii() and length.isdigit() else Framing()


class Framing:
    """A body that ends where the connection does."""

    is_complete = False
    is_reusable = False

    def feed(self, data: bytes) -> bytes:
        return data

    def end(self) -> bool:
        self.is_complete = True
        return True


class _Counted(Framing):
    """A body of a known number of bytes."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_complete = self.is_reusable = length == 0

    def feed(self, data: bytes) -> bytes:
        taken = data[: self._left] if len(data) > self._left else data
        self._left -= len(taken)
        if self._left == 0:
            self.is_complete = True
            self.is_reusable = len(taken) == len(data)
        return taken

    def end(self) -> bool:
        return self.is_complete


class _Chunked(Framing):
    """A chunked body (RFC 9112, section 7.1); extensions and trailers are dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._left = 0
        self._in_trailers = False
        self._pieces = Pieces()
        self._trailers = Count(MAX_TRAILERS, "the answer has too many trailers")

    def feed(self, data: bytes) -> bytes:
        if self._rest:
            data = self._rest + data
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.is_complete:
            if self._left > 2:
                stop = min(at + self._left - 2, size)
                pieces.append(data[at:stop])
                self._left -= stop - at
                at = stop
            elif self._left:
                if size - at < self._left:
                    break
                if data[at : at + 2] != b"\r\n":
                    raise APIResponseError("the answer's chunks are broken")
                at, self._left = at + 2, 0
            else:
                line_end = data.find(b"\r\n", at, at + _MAX_LINE)
                if line_end < 0:
                    if size - at >= _MAX_LINE:
                        raise APIResponseError("the answer's chunks are broken")
                    break
                self._begin(data[at:line_end])
                at = line_end + 2
        self._rest = data[at:]
        self.is_reusable = self.is_complete and not self._rest
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _begin(self, line: bytes) -> None:
        """Start the chunk that `line` announces, or end with the empty line after the last."""
        if self._in_trailers:
            self.is_complete = not line
            self._trailers.add()
            return
        digits = line.partition(b";")[0].strip()
        if not digits or len(digits) > 12 or digits.strip(b"0123456789abcdefABCDEF"):
            raise APIResponseError("the answer's chunks are broken")
        length = int(digits, 16)
        self._in_trailers = length == 0
        self._pieces.add(length)
        self._left = length + 2 if length else 0

    def end(self) -> bool:
        return self.is_complete


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


class HttpCodec:
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
