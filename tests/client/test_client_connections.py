"""Connections: kept, replaced, given up and counted, sync and async alike."""

import pytest
from client_desk import (
    ASKED,
    END,
    KEY,
    STREAM,
    FakeClock,
    chunk,
    event,
    large,
    piece,
    reply,
    streamed,
)
from client_server import CLOSE, HOLD, RESET

from poeflow import errors
from poeflow.client.messages import ChatRequest, Message


def numbers(server) -> list[int]:
    return [request.connection for request in server.requests]


def test_one_connection_serves_one_request_after_the_other(connect, server):
    server.play(reply(), reply(404), streamed("a"), reply(429), reply())
    driver = connect(server, clock=FakeClock())
    driver.create()
    with pytest.raises(errors.NotFoundError):
        driver.create()
    list(driver.chunks(driver.create(stream=True)))
    driver.create()
    assert numbers(server) == [1, 1, 1, 1, 1]


@pytest.mark.parametrize("ending", [CLOSE, RESET])
def test_a_connection_that_died_while_idle_is_replaced_in_silence(connect, server, ending):
    server.play((reply(), server.hold, ending), reply())
    clock = FakeClock()
    driver = connect(server, attempts=1, clock=clock)
    driver.create()
    server.release()  # from here on no event loop runs that could see the end
    server.wait_for(lambda: server.open_connections == 0)
    assert driver.create(media=True).text == "Hello"
    assert (len(server.requests), clock.waits) == (2, [])
    assert numbers(server) == [1, 2]


@pytest.mark.parametrize("ending", [CLOSE, RESET])
@pytest.mark.parametrize("options", [{"attempts": 1}, {"media": True}])
def test_what_a_kept_connection_lost_after_sending_is_not_sent_in_silence(
    connect, server, ending, options
):
    server.play(reply(), (ending,), reply())
    driver = connect(server)
    driver.create()
    sends: list[int] = []
    request = ChatRequest(model="Grok-4", messages=(Message(role="user", content="Hi"),))
    with pytest.raises(errors.APIConnectionError, match="ended before an answer came") as caught:
        driver.do(lambda client: client.ask(request, permit=lambda: sends.append(1), **options))
    assert (caught.value.was_sent, sends) == (True, [1])
    assert numbers(server) == [1, 1]


@pytest.mark.parametrize("ending", [CLOSE, RESET])
def test_text_that_a_kept_connection_lost_is_sent_again_as_an_attempt(connect, server, ending):
    server.play(reply(), (ending,), reply())
    clock = FakeClock()
    driver = connect(server, clock=clock)
    driver.create()
    sends: list[int] = []
    request = ChatRequest(model="Grok-4", messages=(Message(role="user", content="Hi"),))
    answer = driver.do(lambda client: client.ask(request, permit=lambda: sends.append(1)))
    assert (answer.text, sends, len(clock.waits)) == ("Hello", [1, 1], 1)
    assert numbers(server) == [1, 1, 2]


@pytest.mark.parametrize("ending", [CLOSE, RESET])
def test_a_new_connection_that_dies_is_a_failed_attempt(connect, server, ending):
    server.play((ending,), (ending,))
    with pytest.raises(errors.APIConnectionError, match="ended before an answer came") as caught:
        connect(server, attempts=1).create()
    assert caught.value.was_sent
    assert len(server.requests) == 1


@pytest.mark.parametrize("ending", [CLOSE, RESET])
def test_a_connection_that_dies_inside_an_answer_is_a_failed_attempt(connect, server, ending):
    server.play((reply()[:-3], ending))
    with pytest.raises(errors.APIConnectionError) as caught:
        connect(server, attempts=1).create()
    assert caught.value.was_sent
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        reply(connection="close"),
        b"HTTP/1.0 200 OK\r\n" + reply().partition(b"\r\n")[2],
        reply() + b"rubbish",
    ],
)
def test_a_connection_that_should_not_be_kept_is_not(connect, server, answer):
    server.play(answer)
    driver = connect(server)
    assert [driver.create().text, driver.create().text] == ["Hello", "Hello"]
    assert numbers(server) == [1, 2]


def test_an_idle_connection_is_not_kept_for_ever(connect, server):
    clock = FakeClock()
    driver = connect(server, clock=clock)
    driver.create()
    clock.time += 59
    driver.create()
    clock.time += 61
    driver.create()
    assert numbers(server) == [1, 1, 2]


