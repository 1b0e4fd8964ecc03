"""HTTP/1.1 without a socket: heads, bodies in every framing, requests in segments."""

import base64
import tracemalloc

import msgspec
import pytest
from client_desk import reply, whole
from hypothesis import given
from hypothesis import strategies as st

from poeflow.client.calls import chat_body
from poeflow.client.http.wire import Body, HttpCodec, WireRequest, origin_of
from poeflow.client.messages import (
    ChatRequest,
    DataUrl,
    FileData,
    FilePart,
    ImagePart,
    ImageUrl,
    Message,
    TextPart,
)
from poeflow.errors import APIResponseError

ORIGIN = origin_of("http://127.0.0.1:8000")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: Chunked\r\n\r\n"


def received(*parts: bytes, ends: bool = False) -> tuple[bytes, HttpCodec]:
    """Feed a response in parts, as a connection would."""
    talk, body, has_head = HttpCodec(), b"", False
    for part in filter(None, parts):
        if has_head:
            body += talk.receive_body(part)
        elif talk.receive_head(part) is not None:
            has_head, body = True, talk.first_body()
        talk.check()
    if ends:
        talk.end()
    return body, talk


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 60), st.booleans())
def test_a_chunked_body_is_the_same_whatever_the_cut(pieces, size, with_extras):
    extension, trailer = (b"; a=b", b"x-t: 1\r\n") if with_extras else (b"", b"")
    body = b"".join(b"%X%s\r\n%s\r\n" % (len(p), extension, p) for p in pieces)
    found, talk = received(*cut(CHUNKED + body + b"0\r\n" + trailer + b"\r\n", size))
    assert (found, talk.is_complete, talk.may_reuse) == (b"".join(pieces), True, True)


@given(st.binary(max_size=100), st.integers(1, 60))
def test_a_body_of_known_length_is_the_same_whatever_the_cut(body, size):
    head = OK + b"Content-Length: %d\r\n\r\n" % len(body)
    found, talk = received(*cut(head + body, size))
    assert (found, talk.is_complete, talk.may_reuse) == (body, True, True)


@given(st.binary(max_size=100), st.integers(1, 60))
def test_a_body_without_length_ends_with_the_connection(body, size):
    found, talk = received(*cut(OK + b"\r\n" + body, size))
    assert (found, talk.is_complete) == (body, False)
    assert (talk.end(), talk.is_complete, talk.may_reuse) == (True, True, False)


@pytest.mark.parametrize("body", [b"5\r\nHel", b"5\r\nHello\r\n", b"5\r\nHello\r\n0\r\n", b"5"])
def test_a_chunked_body_cut_short_has_no_proper_end(body):
    talk = received(CHUNKED + body)[1]
    assert (talk.is_complete, talk.end()) == (False, False)


def test_a_counted_body_cut_short_has_no_proper_end():
    talk = received(OK + b"Content-Length: 5\r\n\r\nHel")[1]
    assert (talk.is_complete, talk.end()) == (False, False)


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x5\r\nHello\r\n",
        b"5\r\nHelloXX",
        b"\r\n",
        b" \r\n",
        b"+5\r\nHello",
        b"1_0\r\n",
        b"f" * 13 + b"\r\n",
        b"5" + b" " * 70_000,
    ],
)
@pytest.mark.parametrize("size", [1, 1_000_000])
def test_broken_chunks_are_refused(body, size):
    parts = [CHUNKED, *cut(body[:10], size), body[10:]]
    with pytest.raises(APIResponseError, match="chunks are broken"):
        received(*parts)


