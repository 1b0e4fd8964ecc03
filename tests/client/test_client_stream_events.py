"""Server-sent events, whatever their line ends and however the network cuts them."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.client.stream import Decoder, ServerEvent
from poeflow.errors import APIResponseError

BREAKS = st.sampled_from([b"\n", b"\r\n", b"\r"])
TEXTS = st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=["Cs"]), max_size=8)
LINES = st.one_of(
    TEXTS.map(lambda text: f"data: {text}"),
    TEXTS.map(lambda text: f"data:{text}"),
    TEXTS.map(lambda text: f": {text}"),
    TEXTS.map(lambda text: f"id: {text}"),
    st.sampled_from(["data", "event", "event: error", "event:ping", "retry: 10", "", "", "odd"]),
)


def decoded(*pieces: bytes, **limits: int) -> list[ServerEvent]:
    decoder = Decoder(**limits)
    return [event for piece in pieces for event in decoder.feed(piece)]


def by_the_standard(lines: list[str]) -> list[ServerEvent]:
    """The standard's own algorithm, read line by line, slowly."""
    events, data, kind = [], "", ""
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if data:
                events.append(ServerEvent(data.removesuffix("\n").encode(), kind or "message"))
            data, kind = "", ""
        elif field == "data":
            data += value + "\n"
        elif field == "event":
            kind = value
    return events


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[ServerEvent]]:
    lines = draw(st.lists(LINES, max_size=12))
    body = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    for index, line in enumerate(lines):
        broken = draw(BREAKS)
        if broken == b"\n" and body.endswith(b"\r") and line == "" and index:
            broken = b"\r"  # a lone CR followed by a lone LF would be one break
        body += line.encode() + broken
    return body, by_the_standard(lines)


@given(streams(), st.data())
def test_any_framing_cut_anywhere_gives_the_events_of_the_standard(stream, data):
    body, expected = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    edges = [0, *cuts, len(body)]
    pieces = [body[start:stop] for start, stop in itertools.pairwise(edges)]
    assert decoded(body) == expected
    assert decoded(*pieces) == expected
    assert decoded(*(body[at : at + 1] for at in range(len(body)))) == expected


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_of_one_event_are_joined(end):
    body = f"event: note{end}data: one{end}: a comment{end}data:  two{end}data{end}{end}"
    assert decoded(body.encode()) == [ServerEvent(b"one\n two\n", "note")]


def test_a_character_cut_in_two_is_whole_again():
    euro = "€".encode()
    assert decoded(b"data: " + euro[:1], euro[1:] + b"\n\n") == [ServerEvent(euro)]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_cr_and_lf_end_a_line(separator):
    data = f'{{"a": "x{separator}y"}}'.encode()
    assert decoded(b"data: " + data + b"\n\n") == [ServerEvent(data)]


def test_a_byte_order_mark_is_dropped_once_and_only_at_the_start():
    mark = b"\xef\xbb\xbf"
    assert decoded(mark + b"data: a\n\n" + mark + b"data: b\n\ndata: " + mark + b"\n\n") == [
        ServerEvent(b"a"),
        ServerEvent(mark),
    ]


def test_an_event_without_its_blank_line_is_dropped():
    assert decoded(b"data: a\n\ndata: b\n") == [ServerEvent(b"a")]


def test_an_event_name_does_not_outlive_its_event():
    assert decoded(b"event: error\n\ndata: a\n\n") == [ServerEvent(b"a")]


@pytest.mark.parametrize(
    "body",
    [
        b"data: " + b"x" * 95 + b"\n",
        b": " + b"x" * 99 + b"\n",
        b"x" * 101,
        b"data: " + b"x" * 60 + b"\ndata: " + b"x" * 60 + b"\n",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_or_event_over_the_limit_is_refused(body, size):
    pieces = (body[at : at + size] for at in range(0, len(body), size))
    with pytest.raises(APIResponseError, match="longer than 100 bytes"):
        decoded(*pieces, max_line=100)


def test_a_line_at_the_limit_is_taken():
    line = b"data: " + b"x" * 94
    assert decoded(line + b"\n\n", max_line=100) == [ServerEvent(b"x" * 94)]


def test_time_grows_with_the_bytes_and_not_with_their_square():
    def seconds(count: int) -> float:
        began = time.process_time()
        decoder = Decoder()
        for _ in range(count):
            decoder.feed(b"x" * 64)
        decoder.feed(b"\n\n")
        return time.process_time() - began

    small = min(seconds(5_000) for _ in range(3))
    assert seconds(50_000) < 40 * small + 0.05
