"""What a run looks like: plain lines, JSON Lines, and problems with carets."""

import io
import json
import threading
import time
from typing import Any

import msgspec
import pytest
from run_events import INTERRUPTED, FakeClock

from poeflow import events
from poeflow.problems import Place, Problem
from poeflow.report.listeners import JsonLines
from poeflow.report.log import PlainReport
from poeflow.report.problem_formats import listing, with_source
from poeflow.report.terminal.run_summary import final_lines

RUN = (
    events.RunStarted(at=0, flow="notes", steps=("draft", "page", "late"), simulated=True),
    events.StepStarted(at=0.1, step="draft", model="GPT-5.2"),
    events.RequestSent(at=0.1, step="draft", model="GPT-5.2"),
    events.RetryPlanned(at=0.2, step="draft", attempt=1, wait=4, reason="too many (429)"),
    events.TextArrived(at=4.3, step="draft", text="Otters "),
    events.TextArrived(at=4.4, step="draft", text="hm", kind="reasoning"),
    events.Warned(at=4.5, step="draft", message="note.png is not a picture"),
    events.StepFinished(
        at=5, step="draft", source="asked", simulated=True, seconds=4.9, completion_tokens=12
    ),
    events.StepStarted(at=5, step="page", model=None),
    events.FileWritten(at=5, step="page", path="out/page.md", size=7),
    events.StepFinished(at=5, step="page", source="rendered", simulated=True, seconds=0),
    events.StepFailed(at=6, step="late", message="no", error_class="failed", seconds=1),
    events.StepSkipped(at=6, step="last", reason="late failed"),
    events.RunFinished(
        at=65,
        exit_code=1,
        asked=1,
        cached=0,
        rendered=1,
        failed=1,
        skipped=1,
        seconds=65,
        simulated=True,
        outputs={},
    ),
)


def finished(name: str, at: float, **more: Any) -> events.StepFinished:
    return events.StepFinished(at=at, step=name, source="asked", simulated=False, seconds=1, **more)


def logged(*happened: events.Event, every: float = 1) -> list[str]:
    """Return the log of events, each heard at its time, with a look at the clock now and then."""
    stream, clock, due = io.StringIO(), FakeClock(), every
    report = PlainReport(stream, clock)
    for event in happened:
        while due <= event.at:
            clock.seconds, due = due, due + every
            report.look()
        clock.seconds = event.at
        report(event)
    return stream.getvalue().splitlines()


STARTED = events.RunStarted(at=0, flow="notes", steps=("each",), simulated=False)


def test_a_long_loop_has_a_line_now_and_then_and_one_for_all_that_goes_wrong():
    happened: list[events.Event] = [
        STARTED,
        events.StepExpanded(at=0, step="each", instances=60),
        events.StepExpanded(at=0, step="few", instances=2),
    ]
    for index in range(60):
        name, end = f"each[{index}]", index + 0.5
        happened += [
            events.RequestSent(at=index, step=name, model="GPT-5.2"),
            events.RequestSent(at=index, step=f"{name}/inner", model="GPT-5.2"),
            finished(f"{name}/inner", end),
        ]
        if index == 7:
            told = {"message": "no", "error_class": "failed", "seconds": 1}
            happened.append(events.StepFailed(at=end, step=name, **told))
        elif index == 8:
            happened.append(events.StepSkipped(at=end, step=name, reason="not wanted"))
        else:
            happened.append(events.FileWritten(at=index, step=name, path="out.md", size=1))
            happened.append(finished(name, end, cost_usd=0.01, prompt_tokens=1))
    ends = "of 60 done, 1 failed, 1 skipped"
    assert logged(*happened, finished("few[0]", 59.9)) == [
        "each: 60 to do",
        "few: 2 to do",
        "each[7]: failed after 1.0 s: no",
        f"run: 8 {ends}, 54.0 a minute, about 56 s to go, about 0.0800 USD so far",
        f"run: 18 {ends}, 57.0 a minute, about 42 s to go, about 0.1800 USD so far",
        f"run: 28 {ends}, 58.0 a minute, about 31 s to go, about 0.2800 USD so far",
        f"run: 38 {ends}, 58.5 a minute, about 21 s to go, about 0.3800 USD so far",
        f"run: 48 {ends}, 58.8 a minute, about 10 s to go, about 0.4800 USD so far",
        "each: 58 of 60 done, 1 failed, 1 skipped in 60 s",
        "few[0]: answered in 1.0 s",
    ]


