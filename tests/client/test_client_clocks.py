"""Nothing waits for ever, and each clock that runs out has its own message."""

import asyncio
import socket
import threading

import pytest
from client_desk import END, STREAM, FakeClock, chunk, event, large, piece, reply, streamed
from client_server import HOLD

from poeflow import errors
from poeflow.client.calls import Timeouts
from poeflow.client.http.aio import AsyncConnection
from poeflow.client.http.connections import Receive
from poeflow.client.http.wire import Head

SOON = 0.15
SSE = Head(200, {"content-type": "text/event-stream"})


class Response:
    """Gives what was scripted; a number is a wait of so many seconds on the fake clock."""

    def __init__(self, head: Head, script: list, clock: FakeClock) -> None:
        self.head, self._script, self._clock = head, script, clock

    def read(self, timeout: float) -> bytes:
        while self._script:
            step = self._script.pop(0)
            if isinstance(step, bytes):
                return step
            self._clock.time += min(step, timeout)
            if step >= timeout:
                raise TimeoutError
        return b""

    def abort(self) -> None:
        self._script.clear()


class Carrier:
    """A transport without a network; what it was asked for is in `asked`."""

    def __init__(self, clock: FakeClock, *scripts: list, head: Head = SSE) -> None:
        self.clock, self._head = clock, head
        self._scripts = [list(script) for script in scripts]
        self.asked: list[dict] = []

    def send(self, request, **timeouts) -> Response:
        self.asked.append(timeouts)
        script = self._scripts.pop(0)
        if isinstance(script[0], Exception):
            raise script[0]
        return Response(self._head, script, self.clock)

    def close(self) -> None:
        pass


class AsyncResponse(Response):
    async def read(self, *timeout: float) -> bytes:
        return super().read(*timeout)


class AsyncCarrier(Carrier):
    async def send(self, request, **timeouts) -> AsyncResponse:
        sent = super().send(request, **timeouts)
        return AsyncResponse(sent.head, sent._script, self.clock)

    async def aclose(self) -> None:
        pass


@pytest.fixture
def carry(connect):
    """Make a client over a scripted transport; return both."""

    def make(*scripts, **settings):
        clock = FakeClock()
        probe = connect(clock=clock)
        carrier = (AsyncCarrier if probe.is_async else Carrier)(clock, *scripts)
        return connect(clock=clock, transport=carrier, **{"attempts": 1, **settings}), carrier

    return make


HELLO = event(piece("Hello"))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ([TimeoutError()], "no answer began within 2 min 00 s"),
        ([121.0, HELLO], "no answer began within 2 min 00 s"),
        ([60.0, b": ping\n\n"] * 9, "no answer began within 2 min 00 s"),
        ([60.0, b"event: ping\ndata: {}\n\n"] * 9, "no answer began within 2 min 00 s"),
        ([119.0, HELLO, 121.0, HELLO], "nothing new arrived for 2 min 00 s"),
        ([HELLO, *[60.0, b": ping\n\n"] * 9], "nothing new arrived for 2 min 00 s"),
        ([119.0, HELLO] * 9, "the answer was not complete within 10 min 00 s"),
    ],
)
def test_each_clock_of_a_stream_has_its_own_message(carry, script, message):
    driver, _ = carry(script)
    with pytest.raises(errors.APITimeoutError) as caught:
        list(driver.chunks(driver.create(stream=True)))
    assert caught.value.message == message
    assert caught.value.was_sent


def test_an_unstreamed_answer_has_only_a_total(carry):
    driver, carrier = carry([500.0, b"{", 101.0], [b"x"])
    with pytest.raises(errors.APITimeoutError, match="not complete within 10 min 00 s"):
        driver.create()
    assert carrier.asked == [{"connect": 10.0, "total": 600.0, "head": 600.0}]


@pytest.mark.parametrize(
    ("params", "settings", "total"),
    [
        ({"media": True}, {}, 1200.0),
        ({"timeout": 7}, {}, 7.0),
        ({"timeout": 7, "media": True}, {}, 7.0),
        ({}, {"timeout": 8}, 8.0),
        ({"media": True}, {"timeout": 8}, 8.0),
        ({}, {"timeout": Timeouts(total=9.0)}, 9.0),
        ({"media": True}, {"timeout": Timeouts(media=9.0)}, 9.0),
    ],
)
def test_totals_may_be_chosen(carry, params, settings, total):
    driver, carrier = carry([2000.0], **settings)
    with pytest.raises(errors.APITimeoutError):
        driver.create(**params)
    connect_within = min(10.0, total)
    assert carrier.asked == [{"connect": connect_within, "total": total, "head": total}]


@pytest.mark.parametrize(("media", "sends"), [(False, 2), (True, 1)])
def test_a_read_timeout_is_tried_again_only_for_text(carry, media, sends):
    driver, carrier = carry([2000.0], [2000.0], attempts=2)
    with pytest.raises(errors.APITimeoutError):
        driver.create(media=media)
    assert len(carrier.asked) == sends


def test_nothing_is_sent_again_after_a_chunk_was_handed_out(carry):
    driver, carrier = carry([HELLO, 121.0], [HELLO], attempts=4)
    chunks = driver.chunks(driver.create(stream=True))
    assert next(chunks).choices[0].delta.content == "Hello"
    with pytest.raises(errors.APITimeoutError):
        next(chunks)
    assert len(carrier.asked) == 1


