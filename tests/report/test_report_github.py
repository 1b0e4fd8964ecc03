"""What a GitHub workflow sees of a run: annotations at the steps, and a summary that is inert."""

import io
import re

from hypothesis import given
from hypothesis import strategies as st
from test_report_junit import RUN

from poeflow import events
from poeflow.digest import Json
from poeflow.problems import Place, Problem
from poeflow.records import InstanceStatus, step_of
from poeflow.report.github import GitHubReport, of_problem
from poeflow.report.job_summary import (
    Earlier,
    Links,
    code_block,
    escaped,
    pages_within,
    problems_summary,
    status_summary,
)


def told(*happened: events.Event, earlier: Earlier | None = None) -> tuple[str, str]:
    """Return the annotations and the job summary of a run."""
    stream = io.StringIO()
    report = GitHubReport(stream, lambda name: Place(f"{step_of(name)}.yaml", 4, 3), earlier)
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
        events.StepFailed(at=1, step=f"a[{n}]", message=f"no {n}", error_class="failed", seconds=1)
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


def failed(step: str, message: str) -> events.StepFailed:
    return events.StepFailed(at=1, step=step, message=message, error_class="failed", seconds=1)


def test_failures_of_one_cause_are_one_the_largest_first():
    alone = failed("b", "no")
    alike = [failed(f"a[{n}]", f"expected a pun, found <{n}>") for n in range(12)]
    same = [failed(f"c[{n}]", "429") for n in range(2)]
    log, summary = told(alone, *alike, *same)
    names = ", ".join(f"a&#91;{n}&#93;" for n in range(10))
    assert summary.endswith(
        "\n**Failures**\n\n"
        "- **12**, the first&#58; expected a pun, found &#60;0&#62;\n"
        f"  <br>{names} and 2 more\n"
        "- **2**, 429\n  <br>c&#91;0&#93;, c&#91;1&#93;\n"
        "- b: no\n"
    )
    assert [line.partition("title=")[2] for line in log.splitlines()] == [
        "b::no",
        "a[0]::expected a pun, found <0>",
        "c[0]::429",
    ]


def test_the_summary_says_which_models_were_asked_and_what_passed():
    happened: list[events.Event] = []
    for key, score in (("model=A,tone=dry", 1.0), ("model=A,tone=odd", 0.5), ("model=B", 0.0)):
        step = f"ask[{key}]"
        asked = events.RequestSent(at=1, step=step, model=key[6])
        judged = events.RequestSent(at=1, step=step, model="J", purpose="judge")
        verdict = events.Verdict(kind="judge", passed=score > 0.7, level="score", message="")
        ended = events.StepFinished(
            at=2, step=step, source="asked", simulated=False, seconds=1, prompt_tokens=1_000,
            completion_tokens=500, cost_usd=0.25, score=score, verdicts=(verdict,),
        )  # fmt: skip
        happened += [asked, judged, ended]
    _, summary = told(*happened, finished())
    assert "\nasked A twice, J 3 times (judge), B once\n" in summary
    assert (
        "\n| step | | passed | score | tokens | cost |\n|---|---|---:|---:|---:|---:|\n"
        "| ask |  | 1 of 3 (33 %) | 0.50 | 4,500 | 0.7500 USD |\n"
        "|  | model A | 1 of 2 (50 %) | 0.75 | 3,000 | 0.5000 USD |\n"
        "|  | model B | 0 of 1 (0 %) | 0.00 | 1,500 | 0.2500 USD |\n"
        "|  | tone dry | 1 of 1 (100 %) | 1.00 | 1,500 | 0.2500 USD |\n"
        "|  | tone odd | 0 of 1 (0 %) | 0.50 | 1,500 | 0.2500 USD |\n"
    ) in summary


def test_a_page_is_cut_between_its_parts():
    steps = tuple(f"s{n}" for n in range(200))
    started = events.RunStarted(at=0, flow="many", steps=steps, simulated=False)
    _, summary = told(started, *(failed(step, "<" * 900) for step in steps))
    assert len(summary.encode()) <= 290_000 + 60
    *_, row, _, last = summary.splitlines()
    assert row.endswith("&#60; |")
    assert last == "The rest is not shown here, as the summary is long."


def test_pages_for_which_there_is_no_room_are_named():
    pages = [f"### {name}\n\n{'x' * 500}\n" for name in "abc"]
    assert pages_within(pages, 2_000) == "\n".join(pages)
    left = "not shown here, as the summary is long"
    assert pages_within(pages, 1_100) == f"{pages[0]}\n### b\n\n{left}\n\n### c\n\n{left}\n"
    assert pages_within(pages, 240) == f"### a\n\n{left}\n\n### b\n\n{left}\n\nand 1 more"
    assert pages_within(pages, -10) == "and 3 more"


