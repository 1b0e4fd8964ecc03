"""Stands in front of a server: passes requests on and their answers back, and records both.

What is in the cassette already is not asked again. An answer is read to its end and recorded even
if the program leaves, and the program gets the end of it only when it is on the disk.
"""

import asyncio
import contextlib
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET

from poeflow.cassettes.cassette_file import CassetteWriter
from poeflow.cassettes.matching import Shelf
from poeflow.cassettes.recordings import (
    Chunk,
    RecordedAnswer,
    RecordedExchange,
    RecordedRequest,
    chunk_of,
    content_of,
    events_in,
    unfit_headers,
)
from poeflow.cassettes.replay import DROPPED, refused, reply_of, taken
from poeflow.cassettes.secrets import Masking, masked_answer
from poeflow.client.http.transport import AsyncResponse, AsyncTransport
from poeflow.client.http.wire import Body, Head, WireRequest, origin_of
from poeflow.clock import Clock
from poeflow.errors import APIError, UsageError
from poeflow.redact import Scrubber
from poeflow.simulator.http_messages import MAX_BODY_BYTES, Reply, Request

_CONNECT_SECONDS: Final = 30.0
_ANSWER_SECONDS: Final = 1800.0
_LINGER_SECONDS: Final = 10.0
_PIECES_AHEAD: Final = 64
_NOT_PASSED_ON: Final = DROPPED | {"host", "accept-encoding", "expect"}
_NOT_RECORDED: Final = DROPPED | {
    *("alt-svc", "cf-cache-status", "cf-ray", "date", "nel", "report-to", "server", "via"),
    *("openai-organization", "openai-processing-ms", "openai-project"),
    *("set-cookie", "strict-transport-security"),
}
"""Headers of answers that say who asks, or differ each time and mean nothing to a program."""


class RecordedServer(msgspec.Struct, frozen=True):
    """The server that is recorded: our `/v1` stands for its base URL, our root for what is above.

    Above a base URL that ends with `/v1` is what comes before that, else the root of the server.
    """

    base_url: str

    def request(self, request: Request) -> WireRequest:
        """Return a request as it is passed on. Answers come without compression, to be read."""
        base = urlsplit(self.base_url).path
        if request.path == "/v1" or request.path.startswith("/v1/"):
            path = base + request.path.removeprefix("/v1")
        else:
            path = (base.removesuffix("/v1") if base.endswith("/v1") else "") + request.path
        query = f"?{request.raw_query}" if request.raw_query else ""
        named = request.headers.get("connection", "").lower().replace(",", " ").split()
        headers = [
            (name, value)
            for name, value in request.headers.items()
            if name not in _NOT_PASSED_ON and name not in named
        ]
        return WireRequest(
            origin=origin_of(self.base_url),
            target=f"{path or '/'}{query}",
            method="GET" if request.method == "HEAD" else request.method,
            headers=(*headers, ("accept-encoding", "identity")),
            body=Body((request.body,) if request.body else ()),
        )


class CassetteRecorder:
    """Records to a cassette; `tell` is called with a sentence for each recording.

    With `times` it records when the chunks of a stream came. Leave it with `aclose`.
    """

    def __init__(
        self,
        upstream: RecordedServer,
        transport: AsyncTransport,
        writer: CassetteWriter,
        masking: Masking,
        *,
        clock: Clock,
        tell: Callable[[str], None],
        times: bool = False,
    ) -> None:
        self._upstream = upstream
        self._transport = transport
        self._writer = writer
        self._masking = masking
        self._clock = clock
        self._tell = tell
        self._times = times
        self._shelf = Shelf(writer.text.recordings)
        self._count = len(writer.text.recordings)
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Raises what ends the recording: `DiskError`, or a bug."""

    async def aclose(self) -> None:
        """End what is under way, unrecorded."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self.failure.cancel()
        await self._transport.aclose()

    def reply_to(self, request: Request) -> "Reply | PassedOn":
        """Return what the cassette has, else the server's answer while it comes."""
        found, asked = taken(self._shelf, request, self._masking, again=False)
        if found is not None:
            return reply_of(found.read.recording.response)
        relay = PassedOn()
        exchange = _Exchange(asked, self._masking.scrubber_of(request), self._clock.monotonic())
        task = asyncio.create_task(self._pass_on(request, exchange, relay))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return relay

    def refusal(self, status: int, message: str) -> Reply:
        """Return the reply to an unreadable request."""
        return refused(status, message, "invalid_request")

    def in_flight(self, request: Request) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.failure.done():
            self.failure.set_exception(error)

    async def _pass_on(self, request: Request, exchange: "_Exchange", relay: "PassedOn") -> None:
        """Ask the server, pass its answer on, and record it before its end is passed on."""
        try:
            response = await self._transport.send(
                self._upstream.request(request),
                connect=_CONNECT_SECONDS,
                total=_ANSWER_SECONDS,
                head=_ANSWER_SECONDS,
            )
        except (APIError, UsageError, TimeoutError) as error:
            relay.begin(self._unanswered(exchange.request, error))
            await relay.end()
            return
        exchange.begin(response.head, self._clock.monotonic())
        relay.begin(_passed_head(response.head))
        try:
            await self._read(response, exchange, relay)
            await self._record(exchange)
        finally:
            response.abort()
            relay.is_cut = exchange.is_cut
            await relay.end()

    async def _read(
        self, response: AsyncResponse, exchange: "_Exchange", relay: "PassedOn"
    ) -> None:
        try:
            while data := await response.read(_ANSWER_SECONDS):
                exchange.add(data, self._clock.monotonic())
                await relay.put(data)
        except (APIError, TimeoutError):
            exchange.is_cut = True

    async def _record(self, exchange: "_Exchange") -> None:
        """Write a recording, one after another. Raises `DiskError`."""
        asked = f"{exchange.request.method} {exchange.request.path}"
        if exchange.size > MAX_BODY_BYTES:
            self._tell(f"not recorded: {asked}: the answer is over {MAX_BODY_BYTES:,} bytes")
            return
        recording = exchange.recording(times=self._times)
        unfit = unfit_headers(recording.response.headers)
        if unfit:
            headers = {n: v for n, v in recording.response.headers.items() if n not in unfit}
            answer = msgspec.structs.replace(recording.response, headers=headers)
            recording = msgspec.structs.replace(recording, response=answer)
        async with self._turn:
            await asyncio.to_thread(self._writer.add, recording)
            self._count += 1
            more = ", cut short" if exchange.is_cut else ""
            more += f", without {', '.join(unfit)}: not a header of HTTP" if unfit else ""
            self._tell(f"recorded {self._count}: {asked}: {recording.response.status}{more}")

    def _unanswered(self, asked: RecordedRequest, error: Exception) -> Reply:
        """Return the reply to a request that the server did not answer."""
        is_late = isinstance(error, TimeoutError)
        message = "the server did not answer in time" if is_late else str(error)
        if isinstance(error, UsageError):
            return refused(400, message, "invalid_request")
        self._tell(f"not recorded: {asked.method} {asked.path}: {message}")
        return refused(504 if is_late else 502, message, "upstream_unreachable")


