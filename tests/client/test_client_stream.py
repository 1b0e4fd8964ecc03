"""Bodies become chunks and one completion, whatever was left out, cut or packed."""

import contextlib
import gzip
import random
import tracemalloc
import zlib

import msgspec
import pytest
from client_desk import DONE, KEY, event, piece
from hypothesis import assume, given
from hypothesis import strategies as st

from poeflow import errors
from poeflow.client.stream import ChunkReader, Unpacking, body_kind, whole_completion
from poeflow.redact import Scrubber, Secret

SCRUBBER = Scrubber(Secret(KEY))


def read(*parts: bytes) -> ChunkReader:
    reader = ChunkReader(request_id="req-1", scrubber=SCRUBBER)
    for part in parts:
        reader.feed(part)
    reader.end()
    return reader


def test_chunks_are_put_together_like_an_unstreamed_answer():
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    reader = read(
        event(piece("", role="assistant")),
        event(piece("Hel")) + event(piece("lo")),
        event({**piece(finish="stop"), "model": "grok-4"}),
        event({"id": "c1", "choices": [], "usage": usage, "provider": "x"}) + DONE,
    )
    assert reader.is_done
    assert reader.completion().raw == {
        "object": "chat.completion",
        "id": "c1",
        "model": "grok-4",
        "usage": usage,
        "provider": "x",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "finish_reason": "stop",
            }
        ],
    }
    assert reader.completion().request_id == "req-1"


@given(st.lists(st.integers(1, 400), max_size=20))
def test_any_cut_of_the_stream_gives_the_same_answer(cuts):
    body = event(piece("Grüße \u2028 ", reasoning="hm")) + event(piece("☃", finish="stop")) + DONE
    parts, rest = [], body
    for cut in cuts:
        parts.append(rest[:cut])
        rest = rest[cut:]
    whole, cut = read(body), read(*parts, rest)
    assert cut.completion() == whole.completion()
    assert whole.completion().text == "Grüße \u2028 ☃"


@pytest.mark.parametrize(
    "chunk",
    [
        {},
        {"choices": None},
        {"choices": [None, 3, {}]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": {"content": None, "tool_calls": None, "role": None}}]},
        {"choices": [{"delta": {"content": 3, "tool_calls": [None, {"function": None}]}}]},
        {"usage": None, "choices": [{"index": None, "delta": {}, "finish_reason": 0}]},
    ],
)
def test_null_missing_and_mistyped_values_are_taken_as_absent(chunk):
    reader = read(event(chunk), event(piece("ok", finish="stop")), DONE)
    assert reader.completion().text == "ok"


def test_done_without_a_finish_reason_is_flagged():
    assert read(event(piece("Hello")), DONE).completion().flag == "no_finish"


def test_a_finish_reason_without_done_is_complete():
    assert read(event(piece("Hello", finish="stop"))).completion().flag is None


@pytest.mark.parametrize("parts", [[], [b": ping\n\n"], [b"data: {"], [event(piece("Hel"))]])
def test_a_stream_without_an_end_is_truncated_and_carries_what_arrived(parts):
    with pytest.raises(errors.TruncatedStreamError) as caught:
        read(*parts)
    assert caught.value.request_id == "req-1"
    assert caught.value.completion.text == ("Hel" if parts == [event(piece("Hel"))] else "")


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"error": {"message": "slow down", "code": 429}}, errors.RateLimitError),
        ({"error": {"message": "no", "type": "moderation_error"}}, errors.ModerationError),
        ({"error": {"message": "no", "code": "insufficient_points"}}, None),
        ({"error": "it broke"}, errors.InternalServerError),
        ({"error": {"type": "overloaded_error"}}, errors.OverloadedError),
    ],
)
def test_an_error_key_in_a_stream_is_the_error_it_names(told, error):
    error = error or errors.InsufficientCreditsError
    with pytest.raises(error) as caught:
        read(event(piece("Hel")), event(told))
    assert type(caught.value) is error
    assert caught.value.body == told
    assert caught.value.request_id == "req-1"


