"""What changed in an answer is told word by word, in bounded space, and steers no terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.records import InstanceStatus
from poeflow.report.difference import MAX_LINES, explained, rewritten
from poeflow.report.terminal.text import ASCII, UNICODE, cells, unstyled


def told(old, new, *, width=60, is_colored=False, marks=ASCII):
    lines, more = rewritten(old, new, width=width, is_colored=is_colored, marks=marks)
    return [unstyled(line) for line in lines], more


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("a good day", "a bad day", "a [-good-]{+bad+} day"),
        ("a day", "a bad day", "a {+bad +}day"),
        (
            "one two three four five",
            "1 two three four 5",
            "[-one-]{+1+} two three four [-five-]{+5+}",
        ),
        ("one and two", "1 and 2", "[-one and two-]{+1 and 2+}"),
        ("same", "same", "same"),
        (None, "all new", "all new"),
    ],
)
def test_words_are_marked_and_neighbouring_changes_are_one(old, new, line):
    assert told(old, new) == ([line], 0)


def test_on_a_terminal_colours_tell_it():
    lines, _ = rewritten("a good day", "a bad day", width=60, is_colored=True, marks=ASCII)
    styles = [(text, style) for text, style in lines[0] if text.strip()]
    assert styles == [("a", ""), ("good", "red strike"), ("bad", "green"), ("day", "")]
    assert unstyled(lines[0]) == "a good bad day"


def test_long_stretches_that_stay_are_folded_to_a_few_words():
    old = " ".join(f"w{n}" for n in range(100))
    lines, more = told(old, old.replace("w50", "new"), width=200)
    assert (lines, more) == (
        ["~ w42 w43 w44 w45 w46 w47 w48 w49 [-w50-]{+new+} w51 w52 w53 w54 w55 w56 w57 w58 ~"],
        0,
    )


def test_lines_stay_lines_and_are_broken_between_words():
    assert told(None, "one two three\n\nfour", width=8) == (["one two", "three", "", "four"], 0)


def test_a_long_text_is_cut_and_says_how_much():
    lines, more = told(None, "\n".join(str(n) for n in range(100)))
    assert (lines, more) == ([str(n) for n in range(MAX_LINES)], 100 - MAX_LINES)


def test_what_could_steer_a_terminal_is_shown():
    assert told("a", "\x1b[2Jb\r\n") == (["[-a-]{+\\x1b[2Jb", "+}"], 0)


def test_joiners_stay_as_scripts_are_spelled_with_them():
    lines, _ = rewritten(None, "a\u200cb\u200bc", width=20, is_colored=False, marks=UNICODE)
    assert [unstyled(line) for line in lines] == ["a\u200cb\\u200bc"]


@given(st.text(max_size=60), st.text(max_size=60), st.integers(2, 30), st.booleans())
def test_no_line_is_wider_than_asked(old, new, width, is_colored):
    lines, _ = rewritten(old, new, width=width, is_colored=is_colored, marks=UNICODE)
    assert all(cells(line) <= width for line in lines)
    assert all("\n" not in text and "\x1b" not in text for line in lines for text, _ in line)


def test_a_request_that_is_the_same_is_no_reason():
    request = {"version": 1, "body": {"model": "GPT-5.2"}}
    status = InstanceStatus(
        id="a", state="stale", reasons=("reads //t.py changed",), request=request
    )
    assert explained(status, request).splitlines() == [
        "a: stale",
        "  reads //t.py changed",
        "  its request is the same; what follows on it may be asked",
    ]
    assert "its request is another" in explained(status, {"version": 1, "body": {}})
