"""One request and its response on one connection, without I/O: what to write, when to receive."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar

from poeflow.client.bounds import Pieces
from poeflow.client.http.connections import connection_error, cut_short
from poeflow.client.http.heads import Head
from poeflow.client.http.wire import Talk, WireRequest
from poeflow.clock import Clock
from poeflow.errors import APITimeoutError, UsageError

T = TypeVar("T")
READ_SIZE: Final = 256 * 1024


class LostError(Exception):
    """A connection ended before one byte of the response came."""

    def __init__(self, *, was_sent: bool) -> None:
        super().__init__()
        self.was_sent = was_sent


@dataclass(frozen=True, slots=True)
class Write:
    """Send all of `data` within `timeout` seconds; what arrives meanwhile may be given back.

    `is_last` where nothing follows, so that there is no need to look.
    """

    data: bytes
    timeout: float
    is_last: bool


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
        self._was_sent = False
        self._pieces = Pieces()

    @property
    def is_complete(self) -> bool:
        return self._talk.is_complete

    @property
    def may_reuse(self) -> bool:
        return self._was_sent and self._talk.may_reuse

    def begin(self, *, ends: float, head: float) -> Steps[Head]:
        """Send the request and return the response's head, all before the moment `ends`.

        `head` is how many seconds the head may take once the request is out. Raises also
        `LostError`.
        """
        data = yield from self._write(ends)
        sent_at = self._clock.monotonic()
        ends = min(ends, sent_at + head)
        has_begun = False
        while True:
            if not data:
                data = yield from self._receive(ends, has_begun=has_begun)
            if not data and not has_begun:
                raise LostError(was_sent=self._was_sent)
            if not data:
                raise cut_short(self._request.origin)
            found = self._talk.receive_head(data)
            if found is not None:
                self._first = self._talk.first_body()
                return replace(found, sent_at=sent_at)
            has_begun = True
            data = b""

    def more(self, timeout: float) -> Steps[bytes]:
        """Return the next bytes of the body, b"" at its end."""
        if self._first:
            first, self._first = self._first, b""
            return first
        ends = self._clock.monotonic() + timeout
        while not self._talk.is_complete:
            data = yield from self._receive(ends, has_begun=True)
            if not data and not self._talk.end():
                raise cut_short(self._request.origin)
            self._pieces.add(len(data))
            if data and (body := self._talk.receive_body(data)):
                return body
        return b""

    def _receive(self, ends: float, *, has_begun: bool) -> Steps[bytes]:
        try:
            return (yield Receive(ends - self._clock.monotonic()))
        except TimeoutError:
            raise
        except OSError as error:
            if not has_begun:
                raise LostError(was_sent=self._was_sent) from error
            raise connection_error(error, self._request.origin, was_sent=True) from None

    def _write(self, ends: float) -> Steps[bytes]:
        """Send it all, and return what the server answered before it had everything.

        It may hang up early: its answer may still be there.
        """
        waiting = self._head_bytes()
        try:
            for piece in self._request.body.pieces():
                if len(waiting) + len(piece) <= READ_SIZE:
                    waiting += piece
                    continue
                early = yield Write(waiting, ends - self._clock.monotonic(), is_last=False)
                if early:
                    return early
                waiting = piece
            early = yield Write(waiting, ends - self._clock.monotonic(), is_last=True)
        except TimeoutError:
            message = "the request could not be sent in time"
            raise APITimeoutError(message, hint="raise the timeout, or attach less") from None
        except OSError:
            return b""
        self._was_sent = True
        return early

    def _head_bytes(self) -> bytes:
        try:
            return self._talk.head_bytes()
        except ValueError as error:
            raise UsageError(str(error), hint="check extra_headers and extra_query") from None