@pytest.mark.parametrize(
    ("data", "error", "may_retry"),
    [
        (b'{"text": "no", "allow_retry": false}', errors.BadRequestError, False),
        (b'{"text": "no", "allow_retry": true}', errors.InternalServerError, True),
        (b"it broke", errors.InternalServerError, True),
    ],
)
def test_an_error_event_is_an_error(data, error, may_retry):
    with pytest.raises(error) as caught:
        read(b"event: error\ndata: " + data + b"\n\n")
    assert type(caught.value) is error
    assert caught.value.may_retry is may_retry
    assert str(caught.value).startswith(("no", "it broke"))


@pytest.mark.parametrize("data", [b"Hello", b"[1]", b"<html>", b"[" * 100_000])
def test_what_is_no_chunk_is_an_error(data):
    with pytest.raises(errors.APIResponseError, match="not a chunk"):
        read(b"data: " + data + b"\n\n")


def test_a_finish_reason_error_is_an_error_streamed_or_not():
    with pytest.raises(errors.APIResponseError, match="ended with an error"):
        read(event(piece("x", finish="error")))
    whole = {"choices": [{"message": {"content": "x"}, "finish_reason": "error"}]}
    with pytest.raises(errors.APIResponseError, match="ended with an error"):
        whole_completion(msgspec.json.encode(whole), request_id=None, scrubber=SCRUBBER)


@pytest.mark.parametrize("finish", ["error", "ERROR", "network_error"])
def test_the_reason_beside_a_failed_end_is_told(finish):
    failed = {"finish_reason": finish, "error": {"message": f"out of {KEY}", "code": 502}}
    with pytest.raises(errors.APIResponseError) as streamed:
        read(event({"choices": [{"delta": {"content": "x"}, **failed}]}))
    content = msgspec.json.encode({"choices": [{"message": {"content": "x"}, **failed}]})
    with pytest.raises(errors.APIResponseError) as unstreamed:
        whole_completion(content, request_id=None, scrubber=SCRUBBER)
    for caught in (streamed.value, unstreamed.value):
        assert str(caught) == "the model ended with an error: out of [key]"


def test_a_lone_half_of_a_character_becomes_the_mark_of_one_streamed_or_not():
    reader = read(b'data: {"choices":[{"delta":{"content":"a\\ud800b"}}]}\n\n' + DONE)
    assert reader.completion().text == "a\ufffdb"
    content = b'{"choices":[{"message":{"content":"a\\ud800b"}}]}'
    answer = whole_completion(content, request_id=None, scrubber=SCRUBBER)
    assert answer.text == "a\ufffdb"


def test_pings_and_empty_events_are_nothing():
    reader = read(b"event: ping\ndata: {}\n\ndata:\n\ndata:  \n\n" + event(piece("a")) + DONE)
    assert reader.completion().text == "a"


def test_nothing_after_done_is_read():
    reader = read(
        event(piece("a", finish="stop")) + DONE + event(piece("b")) + b"data: rubbish\n\n"
    )
    reader.feed(event(piece("c")))
    assert (reader.completion().text, len(reader.chunks)) == ("a", 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>busy</html>", "the server answered with a web page"),
        (b"  <!doctype html>", "the server answered with a web page"),
        (b"Hello", "something that is not JSON"),
        (b"", "the server answered with nothing"),
        (b" \n", "the server answered with nothing"),
        (b"[" * 100_000, "something that is not JSON"),
        (b"{}", "the answer has no choices"),
        (b'{"choices": []}', "the answer has no choices"),
        (b'{"choices": null}', "the answer has no choices"),
        (b"[]", "the answer has no choices"),
    ],
)
def test_a_body_that_is_no_answer_is_an_error(content, message):
    with pytest.raises(errors.APIResponseError, match=message) as caught:
        whole_completion(content, request_id="req-1", scrubber=SCRUBBER)
    assert caught.value.request_id == "req-1"


def test_an_error_key_in_a_whole_answer_is_an_error():
    content = msgspec.json.encode({"error": {"message": f"{KEY} is wrong", "code": 401}})
    with pytest.raises(errors.AuthenticationError) as caught:
        whole_completion(content, request_id="req-1", scrubber=SCRUBBER)
    assert KEY not in str(caught.value) + repr(caught.value.body)


@given(st.binary(max_size=300), st.integers(1, 9), st.integers(1, 64))
def test_packed_bodies_are_unpacked_whatever_the_cut(data, repeat, size):
    for pack in (gzip.compress, zlib.compress):
        packed = pack(data * repeat)
        unpacking = Unpacking("gzip")
        pieces = (packed[at : at + size] for at in range(0, len(packed), size))
        assert b"".join(map(unpacking.feed, pieces)) == data * repeat