def test_the_connection_put_back_last_is_taken_first(connect, server):
    server.play(*[streamed("a")] * 6)
    driver = connect(server)
    streams = [driver.create(stream=True) for _ in range(3)]
    for index in (1, 2, 0):
        list(driver.chunks(streams[index]))
    streams = [driver.create(stream=True) for _ in range(3)]
    assert numbers(server) == [1, 2, 3, 1, 3, 2]
    for stream in streams:
        driver.close_stream(stream)


@pytest.mark.parametrize("stream", [False, True])
def test_no_more_requests_are_under_way_than_allowed(connect, server, stream):
    driver = connect(server, concurrency=3)
    server.play(*[(server.meet(3), streamed("a") if stream else reply())] * 12)
    found = driver.together(12, **({"stream": True} if stream else {}), read=stream)
    assert [answer.text for answer in found] == (["a"] if stream else ["Hello"]) * 12
    assert server.peak == 3


def test_an_early_413_while_uploading_is_heard(connect, server):
    server.early = True
    server.play((reply(413, connection="close"), CLOSE))
    with pytest.raises(errors.RequestTooLargeError):
        connect(server, attempts=1).do(lambda client: client.ask(large(30_000_000)))
    assert len(server.requests) == 1


def test_an_early_answer_of_a_server_that_reads_no_further_is_heard(connect, server):
    server.early = True
    server.play((reply(413), server.hold))
    with pytest.raises(errors.RequestTooLargeError):
        connect(server, attempts=1, timeout=20).do(lambda client: client.ask(large(30_000_000)))
    server.release()
    assert server.wait_for(lambda: server.open_connections == 0)


def test_a_stream_left_early_closes_its_connection_and_frees_its_slot(connect, server):
    server.play((STREAM + chunk(event(piece("a"))), HOLD))
    driver = connect(server, concurrency=1)
    stream = driver.create(stream=True)
    next(driver.chunks(stream))
    driver.close_stream(stream)
    driver.close_stream(stream)
    assert driver.create().text == "Hello"
    assert server.wait_for(lambda: server.open_connections == 1)


def test_nothing_is_open_after_closing(connect, server):
    driver = connect(server)
    driver.together(5)
    driver.do(lambda client: client.aclose() if driver.is_async else client.close())
    assert server.wait_for(lambda: server.open_connections == 0)


def test_the_names_of_the_openai_sdk_close_and_tell_the_address(connect, server):
    server.play((STREAM + chunk(event(piece("a"))), HOLD))
    driver = connect(server)
    assert driver.client.base_url == server.base_url
    stream = driver.create(stream=True)
    driver.do(lambda _: stream.close())
    driver.create()
    driver.do(lambda client: client.close())
    assert server.wait_for(lambda: server.open_connections == 0)


def test_a_refused_connection_says_so(connect):
    driver = connect(attempts=1, base_url="http://127.0.0.1:1/v1")
    with pytest.raises(errors.APIConnectionError) as caught:
        driver.create()
    assert caught.value.message == "http://127.0.0.1:1 refused the connection"
    assert not caught.value.was_sent


def test_a_name_that_is_not_found_says_so(connect):
    driver = connect(attempts=1, base_url="https://no-such-name.invalid/v1")
    with pytest.raises(errors.APIConnectionError, match=r"https://no-such-name\.invalid"):
        driver.create()


def test_a_server_that_speaks_something_else_says_so(connect, server):
    server.play((b"SSH-2.0-OpenSSH_9.0\r\n\r\n", CLOSE))
    with pytest.raises(errors.APIResponseError, match="does not speak HTTP"):
        connect(server, attempts=1).create()


def test_every_error_and_repr_is_without_the_key(connect, server):
    echo = {"error": {"message": f"key {KEY}", "code": KEY, "type": KEY, "param": KEY}}
    server.play(
        reply(401, echo, x_request_id=KEY),
        reply(200, echo, x_request_id=KEY),
        reply(200, KEY.encode(), x_request_id=KEY),
        (STREAM + chunk(event(echo)) + END,),
        (f"{KEY}\r\n\r\n".encode(), CLOSE),
        (CLOSE,),
    )
    driver = connect(server, attempts=1)
    for stream in (False, False, False, True, False, False):
        with pytest.raises(errors.APIError) as caught:
            driver.create(stream=stream)
        error = caught.value
        assert KEY not in f"{error}{error!r}{vars(error)}{error.args}{error.hint}"
        assert KEY not in f"{error.__cause__!r}"
    assert KEY not in f"{driver.client!r}{driver.client._options!r}{driver.client.chat!r}"
    assert len(server.requests) == 6
    assert ASKED["model"] in server.requests[0].body.decode()
