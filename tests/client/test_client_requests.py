"""How often a request is sent and what comes of it, over real connections, sync and async alike."""

import contextlib
import gzip
import zlib

import msgspec
import pytest
from client_desk import (
    ASKED,
    DONE,
    END,
    KEY,
    STREAM,
    FakeClock,
    chunk,
    event,
    piece,
    reply,
    streamed,
    whole,
)
from client_server import CLOSE, RESET, ScriptedServer

from poeflow import errors
from poeflow.client.calls import Delta, Retrying
from poeflow.client.failures import Server
from poeflow.client.messages import ChatRequest, Message
from poeflow.client.stream import MAX_BODY, MAX_LINE

ONCE = [301, 302, 400, 401, 402, 403, 404, 413, 418, 422]
AGAIN = [408, 409, 429, 500, 502, 503, 504, 529]
REQUEST = ChatRequest(model="Grok-4", messages=(Message(role="user", content="Hi"),), stream=True)


def test_an_answer_comes_back_and_the_request_is_what_was_asked(connect, server):
    server.play(reply(x_request_id="req-1"))
    answer = connect(server).create(temperature=0.5, extra_body={"thinking_budget": 9})
    assert (answer.text, answer.request_id) == ("Hello", "req-1")
    [request] = server.requests
    assert request.json == {**ASKED, "temperature": 0.5, "thinking_budget": 9}
    assert request.head.startswith("POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:")
    assert f"\r\nauthorization: Bearer {KEY}\r\n" in request.head
    assert request.head.count(KEY) == 1


def test_a_stream_gives_its_chunks_and_then_its_connection_back(connect, server):
    server.play(streamed("Hel", "lo"), streamed("again"))
    driver = connect(server)
    stream = driver.create(stream=True)
    assert [c.choices[0].delta.content for c in driver.chunks(stream)] == ["Hel", "lo", None]
    assert driver.do(lambda _: stream.final()).text == "Hello"
    again = driver.create(stream=True)
    assert driver.do(lambda _: again.final()).text == "again"
    assert [request.connection for request in server.requests] == [1, 1]
    assert server.requests[0].json == {**ASKED, "stream": True}


def test_the_text_of_a_stream(connect, server):
    server.play(streamed("Hel", "", "lo"))
    driver = connect(server)
    stream = driver.create(stream=True)
    assert list(driver.chunks(stream.text())) == ["Hel", "lo"]


def test_a_server_that_does_not_stream_gives_one_chunk(connect, server):
    driver = connect(server)
    [only] = driver.chunks(driver.create(stream=True))
    assert (only.choices[0].delta.content, only.choices[0].finish_reason) == ("Hello", "stop")


@pytest.mark.parametrize("status", ONCE)
def test_what_a_retry_cannot_fix_is_sent_once(connect, server, status):
    server.play(reply(status, location="http://127.0.0.1:9/"))
    with pytest.raises(errors.APIStatusError) as caught:
        connect(server, clock=FakeClock()).create()
    assert caught.value.status_code == status
    assert len(server.requests) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", AGAIN)
def test_what_a_retry_can_fix_is_sent_up_to_four_times(connect, server, status, stream):
    clock = FakeClock()
    server.play(*[reply(status)] * 9)
    driver = connect(server, clock=clock)
    with pytest.raises(errors.APIStatusError) as caught:
        driver.create(stream=stream)
    assert caught.value.status_code == status
    assert len(server.requests) == 4
    assert all(wait <= most for wait, most in zip(clock.waits, [0.5, 1, 2], strict=True))


def test_a_failure_and_then_an_answer_is_an_answer(connect, server):
    server.play(reply(500), reply(429, retry_after="7"), (RESET,), (b"HTTP/1.1 2", CLOSE), reply())
    clock = FakeClock()
    assert connect(server, clock=clock, attempts=5).create().text == "Hello"
    assert len(server.requests) == 5
    assert clock.waits[1] == 7.0


