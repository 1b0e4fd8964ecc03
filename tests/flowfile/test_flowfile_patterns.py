"""Patterns that users write run in linear time, and say what is wrong with them."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.flowfile.patterns import PatternError, compiled


@pytest.mark.parametrize(
    ("pattern", "text", "is_in"),
    [
        ("b+", "abbc", True),
        ("^b", "abc", False),
        ("(?m)^b$", "a\nb\nc", True),
        ("(?i)straße", "STRAßE", True),
        (r"^\d+$", "42\n", False),
        ("^.$", "é", True),
        (r"\p{Greek}", "π", True),
        ("[?]", "\ud800", True),
    ],
)
def test_a_pattern_is_searched_for(pattern, text, is_in):
    assert compiled(pattern).is_in(text) is is_in


def test_a_pattern_that_would_explode_does_not():
    started = time.process_time()
    assert not compiled("(a+)+$").is_in("a" * 1_000_000 + "b")
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "the pattern is not valid: missing ): ("),
        ("(?=a)", "the pattern is not valid: invalid perl operator: (?="),
        (r"(a)\1", r"the pattern is not valid: invalid escape sequence: \1"),
        ("a{1,2000}", "the pattern is not valid: invalid repetition size: {1,2000}"),
        ("a" * 10_001, "the pattern has 10,001 characters, at most 10,000"),
    ],
)
def test_a_pattern_that_cannot_be_used_is_told(pattern, message):
    with pytest.raises(PatternError) as caught:
        compiled(pattern)
    assert str(caught.value) == message


@given(st.text(), st.text())
def test_any_text_is_a_pattern_or_none(pattern, text):
    try:
        matcher = compiled(pattern)
    except PatternError:
        return
    assert matcher.is_in(text) in (True, False)
