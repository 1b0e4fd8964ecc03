"""One body of client logic: a call becomes commands for whoever does the I/O.

A generator yields `Send`, `Read` and `Wait`; `sync` and `aio` only drive it and throw in what
went wrong. Retries, pacing, clocks and the reading of answers are decided here.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from poeflow import errors
from poeflow.client.answers import Completion, CompletionChunk
from poeflow.client.attempt import Attempt
from poeflow.client.commands import Call, Conduct, Exchange, Read, Wait
from poeflow.client.failures import UNREADABLE, request_id_of, status_error
from poeflow.client.heads import Head
from poeflow.client.progress import Delta, Retrying
from poeflow.client.stream import ChunkReader, Unpacking, whole_completion
from poeflow.digest import Json, decode_json
from poeflow.durations import spoken

T = TypeVar("T")
_ERROR_BODY: Final = 1024 * 1024
_DRAIN: Final = 0.5
_FAR_AWAY: Final = 7 * 86_400.0


def completed(call: Call, conduct: Conduct) -> Exchange[Completion]:
    """Ask until there is a whole answer. Streams are folded and may be asked for again."""
    return (yield from _attempts(call, conduct, _completion))


def opened(call: Call, conduct: Conduct) -> "Exchange[Opened]":
    """Ask until the first chunk of a stream is there; from then on nothing is tried again."""
    return (yield from _attempts(call, conduct, _first_chunk))


def fetched(call: Call, conduct: Conduct) -> Exchange[Json]:
    """Ask until there is a JSON document."""
    return (yield from _attempts(call, conduct, _document))


class Opened:
    """A stream under way. `chunks` are those read and not yet handed out."""

    def __init__(self, attempt: Attempt, head: Head) -> None:
        self.chunks: deque[CompletionChunk] = deque()
        self._attempt = attempt
        scrubber = attempt.conduct.scrubber
        self.request_id = request_id_of(head.headers, scrubber)
        encoding = head.headers.get("content-encoding", "")
        self._is_stream = "text/event-stream" in head.headers.get("content-type", "")
        self._encoding = encoding
        self._reader = ChunkReader(encoding=encoding, request_id=self.request_id, scrubber=scrubber)
        self._whole: Completion | None = None

    @property
    def is_finished(self) -> bool:
        return self._whole is not None or self._reader.is_done

    def completion(self) -> Completion:
        """Return what has arrived so far as one completion."""
        return self._whole or self._reader.completion()

    def more(self) -> Exchange[None]:
        """Read until there is another chunk, or all is read."""
        if not self.is_finished:
            yield from self._read_chunks() if self._is_stream else self._read_whole()
        if self.is_finished and not self.chunks:
            yield from _drain()

    def _read_chunks(self) -> Exchange[None]:
        while not self.chunks and not self.is_finished:
            data = yield from self._next()
            if not data:
                self._reader.end()
                return
            self.chunks.extend(self._reader.feed(data))
            if self.chunks:
                self._attempt.progressed()

    def _next(self) -> Exchange[bytes]:
        """Read on. A connection that breaks after the answer's end is its end."""
        try:
            return (yield from self._attempt.read())
        except errors.APIConnectionError as error:
            if self._reader.has_answer:
                return b""
            if isinstance(error, errors.APITimeoutError) or not self._reader.has_begun:
                raise
            raise errors.TruncatedStreamError(
                self.completion(), request_id=self.request_id
            ) from error

    def _read_whole(self) -> Exchange[None]:
        """Take the answer of a server that does not stream, as one chunk."""
        content = yield from _content(self._attempt, self._encoding)
        scrubber = self._attempt.conduct.scrubber
        whole = whole_completion(content, request_id=self.request_id, scrubber=scrubber)
        choices: list[Json] = [
            {"index": c.index, "delta": dict(c.message.raw), "finish_reason": c.finish_reason}
            for c in whole.choices
        ]
        self._whole = whole
        self.chunks.append(CompletionChunk({**whole.raw, "choices": choices}))