@pytest.mark.parametrize("settings", [{"attempts": 1}, {"attempts": 2}])
def test_attempts_count_all_sends(connect, server, settings):
    server.play(*[reply(500)] * 9)
    with pytest.raises(errors.InternalServerError):
        connect(server, clock=FakeClock(), **settings).create()
    assert len(server.requests) == settings["attempts"]


MADE = [
    *(reply(status) for status in (408, 500, 502, 503, 504, 524)),
    reply(200, {"error": {"message": "busy", "code": 429}}),
    STREAM + chunk(event({"error": {"message": "busy", "code": 429}})) + END,
]


@pytest.mark.parametrize(("first", "sends"), [*((one, 1) for one in MADE), (reply(429), 2)])
@pytest.mark.parametrize("stream", [False, True])
def test_media_that_may_have_been_made_are_not_asked_for_again(
    connect, server, first, sends, stream
):
    server.play(first)
    driver = connect(server, clock=FakeClock())
    with contextlib.suppress(errors.APIStatusError):
        driver.chunks(driver.create(media=True, stream=stream))
    assert len(server.requests) == sends


def test_x_should_retry_false_is_obeyed(connect, server):
    server.play(reply(500, x_should_retry="false"))
    with pytest.raises(errors.InternalServerError):
        connect(server, clock=FakeClock()).create()
    assert len(server.requests) == 1


def test_too_long_a_wait_fails_at_once_and_says_when_to_come_back(connect, server):
    clock = FakeClock()
    server.play(reply(429, retry_after="300"), reply(503, retry_after="1e200"))
    driver = connect(server, clock=clock)
    with pytest.raises(errors.RateLimitError) as caught:
        driver.create()
    assert caught.value.hint == "the server asks to come back in 5 min 00 s"
    with pytest.raises(errors.InternalServerError) as caught:
        driver.create()
    assert caught.value.hint == "the server asks to come back much later"
    assert (len(server.requests), clock.waits) == (2, [])


def test_a_429_holds_back_the_other_calls_of_the_client(connect, server):
    clock = FakeClock()
    server.play(reply(429, retry_after="30"))
    driver = connect(server, clock=clock, attempts=1)
    with pytest.raises(errors.RateLimitError):
        driver.create()
    assert driver.create().text == "Hello"
    other = driver.client.with_options(attempts=2)
    assert driver.do(lambda _: other.chat.completions.create(**ASKED)).text == "Hello"
    assert clock.waits == [30.0]


def test_an_origin_without_requests_left_is_left_alone(connect, server):
    clock = FakeClock()
    server.play(reply(x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="12"))
    driver = connect(server, clock=clock)
    driver.create()
    assert clock.waits == []
    driver.create()
    assert clock.waits == [12.0]


def test_requests_per_minute_are_kept(connect, server):
    clock = FakeClock()
    driver = connect(server, clock=clock, requests_per_minute=2)
    for _ in range(5):
        driver.create()
    assert clock.waits == [60.0, 60.0]


BROKEN_STREAMS = [
    (STREAM + chunk(event(piece("Hel"))) + END,),
    (STREAM + chunk(event(piece("Hel"))), CLOSE),
    (STREAM + chunk(event(piece("Hel"))), RESET),
    (b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + event(piece("Hel")), CLOSE),
]


@pytest.mark.parametrize("script", BROKEN_STREAMS)
def test_a_truncated_stream_carries_what_arrived_and_is_not_asked_for_again(
    connect, server, script
):
    server.play(script)
    driver = connect(server, clock=FakeClock())
    chunks = driver.chunks(driver.create(stream=True))
    assert next(chunks).choices[0].delta.content == "Hel"
    with pytest.raises(errors.TruncatedStreamError) as caught:
        next(chunks)
    assert caught.value.completion.text == "Hel"
    assert len(server.requests) == 1


