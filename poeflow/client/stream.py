"""A response's body becomes chunks or one completion, without I/O."""

import zlib
from collections.abc import Mapping
from typing import Final

from poeflow.client.answers import Completion, CompletionChunk
from poeflow.client.failures import UNREADABLE, error_inside
from poeflow.client.folding import Folder
from poeflow.client.sse import Decoder, ServerEvent
from poeflow.digest import Json, decode_json
from poeflow.errors import APIResponseError, TruncatedStreamError
from poeflow.redact import Scrubber

MAX_BODY: Final = 64 * 1024 * 1024
_STEP: Final = 1024 * 1024


class Unpacking:
    """Undoes `content-encoding` as bytes come, a bounded step at a time.

    Raises `APIResponseError` above `limit` decoded bytes: a small body can hold a huge one.
    """

    def __init__(self, encoding: str, *, limit: int = MAX_BODY) -> None:
        self._limit = limit
        self._size = 0
        encoding = encoding.strip().lower()
        if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise APIResponseError(f"the answer is packed with {encoding}, which was not asked for")
        is_packed = encoding not in ("", "identity")
        self._packed = zlib.decompressobj(wbits=47) if is_packed else None

    def feed(self, data: bytes) -> bytes:
        if self._packed is None:
            return self._counted(data)
        pieces = [b""]
        try:
            while data or len(pieces[-1]) == _STEP:  # a full step may have left some inside zlib
                pieces.append(self._counted(self._packed.decompress(data, _STEP)))
                data = self._packed.unconsumed_tail
        except zlib.error:
            raise APIResponseError("the answer's compression is broken") from None
        return b"".join(pieces)

    def _counted(self, data: bytes) -> bytes:
        self._size += len(data)
        if self._size > self._limit:
            raise APIResponseError(f"the answer is larger than {self._limit} bytes")
        return data


class ChunkReader:
    """Turns the bytes of an open event stream into chunks, folding them on the way.

    Raises the mapped error for an error event, `APIResponseError` for what is no chunk, and at
    the end `TruncatedStreamError` where neither `[DONE]` nor a finish reason came.
    """

    def __init__(self, *, encoding: str, request_id: str | None, scrubber: Scrubber) -> None:
        self._unpacking = Unpacking(encoding)
        self._decoder = Decoder()
        self._folder = Folder(request_id=request_id)
        self._request_id = request_id
        self._scrubber = scrubber
        self.is_done = False

    def feed(self, data: bytes) -> list[CompletionChunk]:
        chunks: list[CompletionChunk] = []
        for event in self._decoder.feed(self._unpacking.feed(data)):
            if self.is_done:
                break
            if event.data.startswith(b"[DONE]"):
                self.is_done = True
                break
            raw = self._decoded(event)
            if raw is not None:
                self._folder.add(raw)
                chunks.append(CompletionChunk(raw))
        return chunks

    def end(self) -> None:
        """Say that no more bytes will come."""
        if not self.is_done and not self.has_answer:
            raise TruncatedStreamError(self.completion(), request_id=self._request_id)
        self.is_done = True

    @property
    def has_begun(self) -> bool:
        return not self._folder.is_empty

    @property
    def has_answer(self) -> bool:
        """Whether a finish reason came: what may follow is only `usage` and `[DONE]`."""
        return self._folder.has_finish_reason

    def completion(self) -> Completion:
        return self._folder.completion()

    def _decoded(self, event: ServerEvent) -> dict[str, Json] | None:
        if event.event == "ping" or not event.data.strip():
            return None
        try:
            raw = decode_json(event.data)
        except UNREADABLE:
            raw = None
        if event.event == "error" or (isinstance(raw, dict) and raw.get("error")):
            told: Json = (
                raw if isinstance(raw, dict) else {"message": event.data.decode(errors="replace")}
            )
            raise error_inside(told, request_id=self._request_id, scrubber=self._scrubber)
        if not isinstance(raw, dict):
            raise APIResponseError(
                "the stream holds something that is no chunk", request_id=self._request_id
            )
        if _finish_of(raw) == "error":
            raise APIResponseError("the model ended with an error", request_id=self._request_id)
        return raw


def whole_completion(content: bytes, *, request_id: str | None, scrubber: Scrubber) -> Completion:
    """Return an unstreamed answer. Raises `APIResponseError` or the error it holds."""
    try:
        raw = decode_json(content)
    except UNREADABLE:
        told = "a web page" if content.lstrip()[:1] == b"<" else "something that is not JSON"
        raise APIResponseError(
            f"the server answered with {told}", hint="check the base URL", request_id=request_id
        ) from None
    if isinstance(raw, dict) and raw.get("error"):
        raise error_inside(raw, request_id=request_id, scrubber=scrubber)
    if not isinstance(raw, dict) or not isinstance(raw.get("choices"), list) or not raw["choices"]:
        raise APIResponseError("the answer has no choices", request_id=request_id)
    completion = Completion(raw, request_id=request_id)
    if completion.finish_reason == "error":
        raise APIResponseError("the model ended with an error", request_id=request_id)
    return completion


def _finish_of(raw: Mapping[str, Json]) -> Json:
    choices = raw.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return choices[0].get("finish_reason")
    return None
