"""Chunks become the completion they are pieces of, in time linear in their text."""

from collections.abc import Mapping
from typing import Final

from poeflow.client.answers import Completion
from poeflow.digest import Json
from poeflow.errors import APIResponseError

MAX_TEXT: Final = 32 * 1024 * 1024
_WHOLE_KEYS: Final = frozenset({"role", "content", "reasoning", "reasoning_content", "tool_calls"})


class Folder:
    """Puts chunks together. `max_text` bounds the characters of text and arguments."""

    def __init__(self, *, request_id: str | None = None, max_text: int = MAX_TEXT) -> None:
        self._request_id = request_id
        self._max_text = max_text
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
                key_of = index if isinstance(index, int) else 0
                folded = self._choices.get(key_of)
                if folded is None:
                    folded = self._choices[key_of] = _FoldedChoice()
                self._size += folded.add(choice)
        if self._size > self._max_text:
            raise APIResponseError(
                f"the answer's text is longer than {self._max_text} characters",
                request_id=self._request_id,
            )

    @property
    def is_empty(self) -> bool:
        return not self._head and not self._choices

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
        self._calls: dict[int, _FoldedCall] = {}
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
        piece = delta.get("content")
        if isinstance(piece, str) and piece:
            self._content.append(piece)
            size += len(piece)
            if len(delta) == 1:
                return size
        piece = delta.get("reasoning_content") or delta.get("reasoning")
        if isinstance(piece, str) and piece:
            self._reasoning.append(piece)
            size += len(piece)
        role = delta.get("role")
        if isinstance(role, str) and role:
            self._role = role
        for key, value in delta.items():
            if key not in _WHOLE_KEYS and value is not None:
                self._extra[key] = value
        return size + self._add_calls(delta.get("tool_calls"))

    def _add_calls(self, pieces: Json) -> int:
        size = 0
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, dict):
                index = piece.get("index")
                key = index if isinstance(index, int) else self._index_of(piece)
                size += self._calls.setdefault(key, _FoldedCall()).add(piece)
        return size

    def _index_of(self, piece: Mapping[str, Json]) -> int:
        """Place a fragment without an index: with its id, else with the last call."""
        last = max(self._calls, default=-1)
        if not piece.get("id"):
            return max(last, 0)
        for index, call in self._calls.items():
            if call.id == piece["id"]:
                return index
        return last + 1

    def message(self) -> dict[str, Json]:
        message: dict[str, Json] = {"role": self._role, "content": "".join(self._content)}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        if self._calls:
            message["tool_calls"] = [call.whole() for _, call in sorted(self._calls.items())]
        return {**message, **self._extra}


class _FoldedCall:
    """One tool call: names and ids come once, arguments in fragments, unknown keys are kept."""

    def __init__(self) -> None:
        self._call: dict[str, Json] = {}
        self._function: dict[str, Json] = {"name": ""}
        self._arguments: list[str] = []

    @property
    def id(self) -> Json:
        return self._call.get("id")

    def add(self, piece: Mapping[str, Json]) -> int:
        size = 0
        for key, value in piece.items():
            if key == "function" and isinstance(value, dict):
                size += self._add_function(value)
            elif key not in ("index", "function") and value is not None:
                self._call[key] = value
        return size

    def _add_function(self, piece: Mapping[str, Json]) -> int:
        size = 0
        for key, value in piece.items():
            if key == "arguments" and isinstance(value, str):
                self._arguments.append(value)
                size += len(value)
            elif key != "arguments" and value:
                self._function[key] = value
        return size

    def whole(self) -> dict[str, Json]:
        function = {**self._function, "arguments": "".join(self._arguments)}
        return {"type": "function", **self._call, "function": function}
