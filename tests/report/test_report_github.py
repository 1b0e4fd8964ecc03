"""What a GitHub workflow sees of a run: annotations at the steps, and a summary that is inert."""

import io
import re

from hypothesis import given
from hypothesis import strategies as st
from test_report_junit import RUN

from poeflow import events
from poeflow.problems import Place, Problem
from poeflow.report.github import GitHubReport, escaped, fenced, of_problem


def told(*happened: events.Event) -> tuple[str, str]:
    """Return the annotations and the job summary of a run."""
    stream = io.StringIO()
    report = GitHubReport(stream, lambda step: Place(f"{step}.yaml", 4, 3))
    for event in happened:
        report(event)
    return stream.getvalue(), report.job_summary()


def test_what_went_wrong_is_annotated_where_it_is_written():
    warned = events.Warned(at=1, step=None, message="old cache")
    log, _ = told(*RUN, warned)
    assert log.splitlines() == [
        "::error file=each.yaml,line=4,col=3,title=each[x]::no ]]>",
        "::error file=each.yaml,line=4,col=3,title=each[y]::429",
        "::warning file=each.yaml,line=4,col=3,title=each[w]::so what",
        "::warning title=poeflow::old cache",
    ]


def test_no_more_is_annotated_than_is_shown():
    failed = [
        events.StepFailed(at=1, step=f"a[{n}]", message="no", error_class="failed", seconds=1)
        for n in range(30)
    ]
    log, summary = told(*failed)
    assert log.count("\n") == 10
    assert summary.count("\n- ") == 30


def test_the_summary_is_a_table_of_the_steps_and_what_they_gave():
    finished = events.RunFinished(
        at=3, exit_code=0, asked=1, cached=0, rendered=0, failed=0, skipped=0, seconds=3,
        simulated=False, outputs={"text": "```\n<b>x</b>\n````", "data": {"a": [1]}},
    )  # fmt: skip
    _, summary = told(*RUN[:3], finished)
    assert summary == (
        "### ✓ notes\n\n"
        "1 asked in 3&#46;0 s\n\n"
        "| | step | what came of it |\n|---|---|---|\n"
        "| ✓ | a | answered in 1&#46;2 s |\n"
        "| ✓ | each | current |\n| ✓ | z | current |\n| ✓ | old | current |\n"
        "\n**text**\n\n`````text\n```\n<b>x</b>\n````\n`````\n"
        '\n**data**\n\n```text\n{"a":[1]}\n```\n'
    )


def test_a_failed_run_lists_its_failures():
    _, summary = told(*RUN)
    assert summary.startswith("### ✗ notes\n")
    assert (
        "\n**Failures**\n\n- each&#91;x&#93;: no &#93;&#93;&#62;\n- each&#91;y&#93;: 429\n"
        in summary
    )


def test_a_long_output_is_cut():
    finish = RUN[-1]
    long = events.RunFinished(
        **{name: getattr(finish, name) for name in finish.__struct_fields__ if name != "outputs"},
        outputs={"o": "x" * 30_000},
    )
    assert "[10,000 more characters]" in told(long)[1]


@given(st.text(st.characters()))
def test_text_in_a_line_of_markdown_is_only_text(text):
    line = escaped(text)
    assert "\n" not in line
    assert not re.search(r"[^\w\s,()\-&#;]|_", line)
    assert not re.search(r"&(?!#\d+;)|#(?!\d+;)", line)


@given(st.text(st.sampled_from("`~a \n"), max_size=40))
def test_a_fence_is_closed_by_its_own_end_only(text):
    block = fenced(text).split("\n")
    fence = block[0].removesuffix("text")
    assert block[-1] == fence
    assert not any(line.strip().startswith(fence) for line in block[1:-1])


def test_a_problem_is_annotated():
    problem = Problem(Place("a.yaml", 3, 7), "no", "do this", level="warning")
    assert of_problem(problem) == "::warning file=a.yaml,line=3,col=7,title=poeflow::no; do this"