@pytest.mark.parametrize("script", BROKEN_STREAMS)
def test_ask_begins_a_broken_stream_again_and_says_so(connect, server, script):
    heard: list = []
    server.play(script, streamed("Hello"))
    driver = connect(server, clock=FakeClock())
    answer = driver.do(lambda client: client.ask(REQUEST, on_progress=heard.append))
    assert answer.text == "Hello"
    assert [type(fact) for fact in heard] == [Delta, Retrying, Delta]
    assert (heard[0].text, heard[1].attempt, heard[2].text) == ("Hel", 1, "Hello")
    assert isinstance(heard[1].error, errors.TruncatedStreamError)


def test_a_caller_that_hears_no_text_is_told_of_retries_only(connect, server):
    heard: list = []
    server.play(BROKEN_STREAMS[0], streamed("Hello"), reply())
    driver = connect(server, clock=FakeClock())
    for _ in range(2):  # the second answer is not streamed
        answer = driver.do(
            lambda client: client.ask(REQUEST, on_progress=heard.append, hears_text=False)
        )
        assert answer.text == "Hello"
    assert [type(fact) for fact in heard] == [Retrying]


@pytest.mark.parametrize(
    "script", [(STREAM, CLOSE), (STREAM + END,), (STREAM + chunk(b": hi\n\n"), RESET), (CLOSE,)]
)
def test_a_stream_that_breaks_before_its_first_chunk_is_asked_for_again(connect, server, script):
    server.play(script, streamed("Hello"))
    driver = connect(server, clock=FakeClock())
    stream = driver.create(stream=True)
    assert driver.do(lambda _: stream.final()).text == "Hello"
    assert len(server.requests) == 2


@pytest.mark.parametrize("ending", [(CLOSE,), (RESET,), (chunk(b"data: x"), CLOSE)])
def test_a_connection_that_breaks_after_the_finish_reason_is_the_end(connect, server, ending):
    body = chunk(event(piece("Hello"))) + chunk(event(piece(finish="stop")))
    server.play((STREAM + body, *ending))
    answer = connect(server).do(lambda client: client.ask(REQUEST))
    assert (answer.text, answer.flag) == ("Hello", None)
    assert len(server.requests) == 1


REFUSAL = {"error": {"message": "the provider failed", "code": 500}}
FAILED_STREAMS = [
    (event(REFUSAL) + DONE, "", errors.InternalServerError),
    (b"event: error\ndata: {}\n\n", "", errors.InternalServerError),
    (b"data: {broken\n\n", "", errors.APIResponseError),
    (event(piece(finish="error")), "", errors.APIResponseError),
    (event(piece("lo"))[:-2], "lo", errors.TruncatedStreamError),
]


@pytest.mark.parametrize(("ending", "more", "error"), FAILED_STREAMS)
@pytest.mark.parametrize("is_joined", [False, True])
def test_an_error_in_a_stream_is_raised_after_the_chunks_before_it(
    connect, server, ending, more, error, is_joined
):
    begun, heard = event(piece("", role="assistant")) + event(piece("Hel")), []
    parts = [chunk(begun + ending)] if is_joined else [chunk(begun), chunk(ending)]
    server.play((STREAM + b"".join(parts) + END,), streamed("Hello"))
    driver = connect(server, clock=FakeClock())
    with pytest.raises(error):
        heard.extend(driver.chunks(driver.create(stream=True)))  # extends until it raises
    texts = [one.choices[0].delta.content for one in heard]
    assert (texts, len(server.requests)) == (["", "Hel", *filter(None, [more])], 1)


