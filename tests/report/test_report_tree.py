"""What arrives of an answer is kept within bounds and shown harmless, however it was cut."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from poeflow.events import TextArrived
from poeflow.report.terminal.tree import TAIL_CHARACTERS, Row

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def grown(*pieces: str) -> Row:
    row = Row("", "m", 0.0)
    for piece in pieces:
        row.grow(TextArrived(at=0, step="a", text=piece))
    return row


@given(st.lists(st.text(st.characters(), max_size=40), max_size=5), st.integers(1, 40), st.data())
def test_the_tail_fits(pieces, width, data):
    height = data.draw(st.integers(-5, 9))
    lines = grown(*pieces).tail(width, height)
    assert len(lines) <= max(height, 1)
    assert max(map(cell_len, lines)) <= max(width, 2)
    assert not CONTROL.search("".join(lines))


def test_the_newest_text_stays_in_sight():
    assert grown("漢" * 500 + "!").tail(31, 3)[-1].endswith("!")
    assert grown("one\n", "two\n", "three\n").tail(80, 2) == ["two", "three"]


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (("\ud83e", "\udda6"), "🦦"),
        (("a\ud83e",), r"a\ud83e"),
        (("\x1b", "[2J"), r"\x1b[2J"),
        (("\x1b]52;c;", "eA==\x07"), r"\x1b]52;c;eA==\x07"),
        (("over", "\rwritten"), r"over\x0dwritten"),
        (("one\r", "\ntwo"), "two"),
        (("\x9b", "31m"), r"\x9b31m"),
    ],
)
def test_what_a_stream_cut_in_two_is_seen_as_one(pieces, shown):
    assert grown(*pieces).tail(80, 1) == [shown]
    assert grown(*pieces).words(80).endswith(shown)


def test_a_long_answer_is_not_kept_whole():
    row = grown(*["x" * 1000] * 90)
    assert len("".join(row.tail(1000, 90))) <= 2 * TAIL_CHARACTERS
    assert row.note(0.0) == "90,000 characters"
    assert len(grown("y" * 1_000_000).tail(1000, 99)) * 1000 <= TAIL_CHARACTERS


def test_lines_stand_still_while_the_text_grows():
    row = grown("Otters hold hands while they sleep, ")
    before = row.tail(20, 9)
    row.grow(TextArrived(at=0, step="a", text="so that none of them drifts away."))
    assert before == ["Otters hold hands", "while they sleep, "]
    assert row.tail(20, 9) == [
        "Otters hold hands",
        "while they sleep, so",
        "that none of them",
        "drifts away.",
    ]
    assert grown("def f():\n    return  1").tail(20, 9) == ["def f():", "    return  1"]


def test_words_are_one_line():
    assert grown("a\n\n  b\tc").words(80) == "a b c"
    assert len(grown(*"many words " * 1000).words(20)) <= 20
