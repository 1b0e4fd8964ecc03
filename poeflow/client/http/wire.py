"""HTTP/1.1 without I/O: encodes requests, decodes heads and bodies of responses.

A simple head in one piece is parsed here; others are parsed by h11.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import msgspec

from poeflow.client.http.piece_counts import MAX_INTERIM, MAX_TRAILERS, Count, PieceCount
from poeflow.errors import APIResponseError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.redact import fields_without, repr_without
from poeflow.settings import is_loopback

MAX_HEAD: Final = 64 * 1024
_LONGEST_LENGTH: Final = 20
_PLAIN: Final = lazy_pattern(
    rb"HTTP/1\.1 ([2-5][0-9]{2})(?: [\x20-\x7e]*)?\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e]*\r\n)+)\r\n"
)


class Head(msgspec.Struct, frozen=True):
    """A response's status and headers, names in lower case.

    `sent_at` is the monotonic time at which the request was sent, if it is known.
    """

    status: int
    headers: Mapping[str, str]
    http_version: str = "1.1"
    sent_at: float | None = None


class HeadReader:
    """Collects bytes until the head is complete; `rest` are the bytes after it."""

    def __init__(self) -> None:
        self.rest = b""
        self._parser: _HeadParser | None = None

    def feed(self, data: bytes) -> Head | None:
        """Return the head once it is complete. Raises `APIResponseError` if it is not HTTP."""
        if self._parser is None:
            plain = _plain_head(data)
            if plain is not None:
                head, end = plain
                self.rest = data[end:]
                return head
            self._parser = _HeadParser()
        head_and_rest = self._parser.feed(data)
        if head_and_rest is None:
            return None
        head, self.rest = head_and_rest
        return head


class _HeadParser:
    """Parses any head by h11, which takes a while to import."""

    def __init__(self) -> None:
        import h11

        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._connection.send(h11.Request(method="POST", target="/", headers=[("host", "x")]))
        self._interim = Count(MAX_INTERIM, "too many interim responses (1xx) came before an answer")

    def feed(self, data: bytes) -> tuple[Head, bytes] | None:
        """Return the head and the bytes after it, once it is complete."""
        import h11

        if len(data) >= MAX_HEAD and data.find(b"\r\n\r\n", 0, MAX_HEAD) < 0:
            raise _no_http()
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
            while isinstance(event, h11.InformationalResponse):
                self._interim.add()
                event = self._connection.next_event()
        except h11.RemoteProtocolError:
            raise _no_http() from None
        if not isinstance(event, h11.Response):
            return None
        headers: dict[str, str] = {}
        for name, value in event.headers:
            headers.setdefault(name.decode("ascii"), value.decode("latin-1"))
        head = Head(event.status_code, headers, event.http_version.decode())
        return head, self._connection.trailing_data[0]


def _no_http() -> APIResponseError:
    return APIResponseError("the server does not speak HTTP", hint="check the base URL")


def _plain_head(data: bytes) -> tuple[Head, int] | None:
    """Return the head and its end, or None if it is not simple.

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
_DIGITS: Final = b"0123456789abcdefABCDEF"
_MOST_DIGITS: Final = 12


def framing_of(status: int, headers: Mapping[str, str]) -> "Framing":
    """Return the framing of the body after this head."""
    if status in (204, 304):
        return _Counted(0)
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return _Chunked()
    length = headers.get("content-length", "")
    return _Counted(int(length)) if length.isascii() and length.isdigit() else Framing()


class Framing:
    """A body that ends with the connection.

    What comes before a broken part is returned; `broken` is then the error to raise after it.
    """

    is_complete = False
    is_reusable = False
    broken: APIResponseError | None = None

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
        self._line: bytes | None = None
        self._length = 0
        """The last line with a size above 0: many chunks have the same."""
        self._in_trailers = False
        self._pieces = PieceCount()
        self._trailers = Count(MAX_TRAILERS, "the answer has too many trailers")

    def feed(self, data: bytes) -> bytes:
        if self._rest:
            data = self._rest + data
        pieces: list[bytes] = []
        try:
            self._take(data, pieces)
        except APIResponseError as error:
            if not pieces:
                raise
            self.broken = error
        self.is_reusable = self.is_complete and not self._rest
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _take(self, data: bytes, pieces: list[bytes]) -> None:
        """Add the pieces of the body in the data to `pieces`."""
        at, size, count, total = 0, len(data), 0, 0
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
                line, at = data[at:line_end], line_end + 2
                length = self._length if line == self._line else self._begin(line)
                self._left = length + 2 if length else 0
                count, total, end = count + (length > 0), total + length, at + length
                if length and data[end : end + 2] == b"\r\n":  # most are here as a whole
                    pieces.append(data[at:end])
                    at, self._left = end + 2, 0
        self._pieces.add(total, count)
        self._rest = data[at:]

    def _begin(self, line: bytes) -> int:
        """Begin the chunk with the size in `line`, or end at the empty line after the last.

        Returns the size, 0 for the last.
        """
        if self._in_trailers:
            self.is_complete = not line
            self._trailers.add()
            return 0
        is_plain = 0 < len(line) <= _MOST_DIGITS and not line.strip(_DIGITS)
        length = int(line, 16) if is_plain else self._length_in(line)
        self._in_trailers = length == 0
        self._line, self._length = (None, 0) if self._in_trailers else (line, length)
        return length

    def _length_in(self, line: bytes) -> int:
        """Return the size in a line with an extension or white space."""
        digits = line.partition(b";")[0].strip()
        if not 0 < len(digits) <= _MOST_DIGITS or digits.strip(_DIGITS):
            raise APIResponseError("the answer's chunks are broken")
        return int(digits, 16)

    def end(self) -> bool:
        return self.is_complete


