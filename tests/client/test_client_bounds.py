"""A server cannot keep a core busy, nor fill the memory, with what is no answer."""

import zlib

import pytest
from client_desk import END, KEY, STREAM, Driver, chunk, event, piece, reply, streamed

from poeflow import errors
from poeflow.client.answers import Completion
from poeflow.client.bounds import MAX_CALLS, MAX_CHOICES, MAX_EVENTS, MAX_KEYS, StreamWork
from poeflow.client.http.wire import HeadReader
from poeflow.client.stream import ChunkReader, whole_completion
from poeflow.redact import Scrubber, Secret

SCRUBBER = Scrubber(Secret(KEY))
STREAMED = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"
IDLE = "the stream goes on and the answer does not"
PIECES = "the answer comes in too many pieces of fewer than 6 bytes"
HEAVY = "the values of the answer take too many bytes of memory"


def calls(count: int) -> bytes:
    return event(piece(tool_calls=[{"index": index} for index in range(count)]))


def read(driver: Driver) -> Completion:
    stream = driver.create(stream=True)
    found: Completion = driver.do(lambda _: stream.final())
    return found


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (STREAMED + b"data: {}\n\n" * 30_000, IDLE),
        (STREAMED + b"event: ping\ndata: {}\n\n" * 30_000, IDLE),
        (STREAMED + b"data:\n\n" * 30_000, IDLE),
        (STREAMED + event(piece("")) * 30_000, IDLE),
        (STREAMED + b":\n" * 2_100_000, "the stream has too many lines"),
        (STREAMED + b"data\n" * 2_100_000, "the stream has too many lines"),
        (STREAM + b"1\r\n:\r\n" * 11_000, PIECES),
        (STREAM + b"0\r\n" + b"x: y\r\n" * 200, "the answer has too many trailers"),
        (INTERIM * 200, "too many interim responses (1xx) came before an answer"),
        (STREAMED + calls(1500), "the answer has more than 1,000 tool calls"),
        (STREAMED + event({"choices": [{"index": n} for n in range(200)]}), "128 choices"),
        (STREAMED + event(piece(**{f"k{n}": 1 for n in range(1500)})), "1,000 keys"),
        (STREAMED + event({f"k{n}": 1 for n in range(1500)}), "1,000 keys"),
        (STREAMED + event({"choices": [{f"k{n}": 1 for n in range(1500)}]}), "1,000 keys"),
    ],
)
def test_what_is_no_answer_is_not_read_on(server, connect, answer, told):
    server.play((answer, "close"))
    with pytest.raises(errors.AnswerTooLargeError) as caught:
        read(connect(server))
    assert told in caught.value.message
    assert len(server.requests) == 1


def test_an_unstreamed_answer_is_weighed_before_it_is_decoded(server, connect):
    body = b'{"choices":[{"message":{"content":"x"}}],"x":[' + b"[]," * 4_500_000 + b"[]]}"
    server.play(reply(body=body))
    with pytest.raises(errors.AnswerTooLargeError, match=HEAVY):
        connect(server).create()


def test_lists_that_come_in_pieces_are_weighed_together():
    odds = {"choices": [{"logprobs": {"content": [{}] * 20_000}}]}
    reader = ChunkReader(request_id=None, scrubber=SCRUBBER)
    chunks = map(reader.feed, [event(odds)] * 1000)
    with pytest.raises(errors.AnswerTooLargeError, match=HEAVY):
        list(chunks)


def test_one_call_has_so_many_keys():
    reader = ChunkReader(request_id=None, scrubber=SCRUBBER)
    for within in ({}, {"function": {}}):
        many = {f"k{n}": "x" for n in range(MAX_KEYS + 1)}
        call = {"function": many} if within else many
        with pytest.raises(errors.AnswerTooLargeError, match="keys"):
            reader.feed(event(piece(tool_calls=[call])))


def test_fragments_without_an_index_go_with_their_id_or_the_last_call():
    many = [{"index": n, "id": f"c{n}"} for n in range(MAX_CALLS)]
    reader = ChunkReader(request_id=None, scrubber=SCRUBBER)
    reader.feed(event(piece(tool_calls=many)))
    last = {"id": f"c{MAX_CALLS - 1}", "function": {"arguments": "a"}}
    reader.feed(event(piece(tool_calls=[last, {"function": {"arguments": "b"}}] * 2)))
    found = reader.completion().choices[0].message.tool_calls
    assert (len(found), found[-1].function.arguments) == (MAX_CALLS, "abab")


def test_what_models_do_say_is_far_below():
    idle = b": still thinking\n\n" + event(piece("")) * 2_000
    reader = ChunkReader(request_id=None, scrubber=SCRUBBER)
    for text in ("a", "b", "c"):
        reader.feed(idle + event(piece(text)))
    for _ in range(30):
        reader.feed(event(piece("word ")) * 1000)
    many = [{"index": n, "function": {"name": "f", "arguments": "{}"}} for n in range(64)]
    reader.feed(event(piece(tool_calls=many)))
    reader.feed(event(piece(finish="stop")))
    reader.end()
    answer = reader.completion()
    assert len(answer.text) == 3 + 5 * 30_000
    assert len(answer.message.tool_calls) == 64


def test_many_choices_are_an_answer():
    choices = [{"index": n, "delta": {"content": "x"}} for n in range(MAX_CHOICES)]
    reader = ChunkReader(request_id=None, scrubber=SCRUBBER)
    reader.feed(event({"choices": choices}))
    assert len(reader.completion().choices) == MAX_CHOICES


def test_so_many_events_make_no_answer():
    effort = StreamWork()
    for progress in range(MAX_EVENTS):
        effort.event(b"{}", progress)
    with pytest.raises(errors.AnswerTooLargeError, match="the stream has too many events"):
        effort.event(b"{}", MAX_EVENTS)


def test_a_few_interim_responses_are_heeded():
    reader = HeadReader()
    assert reader.feed(INTERIM * 100) is None
    head = reader.feed(reply())
    assert head is not None
    assert head.status == 200


def test_prose_with_many_commas_is_an_answer():
    text = "a, b, {c}, " * 100_000
    body = b'{"choices":[{"message":{"content":"' + text.encode() + b'"}}]}'
    assert whole_completion(body, request_id=None, scrubber=SCRUBBER).text == text


@pytest.mark.parametrize("text", ["a", None])
def test_a_long_stream_that_is_packed_event_by_event_is_one(server, connect, text):
    packer = zlib.compressobj(wbits=31)
    said = [text or f" word {n}" for n in range(30_000)]
    events = [*(event(piece(one)) for one in said), event(piece(finish="stop"))]
    packed = [packer.compress(one) + packer.flush(zlib.Z_SYNC_FLUSH) for one in events]
    head = STREAM.replace(b"\r\n\r\n", b"\r\ncontent-encoding: gzip\r\n\r\n")
    server.play(head + b"".join(map(chunk, [*packed, packer.flush()])) + END)
    assert read(connect(server)).text == "".join(said)


def test_an_answer_byte_by_byte_is_one(server, connect):
    server.play(tuple(bytes([one]) for one in streamed("Hello")))
    assert read(connect(server)).text == "Hello"
