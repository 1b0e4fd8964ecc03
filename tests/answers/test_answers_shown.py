"""How messages show the values of an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.answers.display import counted, one_line, path_text, quoted, shown
from poeflow.redact import visible


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": [1, "é\n", None], "b": {}}, '{"a": [1, "é\\n", null], "b": {}}'),
        (True, "true"),
        (1.5, "1.5"),
        ("\u200b", '"\\u200b"'),
        (1 << 9_999, "a very long number"),
        ([1 << 9_999], "[a very long number]"),
        (["x" * 50, "y" * 50], '["' + "x" * 50 + '", "' + "y" * 23 + "…"),
        ([0] * 1_000_000, "[" + "0, " * 26 + "…"),
    ],
)
def test_a_value_is_shown_as_json_and_cut(value, told):
    assert shown(value) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (" a\n b\t", "a b"),
        ("x" * 81, "x" * 79 + "…"),
        ("x" * 80, "x" * 80),
        (" " * 400 + "x", "…"),
        ("\x00", "\\x00"),
    ],
)
def test_a_text_is_shown_on_one_line(text, told):
    assert one_line(text) == told
    assert quoted(text) == f'"{told}"'


@given(st.text())
def test_whatever_it_is_the_line_is_one_and_short(text):
    for told in (one_line(text, 20), shown(text, 20)):
        assert len(told) <= 20
        assert visible(told) == told
        assert len(told.splitlines()) <= 1


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ((), ""),
        (("a", 2, "b"), "a[2].b"),
        ((0, "a"), "[0].a"),
        (("odd key", "x.y"), '["odd key"]["x.y"]'),
        (("é" * 300,), "é" * 159 + "…"),
    ],
)
def test_a_path_is_shown_as_one_would_write_it(path, told):
    assert path_text(path) == told


def test_what_is_counted_has_its_plural():
    assert (counted(1, "key"), counted(0, "key"), counted(4312, "key")) == (
        "1 key",
        "0 keys",
        "4,312 keys",
    )