def test_the_line_of_a_long_loop_counts_what_is_current_when_the_run_ends():
    happened = (STARTED, events.StepExpanded(at=0, step="each", instances=60))
    over = msgspec.structs.replace(INTERRUPTED, at=9, exit_code=0, done=60, instances=60)
    lines = logged(*happened, finished("each[3]", 4), over)
    assert lines[:2] == ["each: 60 to do", "each: 1 of 60 done, 59 current in 9.0 s"]
    no = events.StepFailed(at=4, step="each[4]", message="no", error_class="failed", seconds=1)
    whole = (events.StepExpanded(at=0, step="all", instances=60),)
    whole += tuple(finished(f"all[{number}]", 5) for number in range(60))
    lines = logged(*happened, finished("each[3]", 4), no, *whole, over)
    assert lines[1:5] == [
        "each[4]: failed after 1.0 s: no",
        "all: 60 to do",
        "all: 60 of 60 done in 5.0 s",
        "each: 1 of 60 done, 1 failed, 58 current in 9.0 s",
    ]
    assert len([one for one in lines if one.startswith("all: ")]) == 2
    cut_short = msgspec.structs.replace(over, exit_code=130)
    assert not [one for one in logged(*happened, cut_short) if "current" in one]


def test_what_a_failure_says_is_not_said_twice():
    unmet = [
        events.Expected(at=1, step=step, kind="contains", level=level, message=message)
        for step, level, message in [
            ("a", "error", "expected b"),
            ("a", "warn", "expected c"),
            ("s#1", "error", "expected d"),
            ("s#2", "error", "expected e"),
        ]
    ]
    told = {"error_class": "failed", "seconds": 1.0}
    assert logged(
        STARTED,
        *unmet,
        events.StepFailed(at=2, step="a", message="expected b; ask", **told),
        finished("s", 3),
    ) == [
        "a: warning: expected c",
        "a: failed after 1.0 s: expected b; ask",
        "s#1: expected d",
        "s#2: expected e",
        "s: answered in 1.0 s",
    ]


def test_a_long_run_has_a_line_on_its_progress_while_nothing_happens():
    assert logged(
        STARTED,
        events.StepStarted(at=0, step="page", model=None),
        events.StepFinished(at=0, step="page", source="rendered", simulated=False, seconds=0),
        events.StepStarted(at=0.5, step="sum", model=None),
        *(events.RequestSent(at=1, step=f"{name}", model="GPT-5.2") for name in ("a", "sum/b#2")),
        finished("a", 15, cost_usd=None, prompt_tokens=2),
        events.RequestSent(at=31, step="sum/c", model="GPT-5.2"),
        RUN[-1],
        events.Warned(at=95, step=None, message="late"),
    ) == [
        "page: rendered",
        "run: 1 done, 2 at work (a, sum/b)",
        "a: answered in 1.0 s, 2 tokens",
        "run: 2 done, 1 at work (sum/b), 3.0 a minute",
        "run: 2 done, 1 at work (sum/b), 2.0 a minute",
        "run: 2 done, 2 at work (sum/b, sum/c), 1.5 a minute",
        "run: 2 done, 2 at work (sum/b, sum/c), 1.2 a minute",
        "run: 2 done, 2 at work (sum/b, sum/c), 1.0 a minute",
        "1 asked, 1 rendered, 1 failed, 1 skipped in 1 min 05 s (simulated)",
        "run: warning: late",
    ]


def test_what_is_current_is_not_counted_as_still_to_do():
    estimated = events.RunEstimated(
        at=0, requests=40, most_requests=40, prompt_tokens=9, answer_tokens=None, cost_usd=None
    )
    happened: list[events.Event] = [
        STARTED,
        estimated,
        events.StepExpanded(at=0, step="each", instances=1_000),
    ]
    for index in range(30):
        sent = events.RequestSent(at=index, step=f"each[{index}]", model="GPT-5.2")
        happened += [sent, finished(f"each[{index}]", index + 0.5)]
    lines = [line for line in logged(*happened) if line.startswith("run: ")]
    assert lines == [
        "run: 10 of about 40 requests answered, 1.0 a second, about 30 s to go",
        "run: 20 of about 40 requests answered, 1.0 a second, about 20 s to go",
    ]