@pytest.mark.parametrize("extra", [0, 1, 100, 258, 1000])
def test_nothing_stays_behind_in_the_decompressor(extra):
    data = b"a" * (1024 * 1024 + extra)
    assert Unpacking("gzip").feed(gzip.compress(data)) == data


def sound_part(packed):
    """Return what decompresses before the first broken byte."""
    unpacking, found = zlib.decompressobj(wbits=47), b""
    try:
        for at in range(len(packed)):
            found += unpacking.decompress(packed[at : at + 1])
    except zlib.error as error:
        assume("check" not in str(error))  # then nothing is sound
    return found


@given(
    st.integers(0, 10_000),
    st.sampled_from([1, 40, 3_000]),
    st.integers(20, 50_000),
    st.sampled_from([10, 700, 20_000]),
)
def test_what_is_sound_before_a_broken_byte_is_kept_wherever_it_is(seed, repeat, place, most):
    dice = random.Random(seed)
    lines = [b"%d " % dice.getrandbits(64) * repeat for _ in range(100_000 // repeat // 10)]
    packed = gzip.compress(b"".join(lines))[:place] + dice.randbytes(60)
    expected = sound_part(packed)
    unpacking, found, at = Unpacking("gzip"), b"", 0
    with contextlib.suppress(errors.APIResponseError):
        while at < len(packed):
            size = dice.randint(1, most)
            found += unpacking.feed(packed[at : at + size])
            unpacking.check()
            at += size
    assert found == expected


def test_what_is_sound_is_kept_where_much_of_it_is_known():
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(bytes(3_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    for at in (0, 1_000, 2_000):
        unpacking = Unpacking("gzip")
        found = [unpacking.feed(packed[:at]), unpacking.feed(packed[at:] + b"\xff" * 9)]
        assert b"".join(found) == bytes(3_000_000)


def test_a_bomb_is_stopped_early():
    bomb = gzip.compress(bytes(300 * 1024 * 1024), 1)
    tracemalloc.start()
    with pytest.raises(errors.APIResponseError, match="larger than 67108864 bytes"):
        Unpacking("gzip").feed(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80 * 1024 * 1024


def test_other_encodings_and_broken_ones_are_refused():
    with pytest.raises(errors.APIResponseError, match="compressed with br"):
        Unpacking("br")
    with pytest.raises(errors.APIResponseError, match="compression is broken"):
        Unpacking("gzip").feed(b"no gzip at all")
    with pytest.raises(errors.APIResponseError, match="larger than 10 bytes"):
        Unpacking("", limit=10).feed(b"x" * 11)


def test_what_no_body_says_is_named_by_its_type():
    with pytest.raises(errors.APIResponseError) as caught:
        whole_completion(
            b"Hello", request_id=None, scrubber=SCRUBBER, content_type=f"text/x; {KEY}"
        )
    assert str(caught.value) == (
        "the server answered with something that is not JSON (text/x; [key]); check the base URL"
    )


@pytest.mark.parametrize("end", [b"", b"\n", b"\r"])
def test_the_last_event_needs_no_blank_line(end):
    usage = {"prompt_tokens": 1, "completion_tokens": 2}
    answer = read(event(piece("Hi", finish="stop")).rstrip() + end).completion()
    assert (answer.text, answer.flag) == ("Hi", None)
    ended = read(event(piece("Hi", finish="stop")), event({"usage": usage}).rstrip() + end)
    assert ended.completion().usage.raw == usage
    assert read(event(piece("Hi")) + b"data: [DONE]" + end).completion().flag == "no_finish"


def test_an_answer_cut_in_its_last_event_is_what_came_before():
    answer = read(event(piece("Hi", finish="stop")) + b'data: {"usage": {"prompt_to').completion()
    assert (answer.text, answer.usage) == ("Hi", None)


@pytest.mark.parametrize("end", [b"[done]", b"[Done]", b" [DONE]", b"[DONE] "])
def test_the_mark_of_the_end_in_any_case(end):
    reader = read(event(piece("Hi", finish="stop")) + b"data:" + end + b"\n\n" + b"data: 3\n\n")
    assert reader.completion().text == "Hi"


def test_null_is_nothing():
    assert read(b"data: null\n\n" + event(piece("Hi")) + DONE).completion().text == "Hi"


def test_events_without_blank_lines_between_them_are_read():
    body = event(piece("a")).rstrip() + b"\n" + event(piece("b", finish="stop")).rstrip() + b"\n"
    assert read(body + DONE).completion().text == "ab"
    broken = b'data: {"a":\ndata: 1}\n\n'  # one document over two lines, as the standard has it
    assert read(broken + event(piece("c")) + DONE).completion().text == "c"


@pytest.mark.parametrize(
    "body", [DONE, b": ping\n\n" + DONE, event({"usage": {"prompt_tokens": 1}}) + DONE]
)
def test_a_stream_without_an_answer_is_an_error(body):
    with pytest.raises(errors.APIResponseError, match="ended without an answer") as caught:
        read(body)
    assert (type(caught.value), caught.value.exit_code) == (errors.APIResponseError, 6)


@pytest.mark.parametrize(
    ("told", "error"),
    [
        ({"object": "error", "message": "no", "code": 400}, errors.BadRequestError),
        ({"object": "error", "message": "no", "code": "404"}, errors.NotFoundError),
        ({"object": "error", "message": "no"}, errors.InternalServerError),
        ({"type": "error", "message": "no"}, errors.InternalServerError),
        ({"detail": "no"}, errors.InternalServerError),
        ({"errors": ["no"], "status": 429}, errors.RateLimitError),
        ({"message": "no", "status_code": 503}, errors.InternalServerError),
    ],
)
def test_an_error_of_any_shape_in_place_of_an_answer_is_one(told, error):
    with pytest.raises(error) as streamed:
        read(event(piece("Hel")) + event(told))
    with pytest.raises(error) as unstreamed:
        whole_completion(msgspec.json.encode(told), request_id=None, scrubber=SCRUBBER)
    for caught in (streamed.value, unstreamed.value):
        assert type(caught) is error
        assert caught.message == f"no ({caught.status_code})"


def test_a_chunk_may_carry_a_message_of_the_servers():
    chunk = {**piece("Hi", finish="stop"), "message": "queued", "detail": "x"}
    assert read(event(chunk)).completion().text == "Hi"


@pytest.mark.parametrize(
    "body",
    [
        event(piece("Hi", finish="stop")) + DONE,
        b"\xef\xbb\xbf" + event(piece("Hi", finish="stop")),
        b": hello\n\n" + event(piece("Hi", finish="stop")),
        b"\n\nevent: message\n" + event(piece("Hi", finish="stop")),
    ],
)
def test_a_server_that_streams_unasked_is_understood(body):
    assert whole_completion(body, request_id=None, scrubber=SCRUBBER).text == "Hi"


def test_a_byte_order_mark_before_an_answer_is_nothing():
    content = b"\xef\xbb\xbf" + msgspec.json.encode({"choices": [{"message": {"content": "a"}}]})
    assert whole_completion(content, request_id=None, scrubber=SCRUBBER).text == "a"


@pytest.mark.parametrize(
    ("beginning", "content_type", "kind"),
    [
        (b"", "", None),
        (b"\n ", "text/event-stream", None),
        (b"dat", "application/json", None),
        (b"data:", "text/plain", "stream"),
        (b":", "", "stream"),
        (b"id: 1", "", "stream"),
        (b"{", "text/event-stream", "whole"),
        (b"<", "text/event-stream", "whole"),
        (b"database is down", "text/plain", "whole"),
        (b"comment", "Text/Event-Stream; charset=utf-8", "stream"),
        (b"Hello", "", "whole"),
    ],
)
def test_how_a_body_is_read(beginning, content_type, kind):
    assert body_kind(beginning, content_type) == kind


@given(st.binary(min_size=1, max_size=300), st.integers(1, 64))
def test_deflate_with_and_without_its_head(data, size):
    bare = zlib.compressobj(wbits=-15)
    for packed in (zlib.compress(data), bare.compress(data) + bare.flush()):
        unpacking = Unpacking("deflate")
        pieces = (packed[at : at + size] for at in range(0, len(packed), size))
        assert b"".join(map(unpacking.feed, pieces)) == data


def test_gzip_in_several_members_is_one_body():
    assert Unpacking("gzip").feed(gzip.compress(b"a") + gzip.compress(b"b")) == b"ab"
