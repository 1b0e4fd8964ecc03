"""Parses a response's body into server-sent events, chunks, or one completion, without I/O."""

import contextlib
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final, Literal

import msgspec

from poeflow.client.answers import Completion, CompletionChunk
from poeflow.client.bounds import MAX_LINES, StreamWork, check_weight
from poeflow.client.failures import (
    POE,
    UNREADABLE,
    Server,
    error_inside,
    holds_error,
    reason_in,
    safe_text,
)
from poeflow.client.finish_reasons import is_failure
from poeflow.client.folding import Folder, TextChunks
from poeflow.client.http.piece_counts import Count, PieceCount
from poeflow.digest import Json, decode_json, with_whole_characters
from poeflow.errors import AnswerTooLargeError, APIResponseError, TruncatedStreamError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.redact import Scrubber

MAX_BODY: Final = 64 * 1024 * 1024
MAX_LINE: Final = 16 * 1024 * 1024
BOM: Final = b"\xef\xbb\xbf"
_BREAK: Final = lazy_pattern(rb"\r\n|\n|\r")
_STEP: Final = 1024 * 1024
_HELD: Final = 16 * 1024
_PACKET: Final = 64
"""Bytes of data that are held to be decompressed again; each packet counts as so many more."""
_GZIP: Final = b"\x1f\x8b"
_BEGINNINGS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")


_CHECKSUMS: Final = ("incorrect data check", "incorrect length check")
"""What zlib says of data that decompress, but not to what the server compressed."""


class Unpacking:
    """Decompresses `content-encoding` incrementally.

    Raises `AnswerTooLargeError` above `limit` decoded bytes: a small body can decompress to a
    huge one. What comes before broken data is returned; then `check` raises. A wrong checksum
    leaves nothing to return: any of it may be wrong.
    """

    def __init__(self, encoding: str, *, limit: int = MAX_BODY) -> None:
        self._limit = limit
        self._size = 0
        self._pieces = PieceCount()
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise APIResponseError(
                f"the answer is compressed with {encoding}, which was not requested"
            )
        self._is_packed = encoding not in ("", "identity")
        self._head = b"" if encoding == "deflate" else None
        self._begin(wbits=47)
        self._is_broken = False

    def _begin(self, wbits: int) -> None:
        self._packed = zlib.decompressobj(wbits=wbits)
        self._replay = _Replay(self._packed)

    def check(self) -> None:
        """Raise `APIResponseError` if the data so far were broken."""
        if self._is_broken:
            raise APIResponseError("the answer's compression is broken")

    def feed(self, data: bytes) -> bytes:
        self._pieces.add(len(data))
        if not self._is_packed:
            return self._counted(data)
        if self._head is not None:
            data = self._head + data
            self._head = data if len(data) < 2 else None
            if self._head is not None:
                return b""
            if not _is_zlib(data):
                self._begin(wbits=-15)
        pieces = [b""]
        while data or len(pieces[-1]) == _STEP:  # after a full step zlib may have more output
            try:
                pieces.append(self._counted(self._packed.decompress(data, _STEP)))
            except zlib.error as error:
                self._is_broken = True
                if str(error).endswith(_CHECKSUMS):
                    self.check()
                pieces += map(self._counted, self._replay.sound_pieces(data))
                break
            tail = self._packed.unconsumed_tail
            used = data[: len(data) - len(tail)] if tail else data
            self._replay.add(used, len(pieces[-1]), self._packed)
            data = tail
            if self._packed.unused_data.startswith(_GZIP):  # another gzip member follows
                data = self._packed.unused_data
                self._begin(wbits=47)
        unpacked = b"".join(pieces)
        if not unpacked:
            self.check()
        return unpacked

    def _counted(self, data: bytes) -> bytes:
        self._size += len(data)
        if self._size > self._limit:
            raise AnswerTooLargeError(f"the answer is larger than {self._limit} bytes")
        return data


class _Replay:
    """Decompresses again what came last, up to a broken byte: zlib drops all of a broken packet.

    It begins at a copy of zlib's state, made once in so many bytes: a copy takes longer than to
    decompress a usual packet.
    """

    def __init__(self, packed: "zlib._Decompress") -> None:
        self._copy(packed)

    def _copy(self, packed: "zlib._Decompress") -> None:
        self._state = packed.copy()
        self._data: list[bytes] = []
        self._held = self._known = 0

    def add(self, data: bytes, made: int, packed: "zlib._Decompress") -> None:
        """Add data that `packed` has decompressed to so many bytes."""
        self._data.append(data)
        self._held += len(data) + _PACKET
        self._known += made
        if self._held > _HELD:
            self._copy(packed)

    def sound_pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what data decompress to before their first broken byte, but what is known."""
        known = self._known
        with contextlib.suppress(zlib.error):
            for one in (*self._data, *(data[at : at + 1] for at in range(len(data)))):
                made = self._state.decompress(one)
                yield made[known:]
                known = max(0, known - len(made))


def _is_zlib(data: bytes) -> bool:
    """Return whether `deflate` data has the standard's zlib header; some servers omit it."""
    return data[0] & 0x0F == 8 and int.from_bytes(data[:2], "big") % 31 == 0


