"""A comparison of revisions as text and as a comment, with prompts and answers of any content."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from poeflow.report.comparison import (
    MARK,
    MAX_BYTES,
    comparison_comment,
    comparison_lines,
    total_words,
)
from poeflow.report.terminal.text import UNICODE, unstyled
from poeflow.store.revisions.comparisons import (
    Cause,
    ComparedRevision,
    Comparison,
    FlowComparison,
    InstanceCounts,
    OutputComparison,
    Spending,
    StepComparison,
)

SIZES = {"old_size": 3, "new_size": 4}
HOSTILE = (
    "```\n</details>\n<script>alert(1)</script>\n````\n@octocat #1 ![x](http://x/y)\n\x1b[31m\n"
)


def comparison(*flows):
    return Comparison(
        old=ComparedRevision(name="main", commit="a" * 40),
        new=ComparedRevision(name="HEAD", commit="b" * 40),
        flows=flows,
    )


def flow(**fields):
    given = {
        "path": "flows/a.yaml",
        "fate": "changed",
        "instances": InstanceCounts(changed=2, pending=1),
        "spent": Spending(requests=2, tokens=1200, cost_usd=0.0123),
        "to_spend": Spending(requests=1, tokens=10),
        "steps": (
            StepComparison(
                id="one",
                fate="changed",
                causes=(
                    Cause(kind="prompt", name="prompt", place="a.yaml:5", old="a b", new="a c"),
                    Cause(kind="model", name="model", place="a.yaml:4", old="x", new="y"),
                ),
                instances=InstanceCounts(changed=1),
            ),
            StepComparison(
                id="two", fate="changed", follows=("one",), instances=InstanceCounts(changed=1)
            ),
        ),
        "outputs": (
            OutputComparison(path="a.md", fate="changed", step="two", old="x", new="z", **SIZES),
            OutputComparison(path="a.png", fate="changed", step="two", **SIZES),
        ),
    }
    return FlowComparison(**{**given, **fields})


def text(found):
    lines = comparison_lines(found, width=200, is_colored=False, marks=UNICODE)
    return "\n".join(map(unstyled, lines))


def test_causes_stand_apart_from_what_follows():
    assert (
        text(comparison(flow()))
        == """\
flows/a.yaml: instances 2 changed, 1 not run yet; the new answers were 2 requests, 1,200 tokens, \
$0.0123; a run would send at least 1 request, 10 tokens, cost unknown
  one: 1 changed
    prompt (a.yaml:5):
      a [-b-]{+c+}
    model (a.yaml:4): x -> y
  two: only follows one; 1 changed
  a.md: changed, written by two
      [-x-]{+z+}
  a.png: changed, written by two: 3 bytes -> 4 bytes"""
    )
    assert total_words(comparison(flow())) == "1 flow differs; instances 2 changed, 1 not run yet"
    assert total_words(comparison()) == "no flow differs in what it reads, asks or writes"


def test_what_is_new_and_gone_and_cannot_run():
    steps = (
        StepComparison(id="a", fate="added"),
        StepComparison(id="b", fate="removed"),
        StepComparison(
            id="c",
            fate="changed",
            causes=(
                Cause(kind="file", name="x.md", place="x.md:1", new="n"),
                Cause(kind="answer", name="answer"),
                Cause(kind="file", name="x.png", place="x.png:1"),
            ),
        ),
    )
    outputs = (
        OutputComparison(path="o", fate="removed", step="b", old="gone", old_size=4),
        OutputComparison(path="p", fate="changed", step="c"),
    )
    found = flow(steps=steps, outputs=outputs, problem="a.yaml:1:1: no", instances=InstanceCounts())
    assert text(comparison(found)).splitlines()[1:] == [
        "  in HEAD: a.yaml:1:1: no",
        "  a: added",
        "  b: removed",
        "  c: no instance has another result",
        "    file x.md (x.md:1) is new:",
        "      n",
        "    answered again: the request is the same",
        "    file x.png (x.png:1):",
        "      (no text, or too long to compare)",
        "  o: removed, written by b",
        "  p: written by c, in neither revision",
    ]


def tokens_of(markdown):
    """Return what a reader of Markdown makes of a comment: its HTML, and its code blocks."""
    parsed = MarkdownIt("commonmark").parse(markdown)
    fences = [token.content for token in parsed if token.type == "fence"]
    return MarkdownIt("commonmark").render(markdown), fences


def hostile(text):
    step = StepComparison(
        id="one",
        fate="changed",
        causes=(Cause(kind="prompt", name=text, place=text, old="", new=text),),
    )
    output = OutputComparison(path=text, fate="added", step="one", new=text, new_size=1)
    return comparison(flow(path=text, steps=(step,), outputs=(output,), problem=text))


def test_a_comment_has_every_cause_and_folds_the_texts():
    comment = comparison_comment(comparison(flow()))
    html, fences = tokens_of(comment)
    assert comment.startswith(f"{MARK}\n")
    assert fences == ["a [-b-]{+c+}\n", "[-x-]{+z+}\n"]
    for words in ("<code>one</code>", "only follows one", "model (a.yaml:4): x -&gt; y"):
        assert words in html, words
    assert comment.count("<details>") == comment.count("</details>") == 2
    assert "left out" not in comment


@pytest.mark.parametrize("text", [HOSTILE, "````" * 50, "~~~\n# x", "a | b", "<!-- -->"])
def test_no_text_of_a_file_is_markup(text):
    html, fences = tokens_of(comparison_comment(hostile(text)))
    outside = re.sub(r"<code.*?</code>", "", html, flags=re.DOTALL)
    for markup in ("<script", "<img", "<a ", "@octocat", "#1", "<h1"):
        assert markup not in outside, markup
    assert html.count("</details>") == len(fences) == 2
    assert "\x1b" not in html


@given(st.text(), st.text())
def test_any_text_stays_in_its_fence(one, other):
    found = flow(
        outputs=(OutputComparison(path="o", fate="changed", old=one, new=other),), steps=()
    )
    html, fences = tokens_of(comparison_comment(comparison(found)))
    assert len(fences) == 1
    assert html.count("<details>") == html.count("</details>") == 1


@pytest.mark.parametrize("letter", ["a", "ä", "😀", "`", "&"])
def test_a_comment_is_bounded_and_says_what_is_cut(letter):
    big = letter * 200_000
    found = comparison(*[hostile(f"{number}{big}").flows[0] for number in range(300)])
    comment = comparison_comment(found)
    assert len(comment.encode()) <= MAX_BYTES < 65_536
    assert "left out, as a comment has a limit; all of it: <code>poeflow diff main" in comment
    assert comment.count("<details>") == comment.count("</details>")
    long = OutputComparison(path="o", fate="changed", old="", new=big, **SIZES)
    few = [flow(path=f"{n}.yaml", outputs=(long,) * 9) for n in range(9)]
    comment = comparison_comment(comparison(*few))
    assert len(comment.encode()) <= MAX_BYTES
    assert all(f"<code>{n}&#46;yaml</code>" in comment for n in range(9)), "every flow is named"


def test_a_flow_with_very_many_steps_is_bounded():
    steps = tuple(StepComparison(id=f"s{n}", fate="added") for n in range(5000))
    comment = comparison_comment(comparison(flow(steps=steps)))
    assert "and 4,900 more steps" in comment


def test_since_a_revision_is_named_like_the_command():
    found = msgspec.structs.replace(
        comparison(*[hostile("x" * 99_999).flows[0]] * 99),
        new=ComparedRevision(name="the files on disk"),
    )
    assert "all of it: <code>poeflow diff --since main</code>" in comparison_comment(found)