def test_the_clock_of_a_log_runs_in_a_thread_of_its_own_until_the_end():
    stream, clock = io.StringIO(), FakeClock()
    with PlainReport(stream, clock) as report:
        report(STARTED)
        clock.seconds = 11
        until = time.monotonic() + 10
        while not stream.getvalue() and time.monotonic() < until:
            time.sleep(0.05)
    assert stream.getvalue() == "run: 0 done\n"
    assert "log" not in {thread.name for thread in threading.enumerate()}


def test_a_log_that_breaks_off_stops_nothing():
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    clock = FakeClock()
    with PlainReport(Closed(), clock) as report:
        report(STARTED)
        clock.seconds = 11
        time.sleep(1.2)


def test_plain_lines_tell_the_whole_run():
    assert logged(*RUN, every=1000) == [
        "notes: simulated run, nothing is sent to Poe",
        "draft: too many (429), waiting 4.0 s",
        "draft: warning: note.png is not a picture",
        "draft: answered in 4.9 s, 12 tokens, simulated",
        "page: rendered, wrote out/page.md",
        "late: failed after 1.0 s: no",
        "last: skipped, late failed",
        "1 asked, 1 rendered, 1 failed, 1 skipped in 1 min 05 s (simulated)",
    ]


def test_the_files_of_samples_are_in_the_line_of_their_instance():
    happened = [
        events.FileWritten(at=1, step=f"say[a]#{number}", path=f"out/{number}.md", size=1)
        for number in (1, 2, 3)
    ]
    [line] = logged(*happened, finished("say[a]", 2))
    assert line.startswith("say[a]: answered")
    assert line.endswith(", wrote out/1.md and 2 more")


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (["no; do"] * 3, ["failed: a[0], a[1], a[2]: no; do"]),
        (
            ["no; do"] * 25 + ["gone"],
            ["failed: a[0], a[1], a[2] and 22 more: no; do", "failed: a[25]: gone"],
        ),
        (
            ["expected b, found c", "expected b, found d"],
            ["failed: a[0], a[1]: the first: expected b, found c"],
        ),
        (
            [f"no {n}" for n in range(25)],
            [*(f"failed: a[{n}]: no {n}" for n in range(20)), "failed: 5 more"],
        ),
        (["no"] * 900, ["failed: a[0], a[1], a[2] and 897 more: no"]),
    ],
)
def test_in_a_long_log_failures_are_told_once_more_at_its_end_by_their_causes(messages, told):
    stream = io.StringIO()
    report = PlainReport(stream, FakeClock())
    for number, message in enumerate(messages):
        report(
            events.StepFailed(
                at=1, step=f"a[{number}]", message=message, error_class="failed", seconds=1
            )
        )
    for _ in range(41):
        report(events.StepFinished(at=1, step="b", source="cached", simulated=False, seconds=0))
    report(RUN[-1])
    assert stream.getvalue().splitlines()[len(messages) + 41 : -1] == told


def test_json_lines_hold_every_event_whole():
    stream = io.StringIO()
    for event in RUN:
        JsonLines(stream)(event)
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [record["event"] for record in records] == [
        "run_started",
        "step_started",
        "request_sent",
        "retry_planned",
        "text_arrived",
        "text_arrived",
        "warned",
        "step_finished",
        "step_started",
        "file_written",
        "step_finished",
        "step_failed",
        "step_skipped",
        "run_finished",
    ]
    assert records[4] == {
        "event": "text_arrived",
        "at": 4.3,
        "step": "draft",
        "text": "Otters ",
        "kind": "text",
    }


def ended(**changes) -> list[str]:
    return list(final_lines(msgspec.structs.replace(INTERRUPTED, **changes)))


