"""What changed between two texts."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from poeflow.report.word_diff import Piece, word_diff


def test_words_that_changed():
    assert word_diff("The cat sat.\nIt purred.\n", "The dog sat.\nIt purred.\n") == (
        Piece("same", "The "),
        Piece("removed", "cat"),
        Piece("added", "dog"),
        Piece("same", " sat.\nIt purred.\n"),
    )


def test_a_line_more():
    assert word_diff("one\n", "one\ntwo\n") == (Piece("same", "one\n"), Piece("added", "two\n"))


def test_the_same_text():
    assert word_diff("as it was", "as it was") == (Piece("same", "as it was"),)
    assert word_diff("", "") == ()


def test_a_long_changed_stretch_is_compared_whole():
    old, new = "a " * 3000, "b " * 3000
    assert word_diff(old, new) == (Piece("removed", old), Piece("added", new))


def test_very_many_changed_lines_are_not_compared_one_by_one():
    old = "top\n" + "a\nb\n" * 20_000 + "end\n"
    new = "top\n" + "b\na\n" * 20_000 + "end\n"
    assert word_diff(old, new) == (
        Piece("same", "top\n"),
        Piece("removed", "a\nb\n" * 20_000),
        Piece("added", "b\na\n" * 20_000),
        Piece("same", "end\n"),
    )


@given(
    st.text(alphabet="ab \n\r\u2028\x0b.é"),
    st.text(alphabet="ab \n\r\u2028\x0b.é"),
)
def test_both_texts_can_be_put_together_again(old, new):
    pieces = word_diff(old, new)
    assert "".join(piece.text for piece in pieces if piece.kind != "added") == old
    assert "".join(piece.text for piece in pieces if piece.kind != "removed") == new
    assert all(one.kind != other.kind for one, other in itertools.pairwise(pieces))
