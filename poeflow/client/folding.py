"""Joins the chunks of a stream to a completion, in time linear in their text."""

from collections.abc import Iterator, Mapping, Sized
from typing import Final, NoReturn, Protocol, TypeVar

import msgspec

from poeflow.client.answers import (
    Completion,
    CompletionChunk,
    arguments_in,
    delta_in,
    reasoning_in,
    refusal_in,
    text_in,
    whole_number,
)
from poeflow.client.bounds import MAX_CALLS, MAX_CHOICES, MAX_KEYS
from poeflow.client.http.piece_counts import too_much
from poeflow.digest import Json, decode_json, mended, with_whole_characters
from poeflow.errors import AnswerTooLargeError
from poeflow.lazy_pattern import lazy_pattern

MAX_TEXT: Final = 32 * 1024 * 1024
_LONG: Final = 1024 * 1024
_WHOLE_KEYS: Final = frozenset(
    {"role", "content", "reasoning", "reasoning_content", "thinking", "refusal", "tool_calls"}
)
_CONTENT: Final = lazy_pattern(rb'"content"\s*:\s*("(?:[^"\\]|\\.)*")')
_EMPTY_KEYS: Final = frozenset({"finish_reason", "logprobs"})
"""Keys of a choice that only adds text, besides its index and the delta: they are null."""
_MANY_PIECES: Final = 256
_MOST_MISSES: Final = 20
"""After so many chunks that no other was like, none is remembered: each differs in more."""
_literal: Final = msgspec.json.Decoder(str)
_NOT_HEAD: Final = frozenset({"choices", "object"})
_PLACED_KEYS: Final = frozenset({"index", "delta", "message", "finish_reason", "logprobs", "usage"})


class Folder:
    """Joins chunks. `max_text` limits the characters of text and arguments."""

    def __init__(self, *, request_id: str | None = None, max_text: int = MAX_TEXT) -> None:
        self._request_id = request_id
        self._max_text = max_text
        self._head: dict[str, Json] = {}
        self._choices: dict[int, _FoldedChoice] = {}
        self._size = 0
        self.progress = 0
        """A number that grows with the answer's text, arguments and finish reasons."""

    def add(self, raw: Mapping[str, Json]) -> None:
        """Add one chunk. Raises `AnswerTooLargeError` if the text exceeds the limit."""
        for key, value in raw.items():
            if value is not None and key not in _NOT_HEAD and value != {}:
                self._head[key] = value
        if len(self._head) >= MAX_KEYS:
            raise _too_many(MAX_KEYS, "keys")
        choices = raw.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                index = choice.get("index")
                key_of = 0 if index == 0 else whole_number(index) or 0
                folded = self._choices.get(key_of)
                if folded is None:
                    if len(self._choices) >= MAX_CHOICES:
                        raise _too_many(MAX_CHOICES, "choices")
                    folded = self._choices[key_of] = _FoldedChoice()
                had_reason = folded.finish_reason is not None
                size = folded.add(choice)
                self._size += size
                self.progress += size + (folded.finish_reason is not None) - had_reason
                if choice.get("usage"):  # some servers put it there
                    self._head["usage"] = choice["usage"]
        if self._size > self._max_text:
            self._refuse_size()

    def add_texts(self, texts: list[str]) -> None:
        """Add chunks that are like the last but for their texts, in the first choice."""
        size = self._choices[0].add_texts(texts)
        self._size += size
        self.progress += size
        if self._size > self._max_text:
            self._refuse_size()

    def _refuse_size(self) -> NoReturn:
        raise AnswerTooLargeError(
            f"the answer's text is longer than {self._max_text} characters",
            request_id=self._request_id,
        )

    @property
    def is_empty(self) -> bool:
        return not self._head and not self._choices

    @property
    def has_choices(self) -> bool:
        return bool(self._choices)

    @property
    def has_finish_reason(self) -> bool:
        return any(choice.finish_reason for choice in self._choices.values())

    def completion(self) -> Completion:
        """Return the chunks so far in the form of an unstreamed answer."""
        raw: dict[str, Json] = {"object": "chat.completion", **self._head}
        raw["choices"] = [choice.whole(index) for index, choice in sorted(self._choices.items())]
        whole = with_whole_characters(raw) if self._size < _LONG else mended(raw)
        return Completion(whole if isinstance(whole, dict) else raw, request_id=self._request_id)