def test_a_run_that_was_cut_short_says_what_it_spent_and_how_to_go_on():
    spent = "1 asked, 2 cached, 3 requests, 1,234 tokens, about 0.0100 USD, 2 of unknown outcome"
    going_on = "run it again to go on: 3 of this run's 7 are done and not paid for again"
    assert ended() == [f"interrupted after 3.5 s: {spent}", going_on]
    again = going_on.replace("again", "again without --refresh", 1)
    assert ended(is_refresh=True)[1] == again
    assert ended(simulated=True)[1] == going_on.replace("paid for", "asked")
    assert ended(done=0)[1] == "run it again to go on"
    assert ended(asked=0, cached=0, requests=0, tokens=0, cost_usd=None, unknown=0)[0] == (
        "interrupted after 3.5 s: nothing was asked"
    )


def test_a_run_that_failed_says_how_much_of_it_is_done():
    spent = "3 requests, 1,234 tokens, about 0.0100 USD, 2 of unknown outcome"
    assert ended(exit_code=6, failed=1) == [
        f"1 asked, 2 cached, 1 failed in 3.5 s, {spent}",
        "run it again to go on: 3 of this run's 7 are done and not paid for again",
    ]
    done = "to go on: 3 of this run's 7 are done and not paid for again"
    assert ended(exit_code=1)[1] == f"correct what failed and run it again {done}"
    assert ended(exit_code=1, unusable=1, is_refresh=True)[1] == (
        f"run it again with --failed {done}"
    )
    assert ended(unusable=1)[1] == f"run it again {done}"
    assert ended(exit_code=1, failed=1, skipped=2, held_back=1)[1] == (
        "1 of 2 skipped does not need what failed: run it with --keep-going to run it, too"
    )
    assert len(ended(exit_code=6, done=0)) == 1
    assert len(ended(exit_code=0)) == 1


@pytest.mark.parametrize(
    ("purpose", "told"),
    [
        ("answer", ""),
        ("repair", "a: asking GPT-5.2 to repair its answer\n"),
        ("tools", "a: asking GPT-5.2 with what the tools gave\n"),
        ("repeat", "a: asking GPT-5.2 for another turn\n"),
        ("judge", ""),
        ("fallback", ""),
    ],
)
def test_a_log_says_what_a_further_request_is_for(purpose, told):
    stream = io.StringIO()
    PlainReport(stream, FakeClock())(
        events.RequestSent(at=0, step="a", model="GPT-5.2", purpose=purpose)
    )
    assert stream.getvalue() == told


HOSTILE = "a\x1b]0;owned\x07b\rc\u202ed\ufeffe\x9bf"
VISIBLE = r"a\x1b]0;owned\x07b\x0dc\u202ed\ufeffe\x9bf"


def test_nothing_from_outside_steers_a_log():
    stream = io.StringIO()
    event = events.StepFailed(
        at=1, step="draft", message=HOSTILE, error_class="failed", seconds=0.5
    )
    PlainReport(stream, FakeClock())(event)
    assert stream.getvalue() == f"draft: failed after 0.5 s: {VISIBLE}\n"


def test_json_lines_are_ascii_whatever_a_model_says():
    stream = io.StringIO()
    JsonLines(stream)(events.TextArrived(at=0, step="a", text=HOSTILE + "\u2028ß"))
    assert stream.getvalue().isascii()
    assert stream.getvalue().count("\n") == 1
    assert json.loads(stream.getvalue())["text"] == HOSTILE + "\u2028ß"


PROBLEM = Problem(Place("a.yaml", 2, 5), 'unknown key "promt"', 'did you mean "prompt"?')


def test_a_problem_is_one_line_with_place_and_hint():
    told = listing([PROBLEM])
    assert told == 'a.yaml:2:5: unknown key "promt"; did you mean "prompt"?'


def test_on_a_terminal_the_line_is_shown_with_a_caret():
    told = with_source(PROBLEM, "steps:\n\t a: promt\n")
    assert told.splitlines() == [
        'a.yaml:2:5: unknown key "promt"; did you mean "prompt"?',
        "      a: promt",
        "        ^",
    ]


def test_a_hostile_source_line_is_shown_harmless_with_the_caret_in_place():
    problem = Problem(Place("a.yaml", 1, 4), "no", "")
    told = with_source(problem, "a\x1b[b")
    assert told.splitlines() == ["a.yaml:1:4: no", r"    a\x1b[b", "          ^"]


def test_a_problem_without_its_source_is_still_told():
    assert with_source(PROBLEM, None).startswith("a.yaml:2:5: unknown key")
