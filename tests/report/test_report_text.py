"""Marks are such as the stream can show; text is one harmless line of it."""

import io

import pytest

from poeflow.report.terminal.text import (
    ASCII,
    UNICODE,
    aligned,
    aligned_columns,
    fitted,
    marks_for,
)


@pytest.mark.parametrize(
    ("encoding", "done"),
    [("utf-8", "✓"), ("UTF-8", "✓"), ("ascii", "*"), ("cp437", "*"), ("cp1252", "*")],
)
def test_marks_are_those_the_stream_can_show(encoding, done):
    marks = marks_for(io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    assert marks.done == done
    assert marks.encoding == encoding.lower()
    every = (marks.done, marks.failed, marks.waiting, marks.bar, marks.groove, marks.wall)
    assert [len(mark.encode(encoding)) > 0 for mark in every] == [True] * 6


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grün\tund\nrot", "gr\\xfcn und rot"),
        ("\x1b[2J", r"\x1b[2J"),
        ("🦦", "\\U0001f9a6"),
        ("\ud83e\udda6", "\\U0001f9a6"),
    ],
)
def test_text_is_shown_in_what_there_is(text, shown):
    assert ASCII.shown(text) == shown


def test_text_is_shown_as_it_is_where_it_can_be():
    assert UNICODE.shown("grün 🦦 \ud83e\udda6\ud83e") == "grün 🦦 🦦\\ud83e"


def test_the_spinner_turns():
    assert [ASCII.spin(now / 10) for now in range(5)] == ["|", "/", "-", "\\", "|"]


def test_wide_characters_stay_in_their_columns():
    rows = [("日本", "1"), ("otter", "23")]
    assert aligned(rows, words=1) == ["日本    1", "otter  23"]


@pytest.mark.parametrize("columns", [[], [(), ()], [("a", "bcd"), ("1", "23")], [("a", "é")]])
def test_columns_are_aligned_as_rows_are(columns):
    rows = list(zip(*columns, strict=True))
    assert [*aligned_columns(columns, words=1)] == aligned(rows, words=1)


@pytest.mark.parametrize("marks", [UNICODE, ASCII])
@pytest.mark.parametrize(
    "texts", [[], ["a", ""], ["a", "é"], ["a", "\x1b[0m"], ["a\nb"], ["\ud83e", "\udda6"]]
)
def test_many_texts_are_shown_as_each_is(marks, texts):
    assert marks.each_shown(texts) == [marks.shown(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 8, "short   "),
        ("topic=the sea #1", 12, "topic=…ea #1"),
        ("日本語の入力が壊れる", 9, "日本…れる"),
        ("long", 2, "lo"),
    ],
)
def test_a_long_name_shows_both_its_ends(text, width, shown):
    assert fitted(text, width, "…") == shown
