"""Chunks that only add text are read in a shorter way, which gives what the long one gives."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.client.answers import CompletionChunk
from poeflow.client.folding import TextChunks
from poeflow.client.stream import ChunkReader, ServerEvent
from poeflow.errors import AnswerTooLargeError, APIStatusError, PoeflowError
from poeflow.redact import Scrubber

HEAD = {"id": "c-1", "object": "chat.completion.chunk", "created": 17, "model": "GPT-4o"}
END = b'{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}'


def chunk(text, *, delta=None, choice=None, **head) -> bytes:
    first = {"index": 0, "delta": {"content": text, **(delta or {})}, "finish_reason": None}
    return json.dumps({**HEAD, **head, "choices": [{**first, **(choice or {})}]}).encode()


class Long(TextChunks):
    """Takes no chunk for one that only adds text."""

    def texts(self, events, found):
        return next(events, None)


def text_of(chunks: TextChunks, data: bytes) -> str | None:
    """Return the text of a chunk like the last one, else None."""
    found: list[str] = []
    event = ServerEvent(data)
    assert chunks.texts(iter([event]), found) is (None if found else event)
    return found[0] if found else None


def outcome(data, monkeypatch, *, is_long: bool, keeps_chunks: bool = True):
    """Return the chunks and the answer, or the error, of a stream of these events."""
    with monkeypatch.context() as patch:
        if is_long:
            patch.setattr("poeflow.client.stream.TextChunks", Long)
        reader = ChunkReader(request_id=None, scrubber=Scrubber(), keeps_chunks=keeps_chunks)
        try:
            reader.feed(b"".join(b"data: %b\n\n" % one for one in (*data, END)))
            reader.end()
            error = ""
        except PoeflowError as raised:
            error = repr(raised)
        assert len(reader.chunks) == (reader.count if keeps_chunks else 0)
        return error, [one.raw for one in reader.chunks], reader.completion().raw


PIECES = st.text(st.sampled_from('ab"\\{}[]:, \n\té\U0001f600content'), max_size=8)
EVENTS = st.one_of(
    PIECES.map(chunk),
    PIECES.map(lambda text: chunk(text, usage={"total_tokens": 1})),
    PIECES.map(lambda text: chunk(text, model="other")),
    PIECES.map(lambda text: chunk(text, choice={"index": 1})),
    PIECES.map(lambda text: chunk(text, choice={"finish_reason": "length"})),
    PIECES.map(lambda text: chunk(text, choice={"logprobs": {"content": [text]}})),
    PIECES.map(lambda text: chunk(text, delta={"reasoning": "so"})),
    PIECES.map(lambda text: chunk(text, delta={"refusal": text})),
    PIECES.map(lambda text: chunk(text, note={"content": text})),
    PIECES.map(lambda text: chunk(text, note='"content":"x"')),
    PIECES.map(lambda text: chunk(text).replace(b"\\u00e9", "é".encode())),
    st.sampled_from(
        [chunk("x")[:-40] + b'"}', b"{}", b"null", chunk("a").replace(b'"a"', b"null")]
    ),
    st.sampled_from([chunk("\ud83d"), chunk("\ude00"), chunk("a").replace(b'"a"', b'"\x01"')]),
)


@given(st.lists(EVENTS, max_size=12))
def test_the_short_way_gives_what_the_long_one_gives(events):
    with pytest.MonkeyPatch.context() as patch:
        short, long = (outcome(events, patch, is_long=is_long) for is_long in (False, True))
    assert short == long


@given(st.lists(EVENTS, max_size=12))
def test_chunks_that_are_only_joined_give_the_same_answer(events):
    with pytest.MonkeyPatch.context() as patch:
        kept = outcome(events, patch, is_long=False)
        joined = outcome(events, patch, is_long=False, keeps_chunks=False)
    assert joined == (kept[0], [], kept[2])


def test_most_chunks_are_read_the_short_way():
    chunks, found = TextChunks(), []
    for text in ("a", "b", 'c"', "\u00e9", "\n"):
        found.append(text_of(chunks, chunk(text)))
        if found[-1] is None:
            chunks.learn(chunk(text), json.loads(chunk(text)))
    assert found == [None, "b", 'c"', "\u00e9", "\n"]
    assert CompletionChunk(chunks.like_last("z")).choices[0].delta.content == "z"


def test_a_chunk_that_has_more_ends_the_pattern():
    chunks, end = TextChunks(), chunk("x", choice={"finish_reason": "stop"})
    chunks.learn(chunk("a"), json.loads(chunk("a")))
    assert text_of(chunks, chunk("b")) == "b"
    chunks.learn(end, json.loads(end))
    assert text_of(chunks, chunk("c")) is None


def test_only_the_text_of_the_delta_counts():
    chunks = TextChunks()
    first = chunk("a", note={"content": "a"})
    chunks.learn(first, json.loads(first))
    assert text_of(chunks, chunk("a", note={"content": "b"})) is None


def test_chunks_that_all_differ_are_no_longer_compared():
    chunks = TextChunks()
    for number in range(50):
        data = chunk("a", created=number)
        assert text_of(chunks, data) is None
        chunks.learn(data, json.loads(data))
    assert text_of(chunks, chunk("b", created=49)) is None


def test_an_error_in_the_middle_is_one():
    reader = ChunkReader(request_id=None, scrubber=Scrubber())
    reader.feed(b"data: %b\n\ndata: %b\n\n" % (chunk("a"), chunk("b")))
    with pytest.raises(APIStatusError, match="broken"):
        reader.feed(b"event: error\ndata: %b\n\n" % chunk("broken", error={"message": "broken"}))


def test_an_event_called_error_is_one_even_if_it_looks_like_text():
    reader = ChunkReader(request_id=None, scrubber=Scrubber())
    reader.feed(b"data: %b\n\ndata: %b\n\n" % (chunk("a"), chunk("b")))
    with pytest.raises(APIStatusError):
        reader.feed(b"event: error\ndata: %b\n\n" % chunk("c"))


def test_the_limits_hold(monkeypatch):
    reader = ChunkReader(request_id=None, scrubber=Scrubber())
    monkeypatch.setattr(reader._folder, "_max_text", 3)
    reader.feed(b"data: %b\n\ndata: %b\n\n" % (chunk("a"), chunk("b")))
    with pytest.raises(AnswerTooLargeError, match="longer than 3"):
        reader.feed(b"data: %b\n\n" % chunk("cd"))
    monkeypatch.setattr("poeflow.client.bounds.MAX_EVENTS", 3)
    reader = ChunkReader(request_id=None, scrubber=Scrubber())
    with pytest.raises(AnswerTooLargeError, match="too many events"):
        reader.feed(b"data: %b\n\n" % chunk("a") * 4)
