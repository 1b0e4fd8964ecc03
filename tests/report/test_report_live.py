"""The live table fits every terminal, and what comes from outside cannot steer it."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from run_events import OUTSIDE, telling

from poeflow import events
from poeflow.report.live import MAX_ROWS, LiveReport
from poeflow.report.plain import PlainReport
from poeflow.report.row import TAIL_CHARACTERS, Row

HOSTILE = "a\x1b]0;owned\x07b\rc\u202ed\ufeffe\x9bf\u200bg\x1b[2J"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


class FakeClock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        raise AssertionError

    async def asleep(self, seconds: float) -> None:
        raise AssertionError


def started(*steps: str, waiting: int = 0, model: str = "GPT-5.2") -> LiveReport:
    """Return a report of a run in which `steps` have begun and `waiting` more have not."""
    report = LiveReport(io.StringIO(), FakeClock(), color=False)
    names = (*steps, *(f"later{n}" for n in range(waiting)))
    report(events.RunStarted(at=0, flow="notes", steps=names, simulated=False))
    for step in steps:
        report(events.StepStarted(at=0, step=step, model=model))
    return report


def shown(report: LiveReport, *, width: int = 80, height: int = 24) -> list[str]:
    """Return what is on a terminal of that size, without the spinner and trailing space."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=height, color_system=None)
    console.print(report)
    lines = (
        re.sub("[\u2800-\u28ff]", "*", line).rstrip() for line in stream.getvalue().split("\n")
    )
    return list(lines)[:-1]


def test_each_step_at_work_has_a_row():
    report = started("draft", "page", waiting=3)
    report(events.TextArrived(at=1, step="draft", text="x" * 1234))
    report(events.TextArrived(at=1, step="page", text="hm", kind="reasoning"))
    assert shown(report) == [
        "* draft GPT-5.2 0.0 s 1,234 characters",
        "* page  GPT-5.2 0.0 s thinking",
        "  3 waiting",
    ]


def test_a_lone_step_shows_its_text():
    report = started("draft")
    report(events.TextArrived(at=1, step="draft", text="One otter.\nTwo "))
    report(events.TextArrived(at=1, step="draft", text="otters."))
    assert shown(report)[1:] == ["One otter.", "Two otters."]


def test_a_retry_drops_what_arrived_and_says_why():
    report = started("draft")
    report(events.TextArrived(at=1, step="draft", text="half an answ"))
    report(events.RetryPlanned(at=1, step="draft", attempt=1, wait=4, reason="it broke\noff"))
    assert shown(report)[0] == "* draft GPT-5.2 0.0 s it broke off, waiting 4.0 s"
    report(events.TextArrived(at=5, step="draft", text="whole"))
    assert shown(report) == ["* draft GPT-5.2 0.0 s 5 characters", "whole"]


def test_what_does_not_fit_is_counted():
    report = started(*(f"s{n:02}" for n in range(MAX_ROWS + 2)), waiting=5)
    lines = shown(report)
    assert len(lines) == MAX_ROWS + 1
    assert lines[-1].strip() == "2 more running, 5 waiting"


def test_nothing_is_shown_when_nothing_runs():
    report = started("draft")
    report(events.StepSkipped(at=1, step="draft", reason="no"))
    report(events.StepFailed(at=1, step="draft", message="no", error_class="failed", seconds=1))
    assert shown(report) == []


@pytest.mark.parametrize("width", [20, 8, 2])
@pytest.mark.parametrize("height", [24, 5, 2])
def test_a_small_terminal_is_never_overrun(width, height):
    report = started("summarize_everything", model="Claude-Sonnet-4.5")
    report(events.TextArrived(at=1, step="summarize_everything", text="長い文 and words " * 99))
    lines = shown(report, width=width, height=height)
    assert max(map(cell_len, lines)) <= width


def test_the_newest_text_stays_in_sight_on_a_small_terminal():
    report = started("a", model="b")
    report(events.TextArrived(at=1, step="a", text="漢" * 500 + "!"))
    lines = shown(report, width=31, height=10)
    assert lines[-1].endswith("!")
    assert len(lines) <= 10


@pytest.mark.parametrize("kind", OUTSIDE, ids=lambda kind: kind.__name__)
def test_nothing_from_outside_steers_a_terminal(kind):
    stream = io.StringIO()
    live = LiveReport(stream, FakeClock(), color=False)
    live(events.RunStarted(at=0, flow="f", steps=("draft",), simulated=False))
    live(events.StepStarted(at=0, step="draft", model="GPT-5.2"))
    event = telling(kind, HOSTILE)
    live(event)
    plain = io.StringIO()
    PlainReport(plain)(event)
    for text in (stream.getvalue(), "\n".join(shown(live)), plain.getvalue()):
        assert not CONTROL.search(text), repr(text)


def test_names_do_not_steer_a_terminal_either():
    report = started(HOSTILE, model=HOSTILE)
    assert not CONTROL.search("\n".join(shown(report, width=300)))
    assert r"a\x1b]0;owned\x07b" in shown(report, width=300)[0]


def test_text_is_not_markup_and_no_emoji_code():
    report = started("draft")
    report(events.RetryPlanned(at=1, step="draft", attempt=1, wait=4, reason="[bold]:smile:"))
    report(events.StepFailed(at=1, step="x", message="[red]:smile:", error_class="io", seconds=1))
    assert "[bold]:smile:, waiting" in shown(report)[0]


@given(
    st.lists(st.text(st.characters(), max_size=40), max_size=5),
    st.integers(2, 40),
    st.integers(-5, 9),
)
def test_the_tail_fits(pieces, width, height):
    row = Row("m", 0.0)
    for piece in pieces:
        row.grow(events.TextArrived(at=0, step="a", text=piece))
    lines = row.tail(width, height).split("\n")
    assert len(lines) <= max(height, 1)
    assert max(map(cell_len, lines)) <= width
    assert not CONTROL.search("".join(lines))


def test_a_long_answer_is_not_kept_whole():
    row = Row("m", 0.0)
    for _ in range(30):
        row.grow(events.TextArrived(at=0, step="a", text="x" * 1000))
    assert len(row.tail(100_000, 9)) == TAIL_CHARACTERS
    assert row.note() == "30,000 characters"
