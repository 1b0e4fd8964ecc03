"""A picture is drawn over the one before it, on a terminal as it really behaves."""

import threading

import pytest
from run_events import FakeClock
from terminal import Terminal

from poeflow import events
from poeflow.report.terminal.live import LiveReport
from poeflow.report.terminal.screen import Screen


def lines(*texts: str):
    return [((text, "red"),) for text in texts]


@pytest.fixture
def terminal():
    with Terminal(20, 6) as made:
        yield made


def test_one_picture_takes_the_place_of_another(terminal):
    terminal.write("$ poeflow run\r\n")
    screen = Screen(terminal, color=True)
    screen.draw(lines("one", "two longer", "three"))
    assert terminal.lines == ["$ poeflow run", "one", "two longer", "three"]
    assert not terminal.has_cursor
    screen.draw(lines("ONE", "2"))
    assert terminal.lines == ["$ poeflow run", "ONE", "2"]
    screen.draw(lines("a", "b", "c", "d"))
    screen.leave(lines("the end", "of it"))
    assert terminal.lines == ["$ poeflow run", "the end", "of it"]
    assert terminal.has_cursor
    terminal.write("$ ")
    assert terminal.lines[-1] == "$"


def test_a_picture_as_high_as_the_terminal_does_not_scroll(terminal):
    screen = Screen(terminal, color=True)
    for count in range(5):
        screen.draw(lines(*(f"{count} {row}" for row in range(6))))
    assert terminal.lines == [f"4 {row}" for row in range(6)]
    assert terminal.above == []
    screen.leave(lines(*(f"end {row}" for row in range(9))))
    assert [*terminal.above, *terminal.lines] == [f"end {row}" for row in range(9)]


def test_cells_counted_otherwise_do_not_break_a_line(terminal):
    """A terminal that takes a character for wider than we do loses the end of the line only."""
    screen = Screen(terminal, color=True)
    screen.draw(lines("x" * 40, "next"))
    assert terminal.lines == ["x" * 20, "next"]
    screen.draw(lines("a", "b"))
    assert terminal.lines == ["a", "b"]


def test_the_size_is_asked_for_each_time(terminal):
    screen = Screen(terminal, color=True)
    assert screen.size == (19, 6)
    screen.draw(lines("one", "two"))
    terminal.resize(40, 10)
    assert screen.size == (39, 10)
    screen.draw(lines("one wider", "two"))
    assert terminal.lines == ["one wider", "two"]


def test_lines_that_a_narrower_terminal_broke_are_taken_away(terminal):
    screen = Screen(terminal, color=True)
    terminal.write("before\n")
    screen.draw(lines("x" * 15, "y" * 15))
    terminal.resize(10, 6)
    terminal.write("\x1b[2J\x1b[H" + "before\n" + "x" * 10 + "\nxxxxx\n" + "y" * 10 + "\nyyyyy")
    screen.draw(lines("one", "two"))
    assert terminal.lines == ["before", "one", "two"]


def test_no_colour_where_none_is_wanted(terminal):
    Screen(terminal, color=False).leave(lines("plain"))
    assert "\x1b[31m" not in terminal.getvalue()
    Screen(terminal, color=True).leave([(("loud", "bold red"),)])
    assert "\x1b[1;31m" in terminal.getvalue()


class Broken(Terminal):
    def write(self, text: str) -> int:
        raise OSError(5, "the terminal is gone")


def test_a_run_outlives_its_terminal():
    with Broken(20, 6) as stream:
        report = LiveReport(stream, FakeClock(), color=False)
        before = set(threading.enumerate())
        with report:
            report(events.RunStarted(at=0, flow="f", steps=("a",), simulated=False))
            for ticker in set(threading.enumerate()) - before:
                ticker.join()  # it ends by itself, without a trace
            report(events.StepStarted(at=0, step="a", model="m"))
        assert not set(threading.enumerate()) - before


def test_the_live_report_draws_and_leaves_the_tree():
    with Terminal(60, 12) as terminal:
        clock = FakeClock()
        with LiveReport(terminal, clock, color=False) as report:
            report(events.RunStarted(at=0, flow="notes", steps=("a", "b"), simulated=True))
            report(events.StepStarted(at=0, step="a", model="m"))
            clock.seconds = 3.0
            report.draw()
            assert terminal.lines[0] == "notes  simulated, nothing is sent to Poe"
            assert terminal.lines[2:] == ["· b", "3.0 s, 1 at work, 1 waiting"]
            report(events.StepFailed(at=3, step="a", message="no", error_class="io", seconds=3))
            report(events.StepSkipped(at=3, step="b", reason="a failed"))
        assert terminal.lines == [
            "notes  simulated, nothing is sent to Poe",
            "✗ a no",
            "- b skipped, a failed",
        ]
        assert terminal.has_cursor
