"""The live tree fits every terminal, says what goes on, and cannot be steered from outside."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from run_events import INTERRUPTED, OUTSIDE, every_event, telling

from poeflow import events
from poeflow.report.terminal.live import MAX_ROWS, closing, picture
from poeflow.report.terminal.step_lines import Frame
from poeflow.report.terminal.text import ASCII, UNICODE, Marks, unstyled
from poeflow.report.terminal.tree import Tree

HOSTILE = "a\x1b]0;owned\x07b\rc\u202ed\ufeffe\x9bf\u200bg\x1b]52;c;eA==\x07\x1b[2J\U000e0041"
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\U000e0041]")


def run(*happened: events.Event, steps: tuple[str, ...] = ("draft",), at: float = 0.0) -> Tree:
    tree = Tree()
    tree.hear(events.RunStarted(at=0, flow="notes", steps=steps, simulated=False), 0.0)
    for event in happened:
        tree.hear(event, at)
    return tree


def begun(step: str, model: str = "GPT-5.2") -> events.StepStarted:
    return events.StepStarted(at=0, step=step, model=model)


def text(step: str, told: str) -> events.TextArrived:
    return events.TextArrived(at=1, step=step, text=told)


def done(step: str, tokens: int | None = None, score: float | None = None) -> events.StepFinished:
    return events.StepFinished(
        at=2,
        step=step,
        source="asked",
        simulated=False,
        seconds=2,
        completion_tokens=tokens,
        score=score,
    )


def failed(step: str, message: str = "the server answered 400", **more) -> events.StepFailed:
    return events.StepFailed(
        at=2, step=step, message=message, error_class="failed", seconds=2, **more
    )


def expanded(step: str, instances: int) -> events.StepExpanded:
    return events.StepExpanded(at=0, step=step, instances=instances)


def shown(
    tree: Tree, *, width: int = 79, height: int = 24, now: float = 2.0, marks: Marks = UNICODE
) -> list[str]:
    lines = [unstyled(line) for line in picture(tree, Frame(width, height, marks, now))]
    return [re.sub("[⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]", "*", line) for line in lines]


def kept(tree: Tree, *, width: int = 79, height: int = 24, now: float = 4.0) -> list[str]:
    return [unstyled(line) for line in closing(tree, Frame(width, height, UNICODE, now))]


def test_steps_stand_in_order_with_what_they_do():
    tree = run(
        begun("draft"),
        done("draft", 34),
        expanded("each", 4),
        begun("each[red]"),
        begun("each[blue]"),
        begun("each[green]"),
        done("each[green]", 1200),
        failed("each[black]"),
        begun("use/inner"),
        text("each[red]", "x" * 1234),
        events.TextArrived(at=1, step="each[blue]", text="hm", kind="reasoning"),
        steps=("draft", "each", "use", "page"),
    )
    assert shown(tree, height=10) == [
        "notes",
        "✓ draft   answered in 2.0 s, 34 tokens",
        "* each    ━━━━━━━━━────────── 2/4, 1 failed  2.0 s, 1,200 tokens",
        "  * red                 2.0 s   GPT-5.2  1,234 characters  " + "x" * 20,
        "  * blue                2.0 s   GPT-5.2  thinking",
        "* use     2.0 s",
        "  * inner 2.0 s   GPT-5.2",
        "· page",
        "2.0 s, 3 at work, 1 waiting, 1 failed, 1,234 tokens",
    ]


def test_a_lone_step_shows_the_end_of_its_text():
    tree = run(begun("draft"), text("draft", "One otter.\nTwo "), text("draft", "otters."))
    assert shown(tree) == [
        "notes",
        "* draft 2.0 s   GPT-5.2  22 characters",
        "  │ One otter.",
        "  │ Two otters.",
        "2.0 s, 1 at work",
    ]


def test_a_retry_drops_what_arrived_and_counts_down():
    tree = run(begun("draft"), text("draft", "half an answ"))
    wait = {"at": 1, "step": "draft", "attempt": 1, "wait": 4.0, "reason": "too many\nrequests"}
    tree.hear(events.RetryPlanned(**wait, status=429), 1.0)
    assert shown(tree, now=2.5)[1] == "* draft 2.5 s   GPT-5.2  429, waiting 2.5 s"
    assert shown(tree, now=5.5)[1] == "* draft 5.5 s   GPT-5.2  429, asking again"
    tree.hear(text("draft", "whole"), 6.0)
    assert shown(tree, now=6.0)[1:3] == ["* draft 6.0 s   GPT-5.2  5 characters", "  │ whole"]
    tree.hear(events.RetryPlanned(**wait), 7.0)
    assert "too many requests, waiting 4.0 s" in shown(tree, now=7.0)[1]
    tree.hear(done("draft", 9), 8.0)
    assert shown(tree)[1] == "✓ draft answered in 2.0 s, 9 tokens, 2 retries"


def test_what_stands_in_and_tools_are_told_in_their_step():
    tree = run(begun("draft"))
    tree.hear(events.ToolCalled(at=1, step="draft", tool="weather", is_error=True), 1.0)
    assert shown(tree)[1] == "* draft 2.0 s   GPT-5.2  ran weather, which failed"
    tree.hear(events.FellBack(at=1, step="draft", model="Grok-4", reason="it is down"), 1.0)
    assert "Grok-4" in shown(tree)[1]
    tree.hear(done("draft"), 2.0)
    assert "! draft: warning: it is down; asked Grok-4 in its place" in kept(tree)


def test_samples_end_with_their_instance():
    tree = run(begun("draft#1"), begun("draft#2"))
    assert [line.split()[:2] for line in shown(tree)[2:4]] == [["*", "#1"], ["*", "#2"]]
    tree.hear(done("draft"), 2.0)
    assert shown(tree)[1:] == ["✓ draft answered in 2.0 s", "2.0 s"]


def test_long_names_show_both_ends_and_what_tells_them_apart():
    step = "release_notes_for_customers_without_jargon"
    names = ("model=GPT-5.2,topic=the sea", "日本語の入力が壊れる、表が空のとき#2")
    loop = (expanded("each", 9), *(begun(f"each[{name}]") for name in names))
    lines = shown(run(begun(step), *loop, steps=(step, "each")), width=60)
    assert [lines[at].removeprefix("  ")[2:22] for at in (1, 3)] == [
        "release_no…ut_jargon",
        "model=GPT-…c=the sea",
    ]
    assert lines[4].startswith("  * 日本語の入…のとき#2 ")


def test_what_a_step_wrote_is_told_in_full_at_the_end():
    wrote = events.FileWritten(at=2, step="draft", path="out/answers/first.md", size=9)
    assert kept(run(begun("draft"), wrote, done("draft")), width=36) == [
        "notes",
        "✓ draft answered in 2.0 s, wrote",
        "        out/answers/first.md",
    ]


def test_how_a_loop_failed_is_told_in_full_at_the_end():
    tree = run(expanded("draft", 2), done("draft[a]", tokens=1234), failed("draft[b]"))
    assert kept(tree, width=36)[1:3] == [
        "✗ draft 1 answered, 1 failed in 0.0",
        "        s, 1,234 tokens",
    ]


def test_what_is_done_about_a_failure_comes_before_a_long_reason():
    reason = "http://127.0.0.1:1 refused the connection; check its address"
    planned = events.RetryPlanned(at=1, step="draft", attempt=1, wait=4.0, reason=reason)
    lines = shown(run(begun("draft"), planned), now=1.0, width=79)
    assert lines[1].startswith("* draft 1.0 s   GPT-5.2  waiting 3.0 s: http://127.0.0.1:1 refused")


def test_a_loop_over_a_flow_is_one_line_that_counts_its_own_instances():
    tree = run(expanded("page", 2), begun("page[a]/draft"), begun("page[b]/draft"), steps=("page",))
    tree.hear(done("page[a]/draft", 7), 1.0)
    assert shown(tree)[1].endswith("0/2  2.0 s, 7 tokens")
    assert shown(tree)[2].startswith("  * [b]/draft")
    tree.hear(done("page[a]"), 2.0)
    tree.hear(failed("page[b]/draft"), 2.0)
    tree.hear(failed("page[b]", "in the flow it uses, page[b]/draft failed", is_told=True), 2.0)
    assert shown(tree)[1] == "✗ page 1 answered, 1 failed in 2.0 s, 7 tokens"
    assert shown(tree)[-1] == "2.0 s, 1 failed, 7 tokens"


@pytest.mark.parametrize(
    ("happened", "line"),
    [
        ((expanded("draft", 0),), "✓ draft nothing to do in 0.0 s"),
        (
            (expanded("draft", 1), events.StepSkipped(at=1, step="draft[a]", reason="no")),
            "- draft 1 skipped in 0.0 s",
        ),
        (
            (expanded("draft", 1), failed("draft[a]", is_tolerated=True)),
            "! draft 1 failed and were passed over in 0.0 s",
        ),
        ((failed("draft", "no key"),), "✗ draft no key"),
        ((events.StepSkipped(at=1, step="draft", reason="no"),), "- draft skipped, no"),
        (
            (events.FileWritten(at=1, step="draft", path="out.md", size=1), done("draft")),
            "✓ draft answered in 2.0 s, wrote out.md",
        ),
    ],
)
def test_the_line_of_a_step_that_ended(happened, line):
    assert shown(run(*happened))[1] == line


def test_ascii_where_nothing_else_can_be_shown():
    tree = run(
        begun("draft"),
        done("draft"),
        expanded("each", 4),
        begun("each[grün]"),
        text("each[grün]", "größer\n…"),
        done("each[rot]"),
        failed("last"),
        steps=("draft", "each", "last", "never"),
    )
    lines = [unstyled(line) for line in picture(tree, Frame(79, 24, ASCII, 2.0))]
    assert all(line.isascii() for line in lines)
    assert lines[1].startswith("* draft")
    assert lines[2].startswith("| each  ####")
    assert "gr\\xfcn" in lines[3]
    assert "  x last" in "  " + lines[-3]
    assert lines[-2] == ". never"


@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 8, 24])
@pytest.mark.parametrize("width", [1, 8, 39, 79])
@pytest.mark.parametrize("count", [1, 3, 200])
def test_a_small_terminal_is_never_overrun(width, height, count):
    steps = ("done", "summarize_everything", *(f"s{n}" for n in range(count)), "late", "later")
    tree = run(begun("done"), done("done"), expanded("summarize_everything", 10_000), steps=steps)
    for number in range(count):
        tree.hear(begun(f"summarize_everything[長い文{number}]", "Claude-Sonnet-4.5"), 0.0)
        tree.hear(text(f"summarize_everything[長い文{number}]", "長い文 and words " * 99), 0.0)
        tree.hear(begun(f"s{number}"), 0.0)
        tree.hear(text(f"s{number}", "👩‍🚀 é \t tab\n" * 99), 0.0)
    lines = shown(tree, width=width, height=height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width


def test_what_is_at_work_comes_first_and_the_rest_is_counted():
    steps = tuple(f"s{number:02}" for number in range(30))
    happened = [event for n in range(10) for event in (begun(f"s{n:02}"), done(f"s{n:02}"))]
    tree = run(*happened, failed("s10"), begun("s11"), begun("s12"), steps=steps)
    assert [line[:5] for line in shown(tree, height=10)] == [
        "notes", "✓ 9 d", "✓ s09", "✗ s10", "* s11", "* s12", "· s13", "· s14", "· 15 ", "2.0 s",
    ]  # fmt: skip
    assert [line[:5] for line in shown(tree, height=4)] == ["✗ s10", "* s11", "* s12", "2.0 s"]


def test_instances_that_do_not_fit_are_counted():
    tree = run(expanded("draft", 1000), *(begun(f"draft[{n}]") for n in range(200)))
    lines = shown(tree, height=50)
    assert sum(line.startswith("  *") for line in lines) == MAX_ROWS - 1
    assert lines[-2] == f"  … {200 - MAX_ROWS + 1} more at work"
    assert shown(tree, height=5)[-2] == "  … 198 more at work"


def test_what_is_current_is_said_when_the_run_is_over():
    tree = run(expanded("each", 3), done("each[a]"), steps=("draft", "each"))
    finish = events.RunFinished(
        at=3, exit_code=0, asked=1, cached=0, rendered=0, failed=0, skipped=0, seconds=3,
        simulated=False, outputs={}, requests=1, tokens=1234, cost_usd=0.01,
    )  # fmt: skip
    tree.hear(finish, 3.0)
    assert kept(tree) == [
        "notes",
        "✓ draft current",
        "✓ each  1 answered, 2 current in 3.0 s",
        "1 asked in 3.0 s, 1 request, 1,234 tokens, about 0.0100 USD",
    ]


def test_a_loop_has_the_mean_score_of_its_own_instances_once_it_ended():
    tree = run(expanded("each", 3), done("each[a]", score=1.0), steps=("each", "draft"))
    tree.hear(done("each[b]/inner", score=0.1), 2.0)
    tree.hear(done("each[b]", score=0.0), 2.0)
    tree.hear(done("draft", score=0.25), 2.0)
    assert shown(tree)[1].endswith("2/3  2.0 s")
    tree.hear(failed("each[c]", score=0.2), 2.0)
    assert shown(tree)[1:3] == [
        "✗ each  2 answered, 1 failed in 2.0 s, mean score 0.40",
        "✓ draft answered in 2.0 s, score 0.25",
    ]


def test_an_interrupted_run_says_how_far_it_came():
    tree = run(expanded("each", 3), done("each[a]"), begun("draft"), steps=("draft", "each", "z"))
    tree.end(4.0)
    assert kept(tree) == [
        "notes",
        "! draft stopped after 4.0 s",
        "! each  stopped after 4.0 s, 1 of 3 done",
        "· z     not started",
    ]


def test_what_an_interrupted_run_spent_is_said_below_it():
    tree = run(expanded("each", 3), done("each[a]"), steps=("each", "z"))
    tree.hear(INTERRUPTED, 3.5)
    tree.end(3.5)
    assert kept(tree) == [
        "notes",
        "! each stopped after 3.5 s, 1 of 3 done",
        "· z    not started",
        "interrupted after 3.5 s: 1 asked, 2 cached, 3 requests, 1,234 tokens, about",
        "0.0100 USD, 2 of unknown outcome",
        "run it again to go on: 3 of this run's 7 are done and not paid for again",
    ]


def test_a_judge_at_work_is_shown_as_such_and_not_as_the_answer():
    judge = events.RequestSent(at=1, step="draft", model="Claude-Opus-4.6", purpose="judge")
    tree = run(begun("draft"), text("draft", "Otters"), judge)
    assert tree.rows["draft"].model == "Claude-Opus-4.6"
    assert tree.rows["draft"].note(2.0) == "judging"
    tree.hear(text("draft", "{"), 2.0)
    assert tree.rows["draft"].words(20) == "{"


class TestFailuresAtTheEnd:
    def test_a_failure_in_sight_is_told_once(self):
        assert kept(run(failed("draft"))) == ["notes", "✗ draft the server answered 400"]

    def test_one_that_is_cut_is_told_in_full(self):
        message = "the answer is not as expected: no otters; ask again with --refresh"
        assert kept(run(failed("draft", message)), width=39) == [
            "notes",
            "✗ draft the answer is not as expected:…",
            "✗ draft: failed: the answer is not as",
            "  expected: no otters; ask again with",
            "  --refresh",
        ]

    def test_those_of_a_loop_are_told_together(self):
        tree = run(
            expanded("draft", 40),
            *(failed(f"draft[{n}]", "no points; buy some") for n in range(5)),
            *(failed(f"draft[{n}]", f"not {n}") for n in range(5, 40)),
        )
        lines = kept(tree)
        assert lines[2] == "✗ draft[0], draft[1], draft[2] and 2 more: failed: no points; buy some"
        assert lines[3] == "✗ draft[5]: failed: not 5"
        assert lines[-1] == "  16 more failed"
        assert len(lines) == 23

    def test_those_that_miss_one_expectation_are_told_together(self):
        missed = "expected a score of at least 0.6, found 0.{}: dull; ask again"
        tree = run(
            expanded("draft", 4),
            *(failed(f"draft[{n}]", missed.format(n)) for n in range(3)),
            failed("draft[3]", "0 of 2 samples passed, 50% must: no otters"),
            failed("draft[4]", "1 of 2 samples passed, 50% must: no otters"),
        )
        assert kept(tree, width=200)[2:] == [
            f"✗ draft[0], draft[1], draft[2]: failed, the first: {missed.format(0)}",
            "✗ draft[3], draft[4]: failed, the first: 0 of 2 samples passed, 50% must: no otters",
        ]

    def test_what_the_samples_of_a_failed_instance_miss_is_not_told_twice(self):
        missed = [
            events.Expected(at=1, step=f"draft[a]#{n}", kind="that", level="error", message="not b")
            for n in (1, 2)
        ]
        told = "0 of 2 samples passed, 50% must: not b"
        assert kept(run(expanded("draft", 1), *missed, failed("draft[a]", told)))[2:] == [
            f"✗ draft[a]: failed: {told}"
        ]
        assert kept(run(expanded("draft", 1), *missed, done("draft[a]")))[2:] == [
            "! draft[a]#1, draft[a]#2: warning: not b"
        ]

    def test_there_may_be_very_many(self):
        tree = run(expanded("draft", 900), *(failed(f"draft[{n}]", f"not {n}") for n in range(900)))
        assert kept(tree)[-1] == "  880 more failed"
        tree = run(expanded("draft", 900), *(failed(f"draft[{n}]", "no") for n in range(900)))
        assert kept(tree)[-1] == "✗ draft[0], draft[1], draft[2] and 897 more: failed: no"

    def test_one_that_has_scrolled_away_is_told_once_more(self):
        steps = tuple(f"s{n}" for n in range(20))
        lines = kept(run(failed("s0"), *map(done, steps[1:]), steps=steps))
        assert lines[1] == "✗ s0  the server answered 400"
        assert lines[-1] == "✗ s0: failed: the server answered 400"


@pytest.mark.parametrize("kind", OUTSIDE, ids=lambda kind: kind.__name__)
def test_nothing_from_outside_steers_a_terminal(kind):
    tree = run(begun("draft"), telling(kind, HOSTILE))
    drawn = shown(tree, width=300)
    tree.end(2.0)
    for line in (*drawn, *kept(tree, width=300)):
        assert not CONTROL.search(line), repr(line)


def test_names_do_not_steer_a_terminal_either():
    tree = Tree()
    tree.hear(events.RunStarted(at=0, flow=HOSTILE, steps=(HOSTILE,), simulated=True), 0.0)
    for name in (HOSTILE, f"draft[{HOSTILE}]", f"draft[{HOSTILE}]/x"):
        tree.hear(begun(name, HOSTILE), 0.0)
    lines = shown(tree, width=400)
    assert not CONTROL.search("".join(lines))
    assert r"a\x1b]0;owned\x07b\x0dc\u202ed\ufeffe\x9bf\u200bg" in lines[0]


@settings(max_examples=50)
@given(st.lists(every_event(), max_size=12), st.integers(1, 90), st.integers(1, 30))
def test_whatever_happens_is_drawn_within_the_terminal(happened, width, height):
    tree = run(*happened)
    lines = shown(tree, width=width, height=height)
    assert len(lines) <= height
    assert max(map(cell_len, lines)) <= width
    tree.end(3.0)
    assert not CONTROL.search("".join([*lines, *kept(tree, width=width)]))


def test_what_is_told_of_the_run_stands_above_the_foot():
    tree = run(begun("draft"), events.Warned(at=1, step=None, message="paused; p goes on"))
    assert shown(tree, height=8) == [
        "notes", "* draft 2.0 s   GPT-5.2", "paused; p goes on", "2.0 s, 1 at work",
    ]  # fmt: skip
    assert len(shown(tree, height=5)) == 2
    tree.end(2.0)
    assert kept(tree)[-1] == "! warning: paused; p goes on"