def test_a_pause_between_chunks_is_no_matter(carry):
    driver, _ = carry([100.0, HELLO, 110.0, HELLO, 110.0, event(piece(finish="stop"))])
    stream = driver.create(stream=True)
    assert driver.do(lambda _: stream.final()).text == "HelloHello"


@pytest.mark.parametrize("away", [130.0, 5000.0])  # longer than progress, than total
def test_the_time_of_the_caller_between_chunks_does_not_count(carry, away):
    end = event(piece(finish="stop"))
    driver, carrier = carry([100.0, HELLO, 110.0, HELLO, 110.0, HELLO, end])
    stream = driver.create(stream=True)
    chunks = driver.chunks(stream)
    for _ in range(3):
        carrier.clock.time += away
        assert next(chunks).choices[0].delta.content == "Hello"
    assert driver.do(lambda _: stream.final()).text == "HelloHelloHello"


def test_the_waits_between_chunks_count_although_the_caller_was_away(carry):
    script = [HELLO, 110.0, HELLO, 110.0, HELLO, 110.0, HELLO]
    driver, carrier = carry(script, timeout=Timeouts(total=300.0))
    chunks = driver.chunks(driver.create(stream=True))
    for _ in range(3):
        next(chunks)
        carrier.clock.time += 200.0
    with pytest.raises(errors.APITimeoutError, match="not complete within 5 min"):
        next(chunks)


def test_after_the_finish_reason_silence_is_the_end(carry):
    driver, _ = carry([HELLO, event(piece(finish="stop")), 1000.0])
    stream = driver.create(stream=True)
    assert driver.do(lambda _: stream.final()).text == "Hello"


def test_a_stalled_head_ends_in_time_on_a_real_connection(connect, server):
    server.play((b"HTTP/1.1 200 OK\r\nconte", HOLD))
    with pytest.raises(errors.APITimeoutError, match="not complete within"):
        connect(server, attempts=1, timeout=SOON).create()


def test_a_stalled_body_ends_in_time_on_a_real_connection(connect, server):
    server.play((reply()[:-5], HOLD))
    with pytest.raises(errors.APITimeoutError, match="not complete within"):
        connect(server, attempts=1, timeout=SOON).create()


def test_a_stall_after_the_first_chunk_ends_in_time_on_a_real_connection(connect, server):
    server.play((STREAM + chunk(HELLO), HOLD))
    driver = connect(server, timeout=Timeouts(progress=SOON))
    chunks = driver.chunks(driver.create(stream=True))
    next(chunks)
    with pytest.raises(errors.APITimeoutError, match="nothing new arrived for"):
        next(chunks)


def test_comments_are_no_progress_on_a_real_connection(connect, server):
    stop = threading.Event()
    ping = chunk(b": ping\n\n")
    server.play((STREAM, *[lambda: stop.wait(0.05), ping] * 40, END))
    driver = connect(server, attempts=1, timeout=Timeouts(first=SOON))
    with pytest.raises(errors.APITimeoutError, match="no answer began within"):
        driver.create(stream=True)
    stop.set()


def test_bytes_that_are_no_body_do_not_stretch_a_clock(connect, server):
    stop = threading.Event()
    server.play((STREAM + b"5;x=", *[lambda: stop.wait(0.05), b"y"] * 60, HOLD))
    driver = connect(server, attempts=1, timeout=Timeouts(first=SOON))
    with pytest.raises(errors.APITimeoutError, match="no answer began within"):
        driver.create(stream=True)
    stop.set()


def test_a_request_that_cannot_be_sent_says_so(connect, server):
    server.early = True
    server.play((server.hold,))
    driver = connect(server, attempts=1, timeout=0.5)
    with pytest.raises(errors.APITimeoutError, match="the request could not be sent in time"):
        driver.do(lambda client: client.ask(large(40_000_000)))


def test_a_server_that_takes_no_connection_says_so(connect):
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        driver = connect(
            attempts=1, base_url=f"http://127.0.0.1:{port}/v1", timeout=Timeouts(connect=SOON)
        )
        with pytest.raises(errors.APITimeoutError) as caught:
            driver.create()
        for filler in fillers:
            filler.close()
    assert caught.value.message == f"no connection to http://127.0.0.1:{port} within {SOON} s"
    assert not caught.value.was_sent


def test_a_connection_is_not_kept_after_a_timeout(connect, server):
    server.play((HOLD,), streamed("a"))
    driver = connect(server, attempts=2, timeout=SOON)
    stream = driver.create(stream=True, timeout=SOON)
    assert driver.do(lambda _: stream.final()).text == "a"
    assert [request.connection for request in server.requests] == [1, 2]


def test_each_wait_of_a_connection_ends_by_its_own_clock():
    async def waits() -> list[bytes | type]:
        loop, (own, other) = asyncio.get_running_loop(), socket.socketpair()
        _, connection = await loop.create_connection(AsyncConnection, sock=own)
        found: list[bytes | type] = []
        for data, after, seconds in (
            (b"a", 0.0, 60.0),
            (None, 0.0, 0.01),  # sooner than the wait before would have ended
            (b"b", 0.0, 0.05),
            (b"c", 0.1, 60.0),  # later than the wait before would have ended
        ):
            if data is not None:
                loop.call_later(after, other.sendall, data)
            try:
                found.append(await connection.perform(Receive(seconds)))
            except TimeoutError:
                found.append(TimeoutError)
        connection.close()
        other.close()
        return found

    async def within() -> list[bytes | type]:
        async with asyncio.timeout(20):
            return await waits()

    assert asyncio.run(within()) == [b"a", TimeoutError, b"b", b"c"]