class _Event(Protocol):
    """An event of a stream, with its name."""

    @property
    def data(self) -> bytes: ...

    @property
    def event(self) -> str: ...


EventT = TypeVar("EventT", bound=_Event)


class TextChunks:
    """Recognises chunks that only add text, which most do, without decoding them whole.

    Such a chunk has the same bytes as the one before it but for the text.
    """

    def __init__(self) -> None:
        self._raw: Mapping[str, Json] = {}
        self._choice: Mapping[str, Json] = {}
        self.before = b""
        """What a chunk that is like the last begins with; empty if none can be."""
        self._after = b""
        self._misses = 0

    def texts(self, events: Iterator[EventT], found: list[str]) -> EventT | None:
        """Add the texts of the next events to `found`, as long as each is like the last chunk.

        Return the first that is not, or has no text, None if there is none.
        """
        before, after = self.before, self._after
        begin, end = len(before) - 1, 1 - len(after) or None
        for event in events:
            data = event.data
            if not data.startswith(before) or not data.endswith(after):
                return event
            try:  # where both share a quote, what is left is no text
                text = _literal.decode(data[begin:end])
            except (msgspec.DecodeError, UnicodeDecodeError):
                return event
            if not text or event.event != "message":
                return event
            self._misses = 0
            found.append(text)
        return None

    def learn(self, data: bytes, raw: Mapping[str, Json]) -> None:
        """Take a chunk as the pattern of those that follow, or forget the last if it has more."""
        self.before = self._after = b""
        is_tried = b'"content"' in data and self._misses < _MOST_MISSES
        choice = _only_text(raw) if is_tried else None
        found = [] if choice is None else list(_CONTENT.finditer(data))
        if choice is None or len(found) != 1:
            return
        if choice["delta"] == {"content": _decoded(found[0][1])}:
            self._misses += 1
            self._raw, self._choice = raw, choice
            self.before, self._after = data[: found[0].start(1) + 1], data[found[0].end(1) - 1 :]

    def like_last(self, text: str) -> dict[str, Json]:
        """Return the chunk that is like the last, with this text."""
        return {**self._raw, "choices": [{**self._choice, "delta": {"content": text}}]}


def _decoded(literal: bytes) -> str | None:
    try:
        return _literal.decode(literal)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _only_text(raw: Mapping[str, Json]) -> Mapping[str, Json] | None:
    """Return the choice of a chunk that has one and adds nothing but text to it, else None."""
    choices = raw.get("choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(delta, dict) or delta.keys() != {"content"}:
        return None
    rest = {key: value for key, value in choice.items() if key not in ("index", "delta")}
    is_plain = rest.keys() <= _EMPTY_KEYS and not any(rest.values()) and choice.get("index") == 0
    return choice if is_plain else None


class TextJoiner:
    """Joins surrogate halves in text pieces: a high half at the end waits for the next piece."""

    def __init__(self) -> None:
        self._half = ""

    def text_of(self, chunk: CompletionChunk) -> str:
        """Return the complete characters that a chunk adds to the first choice."""
        choices = chunk.choices
        return self.whole(choices[0].delta.content or "") if choices else ""

    def whole(self, piece: str) -> str:
        """Return a piece with the waiting half before it, without a half at its end."""
        text = self._half + piece
        self._half = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
        return str(with_whole_characters(text[: len(text) - len(self._half)]))

    def rest(self) -> str:
        """Return U+FFFD if a half is still waiting, else an empty text."""
        half, self._half = self._half, ""
        return str(with_whole_characters(half))


class _Pieces:
    """A text in pieces. Many are joined to one: small ones leave holes in the memory they used."""

    def __init__(self) -> None:
        self._joined: list[str] = []
        self._last: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._last or self._joined)

    def add(self, *pieces: str) -> None:
        self._last += pieces
        if len(self._last) >= _MANY_PIECES:
            self._joined.append("".join(self._last))
            self._last.clear()

    def whole(self) -> str:
        return "".join((*self._joined, *self._last))