_HEAD: Final = lazy_pattern(
    r"[A-Z]+ [\x21-\x7e]+ HTTP/1\.1\r\n"
    r"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e]*\r\n)+"
)


class ServerOrigin(msgspec.Struct, frozen=True):
    """The server of a connection: scheme, host and port."""

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


def origin_of(url: str) -> ServerOrigin:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return ServerOrigin(parts.scheme, parts.hostname or "", port)


class BodySegment(Protocol):
    """A part of a body that is encoded only while it is sent. Its length is that of the bytes."""

    def __len__(self) -> int: ...

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in bounded pieces; may be called again."""


class Body(msgspec.Struct, frozen=True):
    """A request's body in segments."""

    segments: tuple[bytes | BodySegment, ...] = ()

    @property
    def length(self) -> int:
        return sum(map(len, self.segments))

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes in bounded pieces; may be called again."""
        for segment in self.segments:
            if isinstance(segment, bytes):
                yield segment
            else:
                yield from segment.pieces()


class WireRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request. `target` is path and query."""

    origin: ServerOrigin
    target: str
    method: str = "POST"
    headers: tuple[tuple[str, str], ...] = ()
    body: Body = msgspec.field(default_factory=Body)
    _head: list[str] = msgspec.field(default_factory=list)
    """Its head without the length of the body, once it was made: see `with_body`."""

    def __repr__(self) -> str:
        return repr_without(self, "headers", "_head")

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return fields_without(self, "headers", "_head")

    def with_body(self, body: Body) -> "WireRequest":
        """Return the request with another body; both make their head only once."""
        return WireRequest(
            origin=self.origin,
            target=self.target,
            method=self.method,
            headers=self.headers,
            body=body,
            _head=self._head,
        )

    def head(self) -> bytes:
        """Return the request's head. Raises `ValueError` if a header has a line break."""
        if not self._head:
            lines = [f"{self.method} {self.target} HTTP/1.1", f"host: {self.origin.authority}"]
            lines += [f"{name}: {value}" for name, value in self.headers]
            head = "\r\n".join(lines) + "\r\n"
            if not _HEAD.fullmatch(head) or len(lines) != head.count("\n"):
                raise ValueError("a header or the address has characters that HTTP does not allow")
            self._head.append(head)
        length = "" if self.method == "GET" else f"content-length: {self.body.length}\r\n"
        return f"{self._head[0]}{length}\r\n".encode("ascii")


class HttpCodec:
    """One request and its response on a connection that is already open."""

    def __init__(self) -> None:
        self._reader = HeadReader()
        self._body: Framing | None = None
        self._head: Head | None = None

    def receive_head(self, data: bytes) -> Head | None:
        """Add bytes and return the head once it is complete.

        Raises `APIResponseError` if it is not HTTP.
        """
        self._head = self._reader.feed(data)
        if self._head is not None:
            self._body = framing_of(self._head.status, self._head.headers)
        return self._head

    def first_body(self) -> bytes:
        """Return the bytes of the body that arrived with the head."""
        return self.receive_body(self._reader.rest)

    def receive_body(self, data: bytes) -> bytes:
        """Return the bytes of the body among bytes from the wire."""
        if self._body is None:
            raise AssertionError("the head comes first")
        return self._body.feed(data)

    def check(self) -> None:
        """Raise `APIResponseError` if the body broke after the bytes that were returned."""
        if self._body is not None and self._body.broken is not None:
            raise self._body.broken

    def end(self) -> bool:
        """Record the end of the connection; return whether the body is complete."""
        return self._body is not None and self._body.end()

    @property
    def is_complete(self) -> bool:
        return self._body is not None and self._body.is_complete

    @property
    def may_reuse(self) -> bool:
        """Return whether the connection can be used for another request."""
        head = self._head
        if head is None or self._body is None or not self._body.is_reusable:
            return False
        tokens = head.headers.get("connection", "").lower().replace(",", " ").split()
        return head.http_version == "1.1" and "close" not in tokens