@pytest.mark.parametrize(("ending", "more", "error"), FAILED_STREAMS)
def test_ask_reports_the_chunks_before_an_error_and_asks_again(
    connect, server, ending, more, error
):
    heard: list = []
    server.play((STREAM + chunk(event(piece("Hel")) + ending) + END,), streamed("Hello"))
    driver = connect(server, clock=FakeClock())
    answer = driver.do(lambda client: client.ask(REQUEST, on_progress=heard.append))
    assert (answer.text, heard[-1].text, len(server.requests)) == ("Hello", "Hello", 2)
    *before, again, _ = heard
    assert ("".join(fact.text for fact in before), type(again.error)) == (f"Hel{more}", error)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>busy</html>", errors.APIResponseError),
        (b'{"error": {"code": 401, "message": "bad key"}}', errors.AuthenticationError),
        (b"[" * 100_000, errors.APIResponseError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_an_error_inside_a_200_is_an_error(connect, server, body, error, stream):
    server.play(*[reply(200, body)] * 4)
    with pytest.raises(error):
        connect(server, clock=FakeClock()).create(stream=stream)


def test_a_redirect_is_an_error_and_the_key_goes_nowhere(connect, server):
    with ScriptedServer() as elsewhere:
        server.play(reply(307, location=f"{elsewhere.base_url}/chat/completions"))
        with pytest.raises(errors.APIStatusError, match="redirects, which is never followed"):
            connect(server).create()
        assert (len(server.requests), elsewhere.connections) == (1, 0)


PLAIN = STREAM.replace(b"text/event-stream", b"text/plain; charset=utf-8")
UNNAMED = STREAM.replace(b"content-type: text/event-stream\r\n", b"")
UPPER = STREAM.replace(b"text/event-stream", b"Text/Event-Stream")
TWO = [event(piece("Hel")), event(piece("lo", finish="stop")), DONE]


@pytest.mark.parametrize("head", [PLAIN, UNNAMED, UPPER])
@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize("stream", [True, False])
def test_a_stream_is_one_by_what_it_holds(connect, server, head, size, stream):
    body = b"".join(TWO)
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    server.play(head + b"".join(map(chunk, parts)) + END)
    driver = connect(server, attempts=1)
    found = driver.create(stream=stream)
    answer = driver.do(lambda _: found.final()) if stream else found
    assert (answer.text, answer.finish_reason) == ("Hello", "stop")


@pytest.mark.parametrize("status", [200, 201, 202])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_of_another_good_status_is_one(connect, server, status, stream):
    content = b"\xef\xbb\xbf" + msgspec.json.encode(whole())
    server.play(reply(status, content, content_type="text/event-stream"))
    driver = connect(server, attempts=1)
    found = driver.create(stream=stream)
    answer = driver.do(lambda _: found.final()) if stream else found
    assert answer.text == "Hello"


def test_a_packed_stream_of_another_type_is_read(connect, server):
    packed = gzip.compress(b"".join(TWO))
    server.play(reply(200, packed, content_encoding="gzip", content_type="text/plain"))
    driver = connect(server, attempts=1)
    stream = driver.create(stream=True)
    assert driver.do(lambda _: stream.final()).text == "Hello"


def packed_packet(parts: list[bytes]) -> bytes:
    """Return one packet of a gzip stream that breaks after its chunks."""
    packer = zlib.compressobj(wbits=31)
    sound = packer.compress(b"".join(parts)) + packer.flush(zlib.Z_SYNC_FLUSH)
    head = STREAM.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    return head + chunk(sound + b"\xff" * 40)


def framed_packet(parts: list[bytes]) -> bytes:
    """Return one packet of a stream whose HTTP chunks break."""
    return STREAM + chunk(b"".join(parts)) + b"no size\r\n"


@pytest.mark.parametrize("packet", [packed_packet, framed_packet])
def test_the_chunks_before_a_broken_part_of_a_packet_are_yielded(connect, server, packet):
    server.play(packet(TWO[:1]), streamed("never asked"))
    driver = connect(server, clock=FakeClock())
    heard: list = []
    with pytest.raises(errors.APIResponseError, match="broken"):
        heard.extend(driver.chunks(driver.create(stream=True)))
    assert [one.choices[0].delta.content for one in heard] == ["Hel"]


@pytest.mark.parametrize("packet", [packed_packet, framed_packet])
@pytest.mark.parametrize("parts", [TWO, TWO[:2]])
def test_a_complete_answer_before_a_broken_part_is_not_asked_for_again(
    connect, server, packet, parts
):
    server.play(packet(parts), streamed("asked again"))
    answer = connect(server, clock=FakeClock()).do(lambda client: client.ask(REQUEST))
    assert (answer.text, len(server.requests)) == ("Hello", 1)


@pytest.mark.parametrize("at", [-1, -5])
def test_an_answer_with_a_wrong_checksum_is_asked_for_again(connect, server, at):
    packed = bytearray(gzip.compress(b"".join(TWO)))
    packed[at] ^= 1
    head = STREAM.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    server.play(head + chunk(bytes(packed)) + END, streamed("asked again"))
    answer = connect(server, clock=FakeClock()).do(lambda client: client.ask(REQUEST))
    assert (answer.text, len(server.requests)) == ("asked again", 2)


def test_a_whole_answer_whose_packing_breaks_is_an_error_at_once(connect, server):
    packed = gzip.compress(msgspec.json.encode(whole()))[:-8] + b"\xff" * 8
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-encoding: gzip\r\n\r\n"
    server.play(head + packed)  # the connection stays open: nothing may be waited for
    with pytest.raises(errors.APIResponseError, match="compression is broken"):
        connect(server, attempts=1).create()


def test_a_stream_without_an_answer_is_asked_for_again(connect, server):
    server.play(STREAM + chunk(DONE) + END, streamed("ok"))
    driver = connect(server, clock=FakeClock())
    stream = driver.create(stream=True)
    assert driver.do(lambda _: stream.final()).text == "ok"
    assert len(server.requests) == 2


def test_an_emoji_cut_in_two_is_one_in_the_text_of_a_stream(connect, server):
    halves = [b'data: {"choices":[{"delta":{"content":"hi \\ud83d"}}]}\n\n']
    halves += [b'data: {"choices":[{"delta":{"content":"\\ude00 there"}}]}\n\n', *TWO[1:]]
    server.play(STREAM + b"".join(map(chunk, halves)) + END)
    driver = connect(server)
    stream = driver.create(stream=True)
    assert list(driver.chunks(stream.text())) == ["hi ", "😀 there", "lo"]


@pytest.mark.parametrize("stream", [True, False])
def test_an_empty_account_is_asked_once(connect, server, stream):
    body = {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}
    server.play(*[reply(429, body)] * 4)
    with pytest.raises(errors.InsufficientCreditsError):
        connect(server, clock=FakeClock()).create(stream=stream)
    assert len(server.requests) == 1


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("is_line", [True, False])
def test_an_answer_that_is_too_large_is_asked_for_once(connect, server, stream, is_line):
    line = b"data: " + b"x" * (MAX_LINE + 1 if is_line else 1024 * 1024) + b"\n"
    body = line if is_line else b": " + b"x" * (MAX_BODY + 1)
    kind = "text/event-stream" if stream or is_line else "application/json"
    server.play(*[reply(200, body, content_type=kind)] * 2)
    with pytest.raises(errors.AnswerTooLargeError) as caught:
        connect(server, clock=FakeClock()).create(stream=stream)
    assert (caught.value.exit_code, len(server.requests)) == (1, 1)


def test_hints_name_the_server_a_client_asks(connect, server):
    server.play(reply(401), reply(401))
    with pytest.raises(errors.AuthenticationError) as caught:
        connect(server).create()
    assert caught.value.hint == f"check the key, the key of http://127.0.0.1:{server.port}"
    named = Server(name="provider llmock", variable="LITE_KEY", is_poe=False)
    with pytest.raises(errors.AuthenticationError) as caught:
        connect(base_url=server.base_url, server=named).create()
    assert caught.value.hint == "check LITE_KEY, the key of provider llmock"