class _FoldedChoice:
    def __init__(self) -> None:
        self.finish_reason: str | None = None
        self._role = "assistant"
        self._content = _Pieces()
        self._reasoning = _Pieces()
        self._refusal = _Pieces()
        self._calls = _FoldedCalls()
        self._extra: dict[str, Json] = {}
        self._beside: dict[str, Json] = {}
        self._logprobs: dict[str, Json] = {}

    def add(self, choice: Mapping[str, Json]) -> int:
        """Add a piece and return the length of its text."""
        delta, size = choice.get("delta"), 0
        if delta and isinstance(delta, dict):  # as almost always
            size = self._add_delta(delta)
        elif "message" in choice or "text" in choice:
            is_again = not delta and choice.get("message") and self._has_begun
            size = 0 if is_again else self._add_delta(delta_in(choice))
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason:
            self.finish_reason = reason
        if choice.get("logprobs") is not None or not choice.keys() <= _PLACED_KEYS:
            self._add_beside(choice)
        return size

    def add_texts(self, texts: list[str]) -> int:
        self._content.add(*texts)
        return sum(map(len, texts))

    @property
    def _has_begun(self) -> bool:
        """Return whether pieces have arrived; a whole message after them would repeat them."""
        return bool(self._content or self._reasoning or self._refusal or self._calls.in_order)

    def _add_delta(self, delta: Mapping[str, Json]) -> int:
        size = 0
        piece = delta.get("content")
        if isinstance(piece, str) and piece and len(delta) == 1:
            self._content.add(piece)
            return len(piece)
        for pieces, found in (
            (self._content, text_in(piece)),
            (self._reasoning, reasoning_in(delta)),
            (self._refusal, refusal_in(delta)),
        ):
            if found:
                pieces.add(found)
                size += len(found)
        role = delta.get("role")
        if isinstance(role, str) and role:
            self._role = role
        for key, value in delta.items():
            if key not in _WHOLE_KEYS and value is not None:
                _add_to(self._extra, key, value)
                _limit(self._extra, MAX_KEYS, "keys")
        calls = delta.get("tool_calls")
        return size + self._calls.add(calls) if calls else size

    def _add_beside(self, choice: Mapping[str, Json]) -> None:
        """Store the keys beside the delta: the last value of each, but all logprobs."""
        odds = choice.get("logprobs")
        for key, value in choice.items():
            if key not in _PLACED_KEYS and value is not None:
                self._beside[key] = value
        for key, value in odds.items() if isinstance(odds, dict) else ():
            if value is not None:
                _add_to(self._logprobs, key, value)
        for stored in (self._beside, self._logprobs):
            _limit(stored, MAX_KEYS, "keys")

    def whole(self, index: int) -> dict[str, Json]:
        """Return the choice in the form of an unstreamed answer."""
        message: dict[str, Json] = {"role": self._role, "content": self._content.whole()}
        if self._reasoning:
            message["reasoning_content"] = self._reasoning.whole()
        if self._refusal:
            message["refusal"] = self._refusal.whole()
        if self._calls.in_order:
            message["tool_calls"] = [call.whole() for call in self._calls.in_order]
        found: dict[str, Json] = {"index": index, "message": {**message, **self._extra}}
        found["finish_reason"] = self.finish_reason
        if self._logprobs:
            found["logprobs"] = self._logprobs
        return {**found, **self._beside}


def _limit(stored: Sized, limit: int, name: str) -> None:
    """Raise `AnswerTooLargeError` if there are more than `limit` items."""
    if len(stored) >= limit:
        raise _too_many(limit, name)


def _too_many(limit: int, name: str) -> AnswerTooLargeError:
    return too_much(f"the answer has more than {limit:,} {name}")


def _add_to(stored: dict[str, Json], key: str, value: Json) -> None:
    """Store a value under its key; lists in pieces are joined."""
    before = stored.get(key)
    if isinstance(before, list) and isinstance(value, list):
        before.extend(value)
    else:
        stored[key] = list(value) if isinstance(value, list) else value


