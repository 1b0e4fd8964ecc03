"""The quick reader of heads says what h11 says, or leaves it to h11."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poeflow.client.http.wire import Head, HeadReader
from poeflow.errors import APIResponseError

NAMES = st.sampled_from(
    ["Content-Length", "content-length", "Transfer-Encoding", "Connection", "X-A", "x-a", "x!", ""]
)
VALUES = st.one_of(
    st.sampled_from(["0", "5", "05", "chunked", "Chunked", "gzip", "close", "5, 5", "-1", " a\t"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=6),
    st.text(st.characters(max_codepoint=255), max_size=3),
    st.just("9" * 30),
)
STARTS = st.sampled_from(
    [
        "HTTP/1.1 200 OK",
        "HTTP/1.1 404",
        "HTTP/1.1 500 ",
        "HTTP/1.0 200 OK",
        "HTTP/1.1 700 X",
        "HTTP/2 200 OK",
        "HTTP/1.1 20 OK",
        "http/1.1 200 OK",
        "HTTP/1.1  200 OK",
        "HTTP/1.1 204 é",
    ]
)


def read(data: bytes, size: int) -> tuple[Head, bytes] | str | None:
    """Read in pieces of `size`: one byte at a time is all h11's work."""
    reader = HeadReader()
    for at in range(0, len(data), size):
        try:
            head = reader.feed(data[at : at + size])
        except APIResponseError as error:
            return str(error)
        if head is not None:
            if coding := head.headers.get("transfer-encoding"):
                head.headers["transfer-encoding"] = coding.lower()  # as h11 gives it
            return head, reader.rest + data[at + size :]
    return None


@given(STARTS, st.lists(st.tuples(NAMES, VALUES), max_size=4), st.sampled_from([b"", b"abc\r\n"]))
@example("HTTP/1.1 200 OK", [("Content-Length", "5"), ("Transfer-Encoding", "chunked")], b"")
@example("HTTP/1.1 200 OK", [("Content-Length", "5"), ("content-length", "6")], b"")
@example("HTTP/1.1 200 OK", [("Content-Length", "9" * 30)], b"")
@example("HTTP/1.1 200 OK", [("Transfer-Encoding", "gzip")], b"")
@example("HTTP/1.1 200 OK", [("Transfer-Encoding", "Chunked")], b"")
def test_both_readers_agree(start, headers, body):
    lines = [start, *(f"{name}: {value}" for name, value in headers)]
    data = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
    assert read(data, len(data)) == read(data, 1)


def test_a_plain_head_is_read_at_once():
    data = b"HTTP/1.1 200 OK\r\nX-A:  b \r\nx-a: c\r\nContent-Length: 2\r\n\r\nab"
    assert read(data, len(data)) == (Head(200, {"x-a": "b", "content-length": "2"}), b"ab")


@pytest.mark.parametrize("size", [7, 1000, 1_000_000])
def test_a_head_has_a_limit(size):
    data = b"HTTP/1.1 200 OK\r\n" + b"x-a: b\r\n" * 10_000 + b"\r\n"
    assert "does not speak HTTP" in read(data, size)
