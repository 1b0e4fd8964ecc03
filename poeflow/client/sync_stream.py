"""The synchronous end of an exchange: a line for its commands, a stream of chunks."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self, TypeVar

from poeflow.client.answers import Completion, CompletionChunk
from poeflow.client.commands import Command, Exchange, Read, Reply, Send, Wait
from poeflow.client.driving import drive
from poeflow.client.exchange import Opened
from poeflow.client.folding import Halves
from poeflow.client.http.transport import Response, Transport
from poeflow.clock import Clock

T = TypeVar("T")


class Line:
    """Performs the commands of one exchange, on one response at a time."""

    def __init__(self, carrier: Transport, clock: Clock) -> None:
        self._carrier = carrier
        self._clock = clock
        self._response: Response | None = None

    def perform(self, command: Command) -> Reply:
        match command:
            case Read(timeout=timeout):
                if self._response is None:
                    raise AssertionError("nothing was sent")
                return self._response.read(timeout)
            case Send():
                self.close()
                self._response = self._carrier.send(
                    command.request, connect=command.connect, total=command.total, head=command.head
                )
                return self._response.head
            case Wait(seconds=seconds):
                self.close()
                self._clock.sleep(seconds)
                return None

    def close(self) -> None:
        if self._response is not None:
            self._response.abort()
            self._response = None


class Stream:
    """The chunks of an answer as they arrive; iterate over it once.

    `text()` gives only the text, `final()` the whole answer put together. Leave it early with
    `close()` or a `with` statement. Raises `TruncatedStreamError` where it ends too soon.
    """

    def __init__(self, stream: Opened, line: Line, slots: AbstractContextManager[object]) -> None:
        self._stream = stream
        self._line = line
        self._slots: AbstractContextManager[object] | None = slots

    @property
    def request_id(self) -> str | None:
        return self._stream.request_id

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> CompletionChunk:
        chunks = self._stream.chunks
        if not chunks and self._slots is not None:
            try:
                drive(self._stream.more(), self._line.perform)
            except BaseException:
                self.close()
                raise
        if chunks:
            return chunks.popleft()
        self.close()
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def text(self) -> Iterator[str]:
        """Yield the text as it arrives, without empty pieces."""
        halves = Halves()
        for chunk in self:
            for choice in chunk.choices[:1]:
                if text := halves.whole(choice.delta.content or ""):
                    yield text
        if rest := halves.rest():
            yield rest

    def final(self) -> Completion:
        """Read to the end and return the whole answer."""
        for _ in self:
            pass
        return self._stream.completion()

    def close(self) -> None:
        """Give the connection up. Does nothing the second time."""
        slots, self._slots = self._slots, None
        if slots is not None:
            self._line.close()
            slots.__exit__(None, None, None)


class Lines:
    """Hands out lines: as many at once as a client may have."""

    def __init__(
        self, carrier: Transport, clock: Clock, slots: AbstractContextManager[object]
    ) -> None:
        self._carrier = carrier
        self._clock = clock
        self._slots = slots

    def perform(self, exchange: Exchange[T]) -> T:
        """Drive an exchange to its end."""
        with self._slots:
            line = Line(self._carrier, self._clock)
            try:
                return drive(exchange, line.perform)
            finally:
                line.close()

    def open(self, exchange: Exchange[Opened]) -> Stream:
        """Drive an exchange to its first chunk; the slot is held until the stream is closed."""
        self._slots.__enter__()
        line = Line(self._carrier, self._clock)
        try:
            found = drive(exchange, line.perform)
        except BaseException:
            line.close()
            self._slots.__exit__(None, None, None)
            raise
        return Stream(found, line, self._slots)

    def close(self) -> None:
        """Close idle connections."""
        self._carrier.close()