class _FoldedCalls:
    """The tool calls of one message, distinguished by index, id or name."""

    def __init__(self) -> None:
        self._calls: list[_FoldedCall] = []
        self._at: dict[int, _FoldedCall] = {}
        self._by_id: dict[tuple[int, str], _FoldedCall] = {}
        self._index_of_id: dict[str, int] = {}
        self._last = -1

    @property
    def in_order(self) -> "list[_FoldedCall]":
        return sorted(self._calls, key=lambda call: call.index)

    def add(self, pieces: Json) -> int:
        size = 0
        for piece in pieces if isinstance(pieces, list) else ():
            if isinstance(piece, dict):
                size += self._call_of(piece).add(piece)
        return size

    def _call_of(self, piece: Mapping[str, Json]) -> "_FoldedCall":
        """Return the call that a fragment continues, or a new one.

        Some servers number every call 0, or none: then a new id or function begins a new call.
        """
        index = whole_number(piece.get("index"))
        if index is None:
            index = self._index_of(piece)
        self._last = max(self._last, index)
        call = self._at.get(index)
        if call is None or call.is_followed_by(piece):
            known = self._by_id.get((index, str(piece.get("id") or "")))
            call = self._at[index] = known or _FoldedCall(index)
            if known is None:
                _limit(self._calls, MAX_CALLS, "tool calls")
                self._calls.append(call)
        if piece.get("id"):
            self._by_id[index, str(piece["id"])] = call
            self._index_of_id.setdefault(str(piece["id"]), index)
        return call

    def _index_of(self, piece: Mapping[str, Json]) -> int:
        """Return the index of a fragment without one: by its id, else that of the last call."""
        if not piece.get("id"):
            return max(self._last, 0)
        return self._index_of_id.get(str(piece["id"]), self._last + 1)


class _FoldedCall:
    """One tool call: name and id come once, arguments in fragments; unknown keys are stored."""

    def __init__(self, index: int) -> None:
        self.index = index
        self._call: dict[str, Json] = {}
        self._function: dict[str, Json] = {"name": ""}
        self._arguments: list[str] = []
        self._has_placeholder = False

    @property
    def id(self) -> Json:
        return self._call.get("id")

    def is_followed_by(self, piece: Mapping[str, Json]) -> bool:
        """Return whether a fragment at this call's index belongs to another call.

        It has another id, or no id and another function, or both calls are complete.
        """
        if piece.get("id"):
            return self.id is not None and piece["id"] != self.id
        function = piece.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not name or not self._function["name"]:
            return False
        arguments = arguments_in(function.get("arguments"))
        return name != self._function["name"] or (
            len(self._arguments) == 1 and _is_object(arguments) and _is_object(self._arguments[0])
        )

    def add(self, piece: Mapping[str, Json]) -> int:
        size = 0
        for key, value in piece.items():
            if key == "function" and isinstance(value, dict):
                size += self._add_function(value)
            elif key not in ("index", "function") and value is not None and (value or key != "id"):
                self._call[key] = value
        _limit(self._call, MAX_KEYS, "keys")
        return size

    def _add_function(self, piece: Mapping[str, Json]) -> int:
        size = 0
        for key, value in piece.items():
            if key == "arguments":
                if value == {}:  # all arguments, or sent by some servers before the fragments
                    self._has_placeholder = True
                elif text := arguments_in(value):
                    self._arguments.append(text)
                    size += len(text)
            elif value:
                self._function[key] = value
        _limit(self._function, MAX_KEYS, "keys")
        return size

    def whole(self) -> dict[str, Json]:
        arguments = "".join(self._arguments) or ("{}" if self._has_placeholder else "")
        function = {**self._function, "arguments": arguments}
        return {"type": "function", **self._call, "function": function}


def _is_object(text: str) -> bool:
    """Return whether a call's arguments are complete."""
    try:
        return text.startswith("{") and isinstance(decode_json(text.encode()), dict)
    except (ValueError, RecursionError):
        return False
