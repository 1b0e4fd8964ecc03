"""One request and its response on one connection, without I/O: what to write, when to receive."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar

from poeflow.client.direct import connection_error, cut_short
from poeflow.client.wire import Head, Talk, WireRequest
from poeflow.clock import Clock
from poeflow.errors import APITimeoutError, UsageError

T = TypeVar("T")
READ_SIZE: Final = 256 * 1024


class LostError(Exception):
    """A connection ended before one byte of the response came."""


@dataclass(frozen=True, slots=True)
class Write:
    """Send all of `data` within `timeout` seconds."""

    data: bytes
    timeout: float


@dataclass(frozen=True, slots=True)
class Receive:
    """Give back what comes within `timeout` seconds, b"" at the end."""

    timeout: float


Steps: TypeAlias = Generator[Write | Receive, bytes, T]


class Conversation:
    """The steps of one request.

    They raise `APIConnectionError`, `APITimeoutError` where sending took too long, and
    `TimeoutError` where the response did.
    """

    def __init__(self, request: WireRequest, clock: Clock) -> None:
        self._request = request
        self._clock = clock
        self._talk = Talk(request)
        self._first = b""

    @property
    def is_complete(self) -> bool:
        return self._talk.is_complete

    @property
    def may_reuse(self) -> bool:
        return self._talk.may_reuse

    def begin(self, *, total: float, head: float) -> Steps[Head]:
        """Send the request and return the response's head. Raises also `LostError`."""
        failure = yield from self._write(total)
        ends = self._clock.monotonic() + head
        has_begun = False
        while True:
            try:
                data = yield Receive(ends - self._clock.monotonic())
            except TimeoutError:
                raise
            except OSError as error:
                if not has_begun:
                    raise LostError from error
                raise connection_error(error, self._request.origin, was_sent=True) from None
            found = self._talk.receive_head(data)
            if found is not None:
                self._first = self._talk.first_body()
                return found
            if not data and not has_begun:
                raise LostError from failure
            if not data:
                raise cut_short(self._request.origin)
            has_begun = True

    def more(self, timeout: float) -> Steps[bytes]:
        """Return the next bytes of the body, b"" at its end."""
        if self._first:
            first, self._first = self._first, b""
            return first
        while not self._talk.is_complete:
            try:
                data = yield Receive(timeout)
            except TimeoutError:
                raise
            except OSError as error:
                raise connection_error(error, self._request.origin, was_sent=True) from None
            if not data and not self._talk.end():
                raise cut_short(self._request.origin)
            if data and (body := self._talk.receive_body(data)):
                return body
        return b""

    def _write(self, total: float) -> Steps[OSError | None]:
        """Send it all; where the server hangs up early its answer may still be there."""
        ends = self._clock.monotonic() + total
        waiting = self._head_bytes()
        try:
            for piece in self._request.body.pieces():
                if len(waiting) + len(piece) <= READ_SIZE:
                    waiting += piece
                    continue
                yield Write(waiting, ends - self._clock.monotonic())
                waiting = piece
            yield Write(waiting, ends - self._clock.monotonic())
        except TimeoutError:
            message = "the request could not be sent in time"
            raise APITimeoutError(message, hint="raise the timeout, or attach less") from None
        except OSError as error:
            return error
        return None

    def _head_bytes(self) -> bytes:
        try:
            return self._talk.head_bytes()
        except ValueError as error:
            raise UsageError(str(error), hint="check extra_headers and extra_query") from None
