"""The state folder is private, offline is apart, and two runs never write at once."""

import os
import signal
import subprocess
import sys

import pytest
from storing import answer_in, put, record

from poeflow.digest import sha256_of
from poeflow.errors import BusyError, DiskError
from poeflow.project.project import Project
from poeflow.store.workspace import Workspace

A = sha256_of(b"a")
HOLD = (
    "import pathlib, sys\n"
    "from poeflow.project.project import Project\n"
    "from poeflow.store.workspace import Workspace\n"
    "with Workspace(Project(pathlib.Path(sys.argv[1])), {}, offline=False).hold():\n"
    "    print('held', flush=True)\n"
    "    sys.stdin.read()\n"
)


class FakeClock:
    """Waiting takes no time, and `on_sleep` happens meanwhile."""

    def __init__(self, on_sleep=lambda: None):
        self.time = 1000.0
        self.on_sleep = on_sleep

    def monotonic(self):
        return self.time

    def now(self):
        return self.time

    def sleep(self, seconds):
        self.time += seconds
        self.on_sleep()

    async def asleep(self, seconds):
        raise AssertionError


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path.resolve())


@pytest.fixture
def other_run(project):
    """Another process that holds the workspace until its stdin is closed."""
    arguments = [sys.executable, "-c", HOLD, str(project.root)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.stdin.close()


def tree(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def test_nothing_is_made_before_it_is_needed(project):
    workspace = Workspace(project, {}, offline=False)
    answer_in(workspace.answers(on_corrupt=print), A)
    workspace.ledger().written("//a")
    assert tree(project.root) == []


def test_what_lies_where(project):
    workspace = Workspace(project, {}, offline=False)
    workspace.prepare()
    put(workspace.answers(on_corrupt=print), A, {})
    record(workspace.ledger(), "//a", "1")
    workspace.output_tree().write("//out/a.md", b"x")
    workspace.store.close()
    assert tree(project.root) == [
        ".poeflow",
        ".poeflow/.gitignore",
        ".poeflow/poeflow.db",
        ".poeflow/poeflow.lock",
        "out",
        "out/a.md",
    ]
    state = project.root / ".poeflow"
    assert (state / ".gitignore").read_text() == "*\n"
    assert state.stat().st_mode & 0o777 == 0o700


def test_offline_is_apart(project):
    workspace = Workspace(project, {}, offline=True)
    workspace.prepare()
    put(workspace.answers(on_corrupt=print), A, {})
    record(workspace.ledger(), "//a", "1")
    workspace.output_tree().write("//out/a.md", b"x")
    workspace.store.close()
    assert tree(project.root) == [
        ".poeflow",
        ".poeflow/.gitignore",
        ".poeflow/offline",
        ".poeflow/offline/out",
        ".poeflow/offline/out/a.md",
        ".poeflow/poeflow.db",
        ".poeflow/poeflow.lock",
        ".poeflow/simulated",
    ]
    assert answer_in(workspace.answers(on_corrupt=print), A) == {}
    real = Workspace(project, {}, offline=False)
    assert answer_in(real.answers(on_corrupt=print), A) is None
    assert real.ledger().written("//a") == frozenset()


def test_an_own_gitignore_is_kept_and_an_open_folder_is_closed(project):
    state = project.root / ".poeflow"
    state.mkdir(mode=0o755)
    (state / ".gitignore").write_text("!cache\n")
    Workspace(project, {}, offline=False).prepare()
    assert (state / ".gitignore").read_text() == "!cache\n"
    assert state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", [".poeflow", ".poeflow/simulated"])
def test_state_that_is_a_link_is_refused(project, tmp_path_factory, name):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    path = project.root / name
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(elsewhere)
    with pytest.raises(DiskError) as caught:
        Workspace(project, {}, offline=True).prepare()
    assert str(caught.value) == (
        f"{path} is a link; nothing is written through it; replace the link by a folder"
    )
    assert list(elsewhere.iterdir()) == []


def test_a_lock_that_is_a_link_is_refused(project):
    (project.root / ".poeflow").mkdir()
    (project.root / ".poeflow" / "lock").symlink_to("../victim")
    with pytest.raises(DiskError), Workspace(project, {}, offline=False).hold():
        raise AssertionError
    assert not (project.root / "victim").exists()


def test_holding_twice_says_who_holds_it(project):
    clock = FakeClock()
    first, second = Workspace(project, {}, offline=False), Workspace(project, {}, offline=True)
    with first.hold(clock=clock):
        with pytest.raises(BusyError) as caught, second.hold(wait=10, clock=clock):
            raise AssertionError
        assert str(caught.value) == (
            f"another run (process {os.getpid()}, for 10 s) is at work in this project;"
            " wait for it, or end it"
        )
        assert clock.time == pytest.approx(1010, abs=0.1)
    with second.hold(wait=0, clock=clock):
        pass


@pytest.mark.parametrize("note", [b"\xff", b'{"a":' + b"[" * 1_019], ids=len)
def test_a_lock_without_a_note(project, other_run, note):
    (project.root / ".poeflow" / "lock").write_bytes(note)
    with (
        pytest.raises(BusyError) as caught,
        Workspace(project, {}, offline=False).hold(wait=0, clock=FakeClock()),
    ):
        raise AssertionError
    assert caught.value.message == "another run is at work in this project"


def test_a_failure_lets_go(project):
    workspace = Workspace(project, {}, offline=False)
    with pytest.raises(KeyboardInterrupt), workspace.hold():
        raise KeyboardInterrupt
    with workspace.hold(wait=0):
        pass


def test_a_hold_is_known_by_those_who_looked_before(project):
    workspace, other = (Workspace(project, {}, offline=False) for _ in "ab")
    assert workspace.last_hold() == 0
    with workspace.hold() as last:
        assert (last, other.last_hold()) == (0, None)
    before = workspace.last_hold()
    with other.hold() as last:
        assert last == before
    before = workspace.last_hold()
    with pytest.raises(KeyboardInterrupt), other.hold():
        raise KeyboardInterrupt
    assert workspace.last_hold() not in (before, None)


def test_a_killed_run_leaves_its_note(project, other_run):
    other_run.send_signal(signal.SIGKILL)
    other_run.wait()
    workspace = Workspace(project, {}, offline=False)
    assert workspace.last_hold() is None
    with workspace.hold() as last:
        assert last == -1
    assert workspace.last_hold() is not None


def test_another_process_is_named(project, other_run):
    with (
        pytest.raises(BusyError) as caught,
        Workspace(project, {}, offline=False).hold(wait=1, clock=FakeClock()),
    ):
        raise AssertionError
    assert caught.value.message.startswith(f"another run (process {other_run.pid}, for ")


def test_a_killed_run_lets_go(project, other_run):
    def kill():
        other_run.send_signal(signal.SIGKILL)
        other_run.wait()

    with Workspace(project, {}, offline=False).hold(clock=FakeClock(on_sleep=kill)):
        assert other_run.returncode == -9
