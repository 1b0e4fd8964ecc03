"""An event stream becomes chunks, and chunks become one completion, without I/O."""

import zlib
from collections.abc import Mapping
from typing import Final

from poeflow.client.answers import Completion, CompletionChunk
from poeflow.client.failures import error_inside
from poeflow.client.sse import Decoder, ServerEvent
from poeflow.digest import Json, decode_json
from poeflow.errors import APIResponseError, TruncatedStreamError
from poeflow.redact import Scrubber

MAX_BODY: Final = 64 * 1024 * 1024
MAX_TEXT: Final = 32 * 1024 * 1024
_STEP: Final = 1024 * 1024
_WHOLE_KEYS: Final = frozenset({"role", "content", "reasoning", "reasoning_content", "tool_calls"})


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
        pieces = []
        try:
            while data:
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


class Folder:
    """Puts chunks together into the completion they are pieces of."""

    def __init__(self, *, request_id: str | None = None) -> None:
        self._request_id = request_id
        self._head: dict[str, Json] = {}
        self._choices: dict[int, _FoldedChoice] = {}
        self._size = 0

    def add(self, raw: Mapping[str, Json]) -> None:
        """Take one chunk in. Raises `APIResponseError` where the text grows past its limit."""
        for key, value in raw.items():
            if key not in ("choices", "object") and value is not None:
                self._head[key] = value
        choices = raw.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                folded = self._choices.setdefault(
                    index if isinstance(index, int) else 0, _FoldedChoice()
                )
                self._size += folded.add(choice)
        if self._size > MAX_TEXT:
            raise APIResponseError(f"the answer's text is longer than {MAX_TEXT} characters")

    @property
    def has_finish_reason(self) -> bool:
        return any(choice.finish_reason for choice in self._choices.values())

    def completion(self) -> Completion:
        """Return what has arrived so far, in the shape of an unstreamed answer."""
        raw: dict[str, Json] = {"object": "chat.completion", **self._head}
        raw["choices"] = [
            {"index": index, "message": choice.message(), "finish_reason": choice.finish_reason}
            for index, choice in sorted(self._choices.items())
        ]
        return Completion(raw, request_id=self._request_id)


class _FoldedChoice:
    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._role = "assistant"
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: dict[int, dict[str, Json]] = {}
        self._extra: dict[str, Json] = {}

    def add(self, choice: Mapping[str, Json]) -> int:
        """Take a piece in and return how much text it held."""
        delta = choice.get("delta")
        size = self._add_delta(delta) if isinstance(delta, dict) else 0
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = reason
        return size

    def _add_delta(self, delta: Mapping[str, Json]) -> int:
        size = 0
        for key, into in (("content", self._content), ("reasoning", self._reasoning)):
            piece = delta.get(key)
            if key == "reasoning":
                piece = delta.get("reasoning_content") or piece
            if isinstance(piece, str) and piece:
                into.append(piece)
                size += len(piece)
        if len(delta) > 1:
            size += self._add_rest(delta)
        elif "tool_calls" in delta:
            size += self._add_calls(delta["tool_calls"])
        return size

    def _add_rest(self, delta: Mapping[str, Json]) -> int:
        role = delta.get("role")
        if isinstance(role, str) and role:
            self._role = role
        for key, value in delta.items():
            if key not in _WHOLE_KEYS and value is not None:
                self._extra[key] = value
        return self._add_calls(delta.get("tool_calls"))

    def _add_calls(self, pieces: Json) -> int:
        size = 0
        for position, piece in enumerate(pieces if isinstance(pieces, list) else ()):
            if isinstance(piece, dict):
                index = piece.get("index")
                key = index if isinstance(index, int) else self._index_of(piece, position)
                size += _merge_call(self._tool_calls.setdefault(key, {}), piece)
        return size

    def _index_of(self, piece: Mapping[str, Json], position: int) -> int:
        """Place a fragment without an index: with its id, else with the last call."""
        for index, call in self._tool_calls.items():
            if piece.get("id") and call.get("id") == piece["id"]:
                return index
        return len(self._tool_calls) if piece.get("id") else max(self._tool_calls, default=position)

    def message(self) -> dict[str, Json]:
        message: dict[str, Json] = {"role": self._role, "content": "".join(self._content)}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._tool_calls:
            message["tool_calls"] = [call for _, call in sorted(self._tool_calls.items())]
        return {**message, **self._extra}


def _object_in(call: dict[str, Json], key: str) -> dict[str, Json]:
    found = call.get(key)
    if not isinstance(found, dict):
        found = call[key] = {"name": "", "arguments": ""}
    return found


def _merge_call(call: dict[str, Json], piece: Mapping[str, Json]) -> int:
    size = 0
    for key, value in piece.items():
        if key == "function" and isinstance(value, dict):
            function = _object_in(call, "function")
            for name, text in value.items():
                if name == "arguments" and isinstance(text, str):
                    function[name] = f"{function.get(name) or ''}{text}"
                    size += len(text)
                elif text:
                    function[name] = text
        elif key != "index" and value is not None:
            call[key] = value
    return size


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
        if not self.is_done and not self._folder.has_finish_reason:
            raise TruncatedStreamError(self.completion(), request_id=self._request_id)
        self.is_done = True

    def completion(self) -> Completion:
        return self._folder.completion()

    def _decoded(self, event: ServerEvent) -> dict[str, Json] | None:
        if event.event == "ping" or not event.data.strip():
            return None
        try:
            raw = decode_json(event.data)
        except ValueError:
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
    except ValueError:
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