def _attempts(
    call: Call, conduct: Conduct, consume: Callable[[Attempt, Head], Exchange[T]]
) -> Exchange[T]:
    """Send until a response was consumed, or the failure is one that stays."""
    began = conduct.clock.monotonic()
    number = 1
    while True:
        while wait := conduct.pace.wait(conduct.clock.monotonic()):
            yield Wait(wait)
        attempt = Attempt(call, conduct)
        if call.permit is not None:
            call.permit()
        try:
            head = yield from attempt.send()
            now, longest = conduct.clock.monotonic(), conduct.policy.max_wait
            conduct.pace.learn(head.headers, now, longest=longest)
            if head.status != 200:
                yield from _refuse(attempt, head)
            return (yield from consume(attempt, head))
        except errors.APIError as error:
            elapsed = conduct.clock.monotonic() - began
            again = conduct.policy.wait_after(
                error, attempt=number, elapsed=elapsed, is_media=call.is_media
            )
            _pause(conduct, error, again)
            if again is None:
                _say_when(error, conduct.policy.max_wait)
                raise
            if call.on_progress is not None:
                call.on_progress(Retrying(error, again, number))
        yield Wait(again)
        number += 1


def _completion(attempt: Attempt, head: Head) -> Exchange[Completion]:
    if not attempt.call.streams:
        content = yield from _content(attempt, head.headers.get("content-encoding", ""))
        scrubber = attempt.conduct.scrubber
        request_id = request_id_of(head.headers, scrubber)
        return whole_completion(content, request_id=request_id, scrubber=scrubber)
    stream = Opened(attempt, head)
    yield from stream.more()
    while stream.chunks:
        _tell(attempt.call, stream.chunks)
        stream.chunks.clear()
        yield from stream.more()
    return stream.completion()


def _first_chunk(attempt: Attempt, head: Head) -> Exchange[Opened]:
    stream = Opened(attempt, head)
    yield from stream.more()
    return stream


def _document(attempt: Attempt, head: Head) -> Exchange[Json]:
    content = yield from _content(attempt, head.headers.get("content-encoding", ""))
    try:
        return decode_json(content)
    except UNREADABLE:
        request_id = request_id_of(head.headers, attempt.conduct.scrubber)
        message = "the server answered with something that is not JSON"
        raise errors.APIResponseError(message, request_id=request_id) from None


def _refuse(attempt: Attempt, head: Head) -> Exchange[None]:
    content = b""
    try:
        unpacking = Unpacking(head.headers.get("content-encoding", ""), limit=_ERROR_BODY)
        while data := (yield from attempt.read()):
            content += unpacking.feed(data)
    except errors.APIError:
        pass  # the status says enough, whatever became of the body
    now = attempt.conduct.clock.now()
    scrubber = attempt.conduct.scrubber
    raise status_error(head.status, head.headers, content, scrubber=scrubber, now=now)


def _content(attempt: Attempt, encoding: str) -> Exchange[bytes]:
    unpacking = Unpacking(encoding)
    pieces: list[bytes] = []
    while data := (yield from attempt.read()):
        pieces.append(unpacking.feed(data))
    return b"".join(pieces)


def _drain() -> Exchange[None]:
    """Read what follows the last event, so that the connection can serve again."""
    try:
        for _ in range(4):
            if not (yield Read(_DRAIN)):
                return
    except (errors.APIError, TimeoutError):
        return


def _tell(call: Call, chunks: deque[CompletionChunk]) -> None:
    if call.on_progress is None:
        return
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices[:1]]
    text = "".join(delta.content or "" for delta in deltas)
    reasoning = "".join(delta.reasoning or "" for delta in deltas)
    if text or reasoning:
        call.on_progress(Delta(text, reasoning))


def _pause(conduct: Conduct, error: errors.APIError, again: float | None) -> None:
    """Hold every call of this origin back where it said that it is too much."""
    if isinstance(error, errors.RateLimitError):
        wait = again if again is not None else error.retry_after or 0.0
        if wait <= conduct.policy.max_wait:
            conduct.pace.pause(conduct.clock.monotonic() + wait)


def _say_when(error: errors.APIError, longest: float) -> None:
    asked = error.retry_after if isinstance(error, errors.APIStatusError) else None
    if asked is not None and asked > longest:
        when = f"in {spoken(asked)}" if asked < _FAR_AWAY else "much later"
        error.hint = f"the server asks to come back {when}"