@pytest.mark.parametrize(
    "response",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 banana\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        OK + b"Content-Length: -5\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        OK + b"X: " + b"x" * 70_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(response):
    with pytest.raises(APIResponseError, match="does not speak HTTP"):
        received(response, b"\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "may_reuse"),
    [
        (b"HTTP/1.1 200 OK\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: x-a, close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
    ],
)
def test_a_connection_is_kept_where_both_sides_would(head, may_reuse):
    assert received(head + b"Content-Length: 2\r\n\r\nab")[1].may_reuse is may_reuse


@pytest.mark.parametrize("extra", [b"x", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_connection_with_more_than_the_answer_is_not_kept(extra):
    for response in (OK + b"Content-Length: 2\r\n\r\nab", CHUNKED + b"2\r\nab\r\n0\r\n\r\n"):
        body, talk = received(response + extra)
        assert (body, talk.is_complete, talk.may_reuse) == (b"ab", True, False)


def test_informational_responses_are_passed_over():
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    assert received(*cut(early + reply(), 7))[0] == msgspec.json.encode(whole())


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_statuses_have_no_body(status):
    talk = received(b"HTTP/1.1 " + status + b"\r\n\r\n")[1]
    assert talk.is_complete


def test_a_request_has_one_host_and_one_length():
    request = WireRequest(
        origin=ORIGIN, target="/v1?a=b", headers=(("x-a", "1"),), body=Body((b"abc",))
    )
    assert request.head() == (
        b"POST /v1?a=b HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nx-a: 1\r\ncontent-length: 3\r\n\r\n"
    )
    got = WireRequest(origin=ORIGIN, target="/", method="GET")
    assert got.head() == b"GET / HTTP/1.1\r\nhost: 127.0.0.1:8000\r\n\r\n"


def test_another_body_has_its_own_length():
    first = WireRequest(origin=ORIGIN, target="/", headers=(("x-a", "1"),), body=Body((b"abc",)))
    before, second = first.head(), first.with_body(Body((b"four",)))
    assert second.head() == before.replace(b"length: 3", b"length: 4")
    assert (first.head(), second.body) == (before, Body((b"four",)))


@pytest.mark.parametrize(
    ("target", "header"),
    [
        ("/", ("x-a", "1\r\nx-b: 2")),
        ("/", ("x-a\r\nx-b", "1")),
        ("/ HTTP/1.1\r\nx: ", ("x-a", "1")),
        ("/", ("x-a", "é")),
        ("/é", ("x-a", "1")),
    ],
)
def test_nothing_is_smuggled_into_a_head(target, header):
    request = WireRequest(origin=ORIGIN, target=target, headers=(header,))
    with pytest.raises(
        ValueError, match=r"^a header or the address has characters that HTTP does not allow$"
    ):
        request.head()


def asked(spell) -> ChatRequest:
    """A request whose attachments are spelled by `spell(media_type, data)`."""
    parts = (
        TextPart(text='Look: "data:image/png;base64,"'),
        ImagePart(image_url=ImageUrl(url=spell("image/png", b"\x89PNG"), detail="low")),
        ImagePart(image_url=ImageUrl(url="https://poe.example/a.png")),
        FilePart(file=FileData(filename='a "b".pdf', file_data=spell("application/pdf", PDF))),
        FilePart(file=FileData(filename="empty.txt", file_data=spell("text/plain", b""))),
    )
    messages = (Message(role="system", content="Be brief."), Message(role="user", content=parts))
    return ChatRequest(
        model="Grok-4", messages=messages, params={"top_p": 1}, extra_body={"a": [1]}, stream=True
    )


PDF = bytes(range(256)) * 1700


def in_one_string(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def test_attachments_in_segments_are_the_bytes_of_the_one_string_body():
    in_segments = chat_body(asked(lambda kind, data: DataUrl(media_type=kind, data=data)))
    plain = chat_body(asked(in_one_string))
    sent = b"".join(in_segments.pieces())
    assert sent == b"".join(plain.pieces())
    assert len(sent) == in_segments.length == plain.length
    assert len(plain.segments) == 1
    assert sent == b"".join(in_segments.pieces())
    assert msgspec.json.decode(sent)["messages"][1]["content"][3]["file"] == {
        "filename": 'a "b".pdf',
        "file_data": in_one_string("application/pdf", PDF),
    }


@given(st.binary(max_size=50))
def test_a_data_url_knows_its_length(data):
    assert len(DataUrl(media_type="text/plain", data=data)) == len(
        in_one_string("text/plain", data)
    )


def test_a_large_attachment_is_never_whole_in_memory_twice():
    data = bytes(8 * 1024 * 1024)
    file = FileData(filename="a", file_data=DataUrl(media_type="a/b", data=data))
    message = Message(role="user", content=(FilePart(file=file),))
    tracemalloc.start()
    body = chat_body(ChatRequest(model="m", messages=(message,)))
    assert sum(map(len, body.pieces())) == body.length
    assert max(map(len, body.pieces())) <= 256 * 1024
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1024 * 1024