class PassedOn:
    """The answer to one request while it comes; what a program that has left would get is dropped.

    It is read a little ahead of the program, so that a slow one slows the server.
    """

    def __init__(self) -> None:
        self.is_cut = False
        self._head: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pieces: asyncio.Queue[bytes] = asyncio.Queue(_PIECES_AHEAD)
        self._closed = asyncio.Event()

    async def head(self) -> Reply:
        return await asyncio.shield(self._head)

    async def read(self) -> bytes:
        return await self._pieces.get()

    def close(self) -> None:
        """Drop what still comes."""
        self._closed.set()
        while not self._pieces.empty():
            self._pieces.get_nowait()

    def begin(self, reply: Reply) -> None:
        self._head.set_result(reply)

    async def put(self, data: bytes) -> None:
        if not self._closed.is_set():
            await self._pieces.put(data)

    async def end(self) -> None:
        """Let the program read to the end: what has failed meanwhile may end the server."""
        await self.put(b"")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                await self._closed.wait()


class _Exchange:
    """One request and what came for it, with the times."""

    def __init__(self, request: RecordedRequest, scrubber: Scrubber, started: float) -> None:
        self.request = request
        self.size = 0
        self.is_cut = False
        self._scrubber = scrubber
        self._started = self._headed = started
        self._head = Head(200, {})
        self._pieces: list[bytes] = []
        self._ends: list[int] = []
        self._times: list[float] = []

    def begin(self, head: Head, now: float) -> None:
        self._head, self._headed = head, now

    def add(self, data: bytes, now: float) -> None:
        """Take the next bytes; those beyond what is recorded are only counted."""
        self.size += len(data)
        if self.size <= MAX_BODY_BYTES:
            self._pieces.append(data)
            self._ends.append(self.size)
            self._times.append(now)

    def recording(self, *, times: bool) -> RecordedExchange:
        """Return the recording, masked."""
        headers = {n: v for n, v in self._head.headers.items() if n not in _NOT_RECORDED}
        kind, body = headers.get("content-type", ""), b"".join(self._pieces)
        answer = RecordedAnswer(
            status=self._head.status,
            headers=headers,
            after=_rounded(self._headed - self._started) if times else UNSET,
            cut=self.is_cut,
        )
        if kind.lower().startswith("text/event-stream"):
            stream = tuple(self._chunks(body, times=times))
            answer = msgspec.structs.replace(answer, stream=stream)
        else:
            content = content_of(body, kind)
            answer = msgspec.structs.replace(
                answer, json=content.json, text=content.text, base64=content.base64
            )
        return RecordedExchange(
            request=self.request, response=masked_answer(answer, self._scrubber)
        )

    def _chunks(self, body: bytes, *, times: bool) -> Iterator[Chunk]:
        """Yield the events of a stream, each as late as its last byte."""
        at, before = 0, self._headed
        for event in events_in(body):
            at += len(event)
            now = self._times[bisect_left(self._ends, at)]
            yield chunk_of(event, after=_rounded(now - before) if times else UNSET)
            before = now


def _rounded(seconds: float) -> float:
    return min(round(max(seconds, 0.0), 3), 3600.0)


def _passed_head(head: Head) -> Reply:
    """Return the head of an answer as it is passed on, without the headers of one connection."""
    headers = tuple((name, value) for name, value in head.headers.items() if name not in DROPPED)
    return Reply(status=head.status, headers=headers)
