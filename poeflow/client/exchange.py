"""The client's logic without I/O: retries, rate limits, timeouts and reading of responses.

A generator yields the commands `Send`, `Read` and `Wait`; `sync` and `aio` only perform them and
throw errors into it.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Literal, NoReturn, TypeVar

from poeflow import errors
from poeflow.client.answers import (
    Completion,
    CompletionChunk,
    delta_in,
    first_choice_in,
    reasoning_in,
    text_in,
)
from poeflow.client.bounds import check_weight
from poeflow.client.calls import Call, ClientConfig, Delta, Exchange, Retrying
from poeflow.client.failures import UNREADABLE, request_id_of, status_error
from poeflow.client.http.commands import Read, Send, Wait
from poeflow.client.http.wire import Head
from poeflow.client.stream import BOM, ChunkReader, Unpacking, body_kind, whole_completion
from poeflow.clock import spoken
from poeflow.digest import Json, decode_json
from poeflow.errors import APITimeoutError


class Attempt:
    """The time limits of one attempt."""

    def __init__(self, call: Call, config: ClientConfig) -> None:
        timeouts = config.timeouts
        total = timeouts.media if call.is_media else timeouts.total
        self.config = config
        self.call = call
        self._total = call.total if call.total is not None else total
        self._ends = config.clock.monotonic() + self._total
        self._step = timeouts.first if call.streams else self._total
        self._step_ends = self._ends
        self._has_begun = False
        self._paused: float | None = None

    def send(self) -> Exchange[Head]:
        request, timeouts = self.call.request, self.config.timeouts
        connect = min(timeouts.connect, self._total)
        head = min(self._step, self._total)
        began = self.config.clock.monotonic()
        try:
            reply = yield Send(request=request, connect=connect, total=self._total, head=head)
        except TimeoutError:
            self._fail()
        if not isinstance(reply, Head):
            raise AssertionError("sending gives a head")
        self._step_ends = self._step + (began if reply.sent_at is None else reply.sent_at)
        return reply

    def read(self) -> Exchange[bytes]:
        left = min(self._step_ends, self._ends) - self.config.clock.monotonic()
        if left <= 0:
            self._fail()
        try:
            reply = yield Read(left)
        except TimeoutError:
            self._fail()
        if not isinstance(reply, bytes):
            raise AssertionError("reading gives bytes")
        return reply

    def progressed(self) -> None:
        """Restart the progress time limit."""
        if self.call.streams:
            self._has_begun = True
            self._step = self.config.timeouts.progress
            self._step_ends = self.config.clock.monotonic() + self._step

    def pause(self) -> None:
        """Stop the time limits: what the caller does between two chunks does not count."""
        self._paused = self.config.clock.monotonic()

    def resume(self) -> None:
        if self._paused is not None:
            away = self.config.clock.monotonic() - self._paused
            self._ends += away
            self._step_ends += away
            self._paused = None

    def _fail(self) -> NoReturn:
        if self._step >= self._total or self.config.clock.monotonic() >= self._ends:
            message = f"the answer was not complete within {spoken(self._total)}"
        elif self._has_begun:
            message = f"nothing new arrived for {spoken(self._step)}"
        else:
            message = f"no answer began within {spoken(self._step)}"
        raise APITimeoutError(message, hint="raise the timeout, or try again", was_sent=True)


T = TypeVar("T")
_ERROR_BODY: Final = 1024 * 1024
_DRAIN: Final = 0.5
_BEGINNING: Final = 1024
_FAR_AWAY: Final = 7 * 86_400.0


def whole_completion_of(call: Call, config: ClientConfig) -> Exchange[Completion]:
    """Send until there is a whole answer. Streams are joined and may be retried."""
    return _attempts(call, config, _completion)


def opened_stream(call: Call, config: ClientConfig) -> "Exchange[Opened]":
    """Send until the first chunk of a stream arrives; after it nothing is retried."""
    return _attempts(call, config, _first_chunk)


def json_document(call: Call, config: ClientConfig) -> Exchange[Json]:
    """Send until there is a JSON document."""
    return _attempts(call, config, _document)


class Opened:
    """An open stream. `chunks` are those read but not yet returned, if they are kept."""

    def __init__(self, attempt: Attempt, head: Head, *, keeps_chunks: bool = True) -> None:
        self._attempt = attempt
        config = attempt.config
        self.request_id = request_id_of(head.headers, config.scrubber)
        self._content_type = head.headers.get("content-type", "")
        self._unpacking = Unpacking(head.headers.get("content-encoding", ""))
        self._kind: Literal["stream", "whole"] | None = None
        self._waiting = b""
        self._reader = ChunkReader(
            request_id=self.request_id,
            scrubber=config.scrubber,
            server=config.server,
            keeps_chunks=keeps_chunks,
        )
        self.chunks = self._reader.chunks
        self._error: errors.APIError | None = None
        """What ended the stream, to be raised once the chunks before it are handed out."""
        self._whole: Completion | None = None

    @property
    def is_finished(self) -> bool:
        return self._whole is not None or self._reader.is_done

    def completion(self) -> Completion:
        """Return the chunks so far as one completion."""
        return self._whole or self._reader.completion()

    def whole(self) -> Completion:
        """Return the whole answer. Raises `TruncatedStreamError` if it was not read to its end."""
        if self.is_finished or self._reader.has_answer:
            return self.completion()
        raise errors.TruncatedStreamError(self.completion(), request_id=self.request_id)

    def more(self) -> Exchange[None]:
        """Read until there is another chunk, or to the end. Raises an error after the chunks."""
        if self._error is not None:
            raise self._error
        self._attempt.resume()
        if self._kind is None:
            yield from self._begin()
        if self._kind == "stream":
            try:
                yield from self._read_chunks()
            except errors.APIError as error:
                if not self.chunks:
                    raise
                self._error = error
        elif self._whole is None:
            yield from self._read_whole()
        if self.is_finished and not self.chunks:
            yield from _drain()
        self._attempt.pause()

    def _begin(self) -> Exchange[None]:
        """Read until the beginning of the body shows its kind."""
        while self._kind is None:
            data = yield from self._read_bytes()
            self._waiting += data
            self._kind = body_kind(self._waiting, self._content_type)
            if not data or len(self._waiting) > _BEGINNING:
                is_named = "event-stream" in self._content_type.lower()
                self._kind = self._kind or ("stream" if is_named else "whole")

    def _read_chunks(self) -> Exchange[None]:
        while not self.chunks and not self._reader.is_done:
            unpacked, self._waiting = self._waiting, b""
            if not unpacked:
                unpacked = yield from self._read_bytes()
                if not unpacked:
                    self._reader.end()
                    return
            before = self._reader.count
            self._reader.feed(unpacked)
            if self._reader.count != before:
                self._attempt.progressed()

    def _read_bytes(self) -> Exchange[bytes]:
        """Read and unpack more. What breaks after the end of the answer counts as its end."""
        try:
            return (yield from _unpacked(self._attempt, self._unpacking))
        except (errors.APIConnectionError, errors.APIResponseError) as error:
            if self._reader.has_answer:
                return b""
            is_lost = isinstance(error, errors.APIConnectionError) and self._reader.has_begun
            if isinstance(error, errors.APITimeoutError) or not is_lost:
                raise
            raise errors.TruncatedStreamError(
                self.completion(), request_id=self.request_id
            ) from error

    def _read_whole(self) -> Exchange[None]:
        """Read the answer of a server that does not stream, as one chunk."""
        rest = yield from _content(self._attempt, self._unpacking)
        whole = whole_completion(
            self._waiting + rest,
            request_id=self.request_id,
            scrubber=self._attempt.config.scrubber,
            server=self._attempt.config.server,
            content_type=self._content_type,
        )
        choices: list[Json] = [
            {"index": c.index, "delta": dict(c.message.raw), "finish_reason": c.finish_reason}
            for c in whole.choices
        ]
        self._whole = whole
        self.chunks.append(CompletionChunk({**whole.raw, "choices": choices}))


def _attempts(
    call: Call, config: ClientConfig, consume: Callable[[Attempt, Head], Exchange[T]]
) -> Exchange[T]:
    """Send until a response is consumed, or an error cannot be retried."""
    began = config.clock.monotonic()
    number = 1
    while True:
        while wait := _until_sent(call, config):
            yield Wait(wait)
        attempt = Attempt(call, config)
        if call.permit is not None:
            call.permit()
        has_answered = False
        try:
            head = yield from attempt.send()
            now, longest = config.clock.monotonic(), config.policy.max_wait
            config.rate_limiter.learn(head.headers, now, longest=longest)
            if not 200 <= head.status < 300:
                yield from _refuse(attempt, head)
            has_answered = True
            return (yield from consume(attempt, head))
        except errors.APIError as error:
            elapsed = config.clock.monotonic() - began
            again = None
            if not (call.is_media and has_answered):  # an error in an answer is no refusal
                again = config.policy.wait_after(
                    error, attempt=number, elapsed=elapsed, is_media=call.is_media
                )
            _pause(config, error, again)
            if again is None:
                _add_retry_hint(error, config.policy.max_wait)
                raise
            if call.on_progress is not None:
                call.on_progress(Retrying(error, again, number))
        yield Wait(again)
        number += 1


def _until_sent(call: Call, config: ClientConfig) -> float:
    """Return 0 and count a request as sent, or the seconds to wait first."""
    now, limiter = config.clock.monotonic(), config.rate_limiter
    if call.pace is None:
        return limiter.wait(now)
    return limiter.delay(now, 0) or call.pace() or limiter.wait(now)


def _completion(attempt: Attempt, head: Head) -> Exchange[Completion]:
    if not attempt.call.streams:
        content = yield from _content(attempt, _unpacking_of(head))
        config = attempt.config
        return whole_completion(
            content,
            request_id=request_id_of(head.headers, config.scrubber),
            scrubber=config.scrubber,
            server=config.server,
            content_type=head.headers.get("content-type", ""),
        )
    call = attempt.call
    stream = Opened(attempt, head, keeps_chunks=call.on_progress is not None and call.hears_text)
    yield from stream.more()
    while stream.chunks:
        _report_progress(call, stream.chunks)
        stream.chunks.clear()
        yield from stream.more()
    return stream.completion()


def _first_chunk(attempt: Attempt, head: Head) -> Exchange[Opened]:
    stream = Opened(attempt, head)
    yield from stream.more()
    return stream


def _document(attempt: Attempt, head: Head) -> Exchange[Json]:
    content = yield from _content(attempt, _unpacking_of(head))
    check_weight(content)
    try:
        return decode_json(content.removeprefix(BOM))
    except UNREADABLE:
        request_id = request_id_of(head.headers, attempt.config.scrubber)
        message = "the server answered with something that is not JSON"
        raise errors.APIResponseError(message, request_id=request_id) from None


def _refuse(attempt: Attempt, head: Head) -> Exchange[None]:
    content = b""
    try:
        unpacking = Unpacking(head.headers.get("content-encoding", ""), limit=_ERROR_BODY)
        while data := (yield from _unpacked(attempt, unpacking)):
            content += data
    except errors.APIError:
        pass  # the status is enough if the body cannot be read
    now = attempt.config.clock.now()
    scrubber = attempt.config.scrubber
    server = attempt.config.server
    raise status_error(
        head.status, head.headers, content, scrubber=scrubber, now=now, server=server
    )


def _unpacking_of(head: Head) -> Unpacking:
    return Unpacking(head.headers.get("content-encoding", ""))


def _content(attempt: Attempt, unpacking: Unpacking) -> Exchange[bytes]:
    pieces: list[bytes] = []
    while data := (yield from _unpacked(attempt, unpacking)):
        pieces.append(data)
    return b"".join(pieces)


def _unpacked(attempt: Attempt, unpacking: Unpacking) -> Exchange[bytes]:
    """Read and unpack more, b"" at the end. Raises the error of broken data after what is sound."""
    while True:
        unpacking.check()
        data = yield from attempt.read()
        unpacked = unpacking.feed(data) if data else b""
        if unpacked or not data:
            return unpacked


def _drain() -> Exchange[None]:
    """Read what follows the last event, so that the connection can be reused."""
    try:
        for _ in range(4):
            if not (yield Read(_DRAIN)):
                return
    except (errors.APIError, TimeoutError):
        return


def _report_progress(call: Call, chunks: deque[CompletionChunk]) -> None:
    if call.on_progress is None or not call.hears_text:
        return
    text, reasoning = [], []
    for chunk in chunks:
        delta = delta_in(first_choice_in(chunk.raw))
        text.append(text_in(delta.get("content")) or "")
        if len(delta) > 1 or not text[-1]:
            reasoning.append(reasoning_in(delta) or "")
    found = Delta("".join(text), "".join(reasoning))
    if found.text or found.reasoning:
        call.on_progress(found)


def _pause(config: ClientConfig, error: errors.APIError, again: float | None) -> None:
    """Pause all calls to this origin if it reported too many requests."""
    if isinstance(error, errors.RateLimitError):
        wait = again if again is not None else error.retry_after or 0.0
        if wait <= config.policy.max_wait:
            config.rate_limiter.pause(config.clock.monotonic() + wait)


def _add_retry_hint(error: errors.APIError, longest: float) -> None:
    asked = error.retry_after if isinstance(error, errors.APIStatusError) else None
    if asked is not None and asked > longest:
        when = f"in {spoken(asked)}" if asked < _FAR_AWAY else "much later"
        error.hint = f"the server asks to come back {when}"
