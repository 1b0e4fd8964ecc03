"""Nothing from outside is a command to GitHub's runner; ours are well-formed."""

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_events import ENDED, OUTSIDE, FakeClock, telling

from poeflow.problems import Place, Problem
from poeflow.report.github_commands import annotation, inert, inert_json, without_commands
from poeflow.report.log import PlainReport
from poeflow.report.problem_formats import problem_line

LINES = st.lists(st.sampled_from(["::", "##[", "#", "[", ":", "error", "]", "\n", "\r", " ", "x"]))


def commands(log: str) -> list[str]:
    """Return the lines the runner takes for commands, as its source reads them."""
    return [
        line
        for line in re.split(r"\r\n|\r|\n", log)
        if line.lstrip().startswith("::") or "##[" in line
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("::error::no", r"\x3a:error::no"),
        (" \u3000::add-mask::x", " \u3000\\x3a:add-mask::x"),
        ("fine ##[group]x", r"fine \x23#[group]x"),
        ("####[", r"##\x23#["),
        ("a::b 100% %0A # [", "a::b 100% %0A # ["),
        ("a\n::b", "a\n\\x3a:b"),
    ],
)
def test_text_that_would_be_a_command_is_escaped(text, told):
    assert inert(text) == told


@given(LINES.map("".join))
def test_no_line_is_a_command(text):
    assert commands(inert(text.replace("\r", ""))) == []


@pytest.mark.parametrize("kind", OUTSIDE, ids=lambda kind: kind.__name__)
def test_no_line_of_a_log_is_one(kind):
    stream = io.StringIO()
    for text in ("::error::x", "\n::error::x\r::y", "x ##[add-mask]y"):
        report = PlainReport(stream, FakeClock())
        report(telling(kind, text))
        report(ENDED)
    assert commands(stream.getvalue()) == []


def test_no_problem_is_one():
    problem = Problem(Place("::error::x.yaml", 1, 1), "no ##[group]", "")
    assert commands(problem_line(problem)) == []


@pytest.mark.parametrize(
    "text", ["::set-output name=a::b", "a\n  ::b", "a\r::b", "x ##[y]", "\n::a"]
)
def test_a_text_with_commands_is_fenced(text):
    assert without_commands(text, "T0K") == f"::stop-commands::T0K\n{text}\n::T0K::"


@given(LINES.map("".join))
def test_only_a_text_with_commands_is_fenced(text):
    assert (without_commands(text, "T") == text) == (commands(text) == [])


def test_an_annotation_says_where():
    place = Place("flows/a,b.yaml", 3, 5)
    assert annotation("error", "50% of\n::it", title="draft: a", place=place) == (
        "::error file=flows/a%2Cb.yaml,line=3,col=5,title=draft%3A a::50%25 of%0A::it"
    )
    assert annotation("warning", "no", title="") == "::warning::no"


@given(st.text(), st.text(), st.text())
def test_an_annotation_is_one_line(message, title, path):
    told = annotation("error", message, title=title, place=Place(path))
    assert len(re.split(r"[\r\n]", told)) == 1
    head = told[2:].split("::", 1)[0]
    assert all(len(pair.split("=", 1)) == 2 for pair in head[len("error ") :].split(","))


@given(st.lists(LINES.map("".join)))
def test_json_means_the_same_without_commands(texts):
    document = inert_json(json.dumps(texts))
    assert json.loads(document) == texts
    assert commands(document) == []