def body_kind(beginning: bytes, content_type: str) -> Literal["stream", "whole"] | None:
    """Return how to read a body, None if more bytes are needed to decide.

    Its beginning decides: proxies change the type, and some servers stream without being asked.
    """
    start = beginning.removeprefix(BOM).lstrip()
    if start.startswith(_BEGINNINGS):
        return "stream"
    if not start or any(name.startswith(start) for name in _BEGINNINGS):
        return None
    is_named = "event-stream" in content_type.lower() and start[:1] not in (b"{", b"[", b"<")
    return "stream" if is_named else "whole"


class ServerEvent(msgspec.Struct, frozen=True):
    """One event. `data` is bytes, so that characters split across reads are joined."""

    data: bytes
    event: str = "message"


class Decoder:
    """Decodes bytes into events as they arrive, as the standard says.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    Lines end with LF, CRLF or CR and have at most `max_line` bytes. `end` returns an event at the
    end of the stream without its blank line, which the standard drops.
    """

    def __init__(self, *, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._event = ""
        self._is_first_line = True
        self._lines = Count(MAX_LINES, "the stream has too many lines")
        self._ended_with_cr = False

    def feed(self, data: bytes) -> list[ServerEvent]:
        """Return the events that `data` completes. Raises `AnswerTooLargeError` over the limit."""
        if self._ended_with_cr and data:
            self._ended_with_cr = False
            data = data.removeprefix(b"\n")
        if b"\r" in data:
            self._ended_with_cr = data.endswith(b"\r")
            lines = _BREAK.split(data)
        else:
            lines = data.split(b"\n")
        if len(lines) == 1:
            self._store(lines[0])
            return []
        if self._rest:
            self._store(lines[0])
            lines[0] = bytes(self._rest)
            self._rest.clear()
        if len(data) > self._max_line:
            self._limit(max(map(len, lines)))
        last = lines.pop()
        events = self._events(lines)
        if last:
            self._store(last)
        return events

    def end(self) -> list[ServerEvent]:
        """Return the last event if the stream ends without its blank line."""
        rest = bytes(self._rest)
        self._rest.clear()
        return self._events([rest, b""])

    def _store(self, piece: bytes) -> None:
        self._rest += piece
        self._limit(len(self._rest))

    def _limit(self, size: int) -> None:
        if size > self._max_line:
            raise AnswerTooLargeError(f"a line of the stream is longer than {self._max_line} bytes")

    def _events(self, lines: list[bytes]) -> list[ServerEvent]:
        events: list[ServerEvent] = []
        self._lines.add(len(lines))
        if self._is_first_line:
            self._is_first_line = False
            lines[0] = lines[0].removeprefix(BOM)
        held, begun = self._data, b""
        for line in lines:  # without calls for the usual ones: an answer has many
            if begun:
                if not line:
                    events.append(ServerEvent(begun, self._event or "message"))
                    self._event, begun = "", b""
                    continue
                held.append(begun)
                self._size, begun = len(begun), b""
            if not held and line[:6] == b"data: " and line[6:]:
                begun = line[6:]
            elif not line:
                if held:
                    data = held[0] if len(held) == 1 else b"\n".join(held)
                    events.append(ServerEvent(data, self._event or "message"))
                    held.clear()
                    self._size = 0
                self._event = ""
            elif line.startswith(b"data:") or line == b"data":
                value = line[6:] if line[5:6] == b" " else line[5:]
                self._size += len(value)
                if self._size > self._max_line:
                    self._limit(self._size)
                held.append(value)
            elif line.startswith(b"event:"):
                self._event = line[6:].decode("utf-8", "replace").removeprefix(" ")
            elif line == b"event":
                self._event = ""
        if begun:
            held.append(begun)
            self._size = len(begun)
        return events


class ChunkReader:
    """Reads chunks from the bytes of an event stream, and joins them to a completion.

    Raises the mapped error for an error event, `APIResponseError` for invalid chunks or a stream
    without any, and at the end `TruncatedStreamError` if neither `[DONE]` nor a finish reason
    came. Chunks go to `chunks`, also those before an error in the same bytes; unless it
    `keeps_chunks` they are only joined. `count` is how many came.
    """

    def __init__(
        self,
        *,
        request_id: str | None,
        scrubber: Scrubber,
        server: Server = POE,
        keeps_chunks: bool = True,
    ) -> None:
        self._decoder = Decoder()
        self._folder = Folder(request_id=request_id)
        self._request_id = request_id
        self._scrubber = scrubber
        self._server = server
        self._effort = StreamWork()
        self._plain = TextChunks()
        self._keeps_chunks = keeps_chunks
        self.chunks: deque[CompletionChunk] = deque()
        self.is_done = False
        self.count = 0

    def feed(self, data: bytes) -> None:
        self._read(self._decoder.feed(data))

    def end(self) -> None:
        """End the stream."""
        if not self.is_done:
            try:
                self._read(self._decoder.end())
            except APIResponseError:
                if self.is_done:
                    raise  # otherwise the stream was cut within its last event
        if not self.is_done and not self.has_answer:
            raise TruncatedStreamError(self.completion(), request_id=self._request_id)
        self.is_done = True

    @property
    def has_begun(self) -> bool:
        return not self._folder.is_empty

    @property
    def has_answer(self) -> bool:
        """Return whether a finish reason came: only `usage` and `[DONE]` may follow."""
        return self._folder.has_finish_reason

    def completion(self) -> Completion:
        return self._folder.completion()

    def _read(self, events: list[ServerEvent]) -> None:
        plain, waiting = self._plain, iter(events)
        while not self.is_done:
            texts: list[str] = []
            event = plain.texts(waiting, texts) if plain.before else next(waiting, None)
            if texts:
                self.count += len(texts)
                self._effort.texts(len(texts))
                self._folder.add_texts(texts)
                if self._keeps_chunks:
                    self.chunks += [CompletionChunk(plain.like_last(text)) for text in texts]
            if event is None:
                break
            for data in _pieces(event.data) if b"\n" in event.data else (event.data,):
                raw = self._added(data, event.event)
                if raw is not None and self._keeps_chunks:
                    self.chunks.append(CompletionChunk(raw))

    def _added(self, data: bytes, name: str) -> dict[str, Json] | None:
        """Add a document of an event, and return it if it is a chunk."""
        if self.is_done:
            return None
        self._effort.event(data, self._folder.progress)
        raw = self._decoded(data, name)
        if raw is not None:
            self._folder.add(raw)
            self._plain.learn(data, raw)
            self.count += 1
        return raw

    def _decoded(self, data: bytes, name: str) -> dict[str, Json] | None:
        """Return a chunk; None for the end mark and other events that are allowed."""
        if name == "ping":
            return None
        is_object = data.startswith(b"{")  # then it is neither blank nor the end
        if not is_object and not data.strip():
            return None
        if not is_object and _is_end(data):
            self.is_done = True
            if not self._folder.has_choices:
                message = "the stream ended without an answer"
                raise APIResponseError(message, request_id=self._request_id)
            return None
        try:
            raw = decode_json(data)
        except UNREADABLE:
            raw = ""
        if name == "error" or holds_error(raw):
            reason: Json = (
                raw if isinstance(raw, dict) else {"message": data.decode(errors="replace")}
            )
            raise error_inside(
                reason, request_id=self._request_id, scrubber=self._scrubber, server=self._server
            )
        if raw is None:
            return None
        if not isinstance(raw, dict):
            raise APIResponseError(
                "an event of the stream is not a chunk", request_id=self._request_id
            )
        _refuse_failed(raw, self._request_id, self._scrubber)
        return raw


def _is_end(data: bytes) -> bool:
    return data.lstrip()[:6].upper() == b"[DONE]"


def _pieces(data: bytes) -> list[bytes]:
    """Return the documents of an event with several lines: one per line without blank lines."""
    try:
        decode_json(data)
    except UNREADABLE:
        return data.split(b"\n")
    return [data]


def whole_completion(
    content: bytes,
    *,
    request_id: str | None,
    scrubber: Scrubber,
    server: Server = POE,
    content_type: str = "",
) -> Completion:
    """Return an unstreamed answer. Raises `APIResponseError` or the error in it.

    An event stream is read too, as some servers always stream.
    """
    if body_kind(content, "") == "stream":
        reader = ChunkReader(
            request_id=request_id, scrubber=scrubber, server=server, keeps_chunks=False
        )
        reader.feed(content)
        reader.end()
        return reader.completion()
    check_weight(content)
    try:
        raw = with_whole_characters(decode_json(content.removeprefix(BOM)))
    except UNREADABLE:
        raise APIResponseError(
            f"the server answered with {_not_json_description(content, content_type, scrubber)}",
            hint="check the base URL",
            request_id=request_id,
        ) from None
    if holds_error(raw):
        raise error_inside(raw, request_id=request_id, scrubber=scrubber, server=server)
    if not isinstance(raw, dict) or not isinstance(raw.get("choices"), list) or not raw["choices"]:
        raise APIResponseError("the answer has no choices", request_id=request_id)
    _refuse_failed(raw, request_id, scrubber)
    return Completion(raw, request_id=request_id)


def _not_json_description(content: bytes, content_type: str, scrubber: Scrubber) -> str:
    start = content.removeprefix(BOM).lstrip()
    if not start:
        return "nothing"
    if start[:1] == b"<":
        return "a web page"
    named = f" ({safe_text(content_type, scrubber)})" if content_type else ""
    return f"something that is not JSON{named}"


def _refuse_failed(raw: Mapping[str, Json], request_id: str | None, scrubber: Scrubber) -> None:
    """Raise `APIResponseError` if the first choice ended because the server failed."""
    choices = raw.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    reason = choice.get("finish_reason") if isinstance(choice, dict) else None
    if isinstance(choice, dict) and isinstance(reason, str) and is_failure(reason):
        reason = safe_text(reason_in(choice.get("error")), scrubber)
        message = "the model ended with an error" + (f": {reason}" if reason else "")
        raise APIResponseError(message, request_id=request_id)
