"""The caret stands below what the problem is about, whatever the line holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from poeflow.problems import Place, Problem
from poeflow.report.problem_formats import MAX_LINE, in_color, listing, with_source
from poeflow.report.terminal.text import ASCII, UNICODE


def told(line: int, column: int, text: str) -> list[str]:
    return with_source(Problem(Place("a.yaml", line, column), "no"), text).split("\n")[1:]


@pytest.mark.parametrize(
    ("text", "column", "shown"),
    [
        ("a: b", 4, ["    a: b", "       ^"]),
        ("a: b", 1, ["    a: b", "    ^"]),
        ("a: b", 5, ["    a: b", "        ^"]),  # the end of the line
        ("標題: x", 5, ["    標題: x", "          ^"]),
        ("🦦: x", 4, ["    🦦: x", "        ^"]),
        ("e\u0301: x", 5, ["    e\u0301: x", "       ^"]),
        ("\ta", 2, ["     a", "     ^"]),
        ("\x1b[2Ja", 5, [r"    \x1b[2Ja", "           ^"]),
        ("a: b\r", 4, ["    a: b", "       ^"]),
        ("", 1, ["    ", "    ^"]),
    ],
)
def test_the_caret_is_below_the_column(text, column, shown):
    assert told(2, column, f"first\n{text}\nlast") == shown


def test_of_a_long_line_the_part_around_the_place_is_shown():
    source, caret = told(1, 1001, "a" * 1000 + "!" + "b" * 1000)
    assert len(source) == 4 + MAX_LINE
    assert source[caret.index("^")] == "!"


@pytest.mark.parametrize("line", [0, 3, 99])
def test_a_line_that_is_not_there_is_not_shown(line):
    assert told(line, 1, "one\ntwo") == []


@given(st.text(st.characters(exclude_characters="\n"), min_size=1, max_size=200), st.data())
def test_the_caret_is_one_cell_below_the_line(text, data):
    column = data.draw(st.integers(1, len(text) + 1))
    lines = told(1, column, text)
    assert len(lines) == 2
    assert lines[1].strip(" ") == "^"


@given(st.text("ab 標題🦦é", min_size=1, max_size=60), st.data())
def test_the_caret_counts_cells_as_a_terminal_does(text, data):
    column = data.draw(st.integers(1, len(text)))
    assert cell_len(told(1, column, text)[1]) == 4 + cell_len(text[: column - 1]) + 1


def test_all_problems_are_told_in_the_order_given_each_with_its_own_source():
    problems = [
        Problem(Place("b.yaml", 1, 1), "one", "do this"),
        Problem(Place("a.yaml", 1, 1), "two\nlines", level="warning"),
    ]
    assert listing(problems).split("\n") == [
        "b.yaml:1:1: one; do this",
        "a.yaml:1:1: warning: two lines",
    ]
    assert listing([]) == ""


def test_on_a_terminal_the_place_and_the_caret_stand_out():
    problem = Problem(Place("a.yaml", 2, 4), 'unknown key "é"', "", level="warning")
    assert list(in_color(problem, "x\na: é", UNICODE)) == [
        (("a.yaml:2:4", "bold"), (': warning: unknown key "é"', "")),
        (("    a: é", "dim"),),
        (("       ^", "yellow"),),
    ]
    error = Problem(Place("a.yaml", 9, 1), "no")
    assert list(in_color(error, "x", ASCII)) == [(("a.yaml:9:1", "bold"), (": no", ""))]