def test_a_long_output_is_cut():
    finish = RUN[-1]
    long = events.RunFinished(
        **{name: getattr(finish, name) for name in finish.__struct_fields__ if name != "outputs"},
        outputs={"o": "x" * 30_000},
    )
    assert "[10,000 more characters]" in told(long)[1]


def finished(**outputs: Json) -> events.RunFinished:
    return events.RunFinished(
        at=3, exit_code=0, asked=1, cached=0, rendered=0, failed=0, skipped=0, seconds=3,
        simulated=False, outputs=outputs,
    )  # fmt: skip


def test_an_output_that_changed_is_shown_as_its_changed_lines():
    earlier = Earlier(outputs={"text": "one\ntwo\nthree", "data": {"a": 1}, "same": "s"})
    _, summary = told(finished(text="one\n2\nthree", data={"a": 2}, same="s"), earlier=earlier)
    assert (
        "\n**text**\n\n```diff\n@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n```\n"
        '\n**data**\n\n```diff\n@@ -1 +1 @@\n-{"a":1}\n+{"a":2}\n```\n'
        "\n**same**\n\n```text\ns\n```\n"
    ) in summary


def test_a_change_of_a_hostile_text_stays_in_its_block():
    earlier = Earlier(outputs={"text": "```\n# old"})
    _, summary = told(finished(text="```\n````\n<b>\x1b"), earlier=earlier)
    assert summary.endswith("`````diff\n@@ -1,2 +1,3 @@\n ```\n-# old\n+````\n+<b>\\x1b\n`````\n")


def test_a_text_of_very_many_lines_is_compared_in_part():
    old, new = "\n".join("ab" * 4_000), "\n".join("ba" * 4_000)
    _, summary = told(finished(text=new), earlier=Earlier(outputs={"text": old}))
    assert "more lines]" in summary


def test_a_summary_has_a_bounded_length():
    outputs: dict[str, Json] = {f"o{n}": "é" * 15_000 for n in range(20)}
    failed = [
        events.StepFailed(
            at=1, step=f"a[{n}]", message=f"{n}" + "x" * 5_000, error_class="failed", seconds=1
        )
        for n in range(100)
    ]
    steps = tuple(f"s{n}" for n in range(1_000))
    started = events.RunStarted(at=0, flow="many", steps=steps, simulated=False)
    _, summary = told(started, *failed, finished(**outputs))
    assert len(summary.encode()) < 300_000
    assert summary.count("```text") == 6
    assert summary.count("not shown here, as the summary is long") == 14
    assert "| | and 801 more | |" in summary
    assert "- and 50 more" in summary


def test_a_status_has_a_bounded_length():
    steps = {
        f"s{n}": [InstanceStatus(id=f"s{n}", state="stale", reasons=("y" * 5_000,))]
        for n in range(1_000)
    }
    summary = status_summary("f.yaml", steps, (), note="1,000 stale: no calls")
    assert summary.startswith("### ✗ f&#46;yaml\n\n1,000 stale&#58; no calls\n\n| | step |")
    assert len(summary) < 300_000
    assert "| | and 800 more | |" in summary
    problems = [Problem(Place("a.yaml", n), "z" * 5_000) for n in range(1, 80)]
    assert len(problems_summary("f.yaml", problems)) < 60_000


@given(st.text(st.characters()))
def test_text_in_a_line_of_markdown_is_only_text(text):
    line = escaped(text)
    assert "\n" not in line
    assert not re.search(r"[^\w\s,()\-&#;]|_", line)
    assert not re.search(r"&(?!#\d+;)|#(?!\d+;)", line)


@given(st.text(st.sampled_from("`~a \n"), max_size=40))
def test_a_fence_is_closed_by_its_own_end_only(text):
    block = code_block(text).split("\n")
    fence = block[0].removesuffix("text")
    assert block[-1] == fence
    assert not any(line.strip().startswith(fence) for line in block[1:-1])


def test_a_problem_is_annotated():
    problem = Problem(Place("a.yaml", 3, 7), "no", "do this", level="warning")
    assert of_problem(problem) == "::warning file=a.yaml,line=3,col=7,title=poeflow::no; do this"


def test_a_link_leads_to_a_file_whose_name_is_no_text():
    links = Links(files="https://github.com/o/r/blob/abc/")
    found = links.to_place("draw", Place("flows\udcff/a b.yaml", 4))
    assert found == "[draw](https://github.com/o/r/blob/abc/flows%FF/a%20b.yaml#L4)"
