"""When what happens to files is acted upon: at once where they are whole, later where not."""

import os

import pytest

from poeflow.operations.watch.changes import (
    LONGEST,
    PATIENCE,
    QUIET,
    SETTLED,
    Debouncer,
    is_being_written,
)
from poeflow.operations.watch.session import Session
from poeflow.operations.watch.watched_files import FileChange
from poeflow.project.read_log import ReadLog, stamp_at


class FakeClock:
    def __init__(self) -> None:
        self.time = 100.0

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("a text of some length\n")
    return path


def waited(clock, debouncer) -> float:
    """Return the seconds until what was touched is taken."""
    began = clock.time
    while (due := debouncer.due_in) != 0.0:
        clock.time += due
    assert debouncer.take()
    return round(clock.time - began, 6)


def test_a_whole_file_is_taken_at_once(clock, file):
    debouncer = Debouncer(clock)
    assert debouncer.due_in is None
    debouncer.touch([file])
    assert waited(clock, debouncer) == QUIET
    assert debouncer.due_in is None


def test_a_file_that_is_being_written_is_left_alone(clock, file):
    debouncer = Debouncer(clock)
    with file.open("w") as writing:
        writing.write("half")
        writing.flush()
        debouncer.touch([file])
        clock.time += QUIET
        assert round(debouncer.due_in, 6) == round(SETTLED - QUIET, 6)
        clock.time += 0.1
        debouncer.touch([file])
        assert round(debouncer.due_in, 6) == SETTLED
    clock.time += 0.2
    debouncer.touch([file])
    assert waited(clock, debouncer) == SETTLED


def test_a_file_that_stays_open_is_taken_in_the_end(clock, file):
    debouncer = Debouncer(clock)
    with file.open("a") as writing:
        debouncer.touch([file])
        assert waited(clock, debouncer) == SETTLED
        clock.time += 10
        debouncer.touch([file])
        began = clock.time
        while debouncer.due_in:
            writing.write("more")
            writing.flush()
            clock.time += 0.1
            debouncer.touch([file])
        assert PATIENCE <= clock.time - began < PATIENCE + 0.2


@pytest.mark.parametrize("now", ["", "cut"])
def test_a_file_that_was_emptied_or_cut_in_place_is_left_alone(clock, file, now):
    before = stamp_at(file)
    debouncer = Debouncer(clock, before=lambda _path: before)
    file.write_text(now)
    debouncer.touch([file])
    assert waited(clock, debouncer) == SETTLED


def test_a_shorter_file_in_its_place_is_taken_at_once(clock, file):
    before = stamp_at(file)
    debouncer = Debouncer(clock, before=lambda _path: before)
    new = file.with_name("new")
    new.write_text("cut")
    os.replace(new, file)  # noqa: PTH105 - what editors do
    debouncer.touch([file])
    assert waited(clock, debouncer) == QUIET


def test_a_file_that_is_gone_may_come_back(clock, file):
    debouncer = Debouncer(clock)
    file.unlink()
    debouncer.touch([file])
    assert waited(clock, debouncer) == SETTLED


def test_what_is_saved_again_and_again_is_taken_twice(clock, file):
    debouncer, taken = Debouncer(clock), []
    for _ in range(5):
        debouncer.touch([file])
        end = clock.time + 0.15
        while debouncer.due_in is not None and clock.time + debouncer.due_in < end:
            clock.time += debouncer.due_in
            if debouncer.due_in == 0:
                taken.append(debouncer.take())
        clock.time = end
    assert waited(clock, debouncer) == round(SETTLED - 0.15, 6)
    assert taken == [{file}]
    clock.time += 2
    debouncer.touch([file])
    assert waited(clock, debouncer) == QUIET


def test_a_burst_that_does_not_end_is_looked_into(clock, file, tmp_path):
    debouncer, began = Debouncer(clock), clock.time
    while debouncer.due_in != 0.0:
        debouncer.touch([file])
        clock.time += QUIET / 2
    assert LONGEST <= clock.time - began < LONGEST + 0.03


def test_who_writes_a_file_is_known(file, tmp_path):
    assert not is_being_written(file)
    with file.open("rb"):
        assert not is_being_written(file)
    with file.open("ab"):
        assert is_being_written(file)
    assert not is_being_written(file)
    assert not is_being_written(tmp_path)
    assert not is_being_written(tmp_path / "none")


class FlowOf:
    """A flow that was read from one file, which has changed."""

    def __init__(self, path) -> None:
        self.root = path.parent
        self.inputs = self
        self.log = ReadLog()
        self._path = path

    def folders(self):
        return frozenset({self.root})

    def changes(self, touched=(), *, sweeps=True):
        return [FileChange(self._path, "changed")] if sweeps or self._path in touched else []


class NoItems:
    def arm(self, folders) -> None:
        pass


def session(clock, file) -> Session:
    return Session([FlowOf(file)], None, queue=NoItems(), screen=None, clock=clock)


def test_a_sweep_that_meets_a_file_being_written_waits(clock, file):
    watching = session(clock, file)
    with file.open("w") as writing:
        writing.write("half")
        writing.flush()
        watching._react(None)
        assert not watching._pending
        assert watching._debouncer.due_in == pytest.approx(QUIET)
    clock.time += SETTLED
    watching._react(None)
    assert [change.path for changes in watching._pending.values() for change in changes] == [file]


def test_a_sweep_acts_upon_a_whole_file_at_once(clock, file):
    watching = session(clock, file)
    watching._react(None)
    assert watching._pending
    assert watching._debouncer.due_in is None
