"""`POEFLOW_STATE_DIR`: all state is there, and none in the project; an unreadable home."""

import ctypes
import json
import os
import subprocess

import pytest

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  draft: {prompt: hi, output: {save: out.md}}
"""
PICTURE = "  draw: {model: GPT-Image-1, prompt: an otter, output: {media: pictures}}\n"


@pytest.fixture
def place(online, tmp_path_factory):
    """The folder for the state of all projects, not made yet."""
    folder = tmp_path_factory.mktemp("outside") / "deep/state"
    online.environ["POEFLOW_STATE_DIR"] = str(folder)
    return folder


def only(folder):
    """Return the one folder in a folder."""
    (found,) = folder.iterdir()
    return found


def test_everything_is_there_and_nothing_in_the_project(online, place, simulator):
    online.write("a.yaml", FLOW + PICTURE)
    before = online.files()
    assert online.run("run", "a.yaml").returncode == 0
    assert online.run("run", "a.yaml", "--offline").returncode == 0
    assert online.run("models").returncode == 0
    made = [name for name in online.files() if not name.startswith(("home/", "pictures/"))]
    assert made == sorted([*before, "a.lock.json", "out.md"])
    state = only(place)
    names = {path.name for path in state.iterdir()}
    assert {"poeflow.db", "lock", "offline", "cache", "models.json", "project.txt"} <= names
    assert any((state / "cache/media/files").iterdir())
    assert (state / "project.txt").read_text() == f"{online.folder.resolve()}\n"
    assert (place.stat().st_mode & 0o777, state.stat().st_mode & 0o777) == (0o700, 0o700)


def test_every_reader_finds_it(online, place, simulator):
    online.write("a.yaml", FLOW)
    assert online.run("run", "a.yaml").returncode == 0
    sent = len(simulator.requests)
    assert online.run("run", "a.yaml").returncode == 0
    assert online.run("run", "a.yaml", "--locked").returncode == 0
    assert len(simulator.requests) == sent
    assert "fresh" in online.run("plan", "a.yaml").stderr
    for command in (
        ("show", "1/draft"),
        ("history",),
        ("report", "last", "--html", "page.html"),
        ("cache", "explain", "a.yaml", "draft"),
        ("cache", "export", "answers.jsonl"),
        ("cache", "prune", "--older", "30d"),
    ):
        done = online.run(*command)
        assert done.returncode == 0, (command, done.stderr)
    answers = (online.folder / "answers.jsonl").read_text().splitlines()
    assert len(answers) == 1
    online.write("out.md", "edited by hand")
    assert online.run("accept", "a.yaml").returncode == 0
    assert online.run("models").returncode == 0
    online.write("b.yaml", FLOW.replace("GPT-5.2", "not-a-bot"))
    assert "not-a-bot" in online.run("check", "b.yaml").stderr
    assert not (online.folder / ".poeflow").exists()


def test_two_projects_share_nothing(online, place, simulator):
    for name in ("one", "two"):
        online.write(f"{name}/poeflow.toml", "")
        online.write(f"{name}/a.yaml", FLOW)
        assert online.run("run", f"{name}/a.yaml").returncode == 0
    assert len(simulator.requests) == 2
    assert len(list(place.iterdir())) == 2


def test_answers_that_are_left_behind_are_mentioned(online, simulator, tmp_path_factory):
    online.write("a.yaml", FLOW)
    assert online.run("run", "a.yaml").returncode == 0
    place = tmp_path_factory.mktemp("outside")
    online.environ["POEFLOW_STATE_DIR"] = str(place)
    done = online.run("status", "a.yaml")
    assert f"the answers in {online.folder}/.poeflow are not used" in done.stderr
    target = json.loads(online.run("config", "--output", "json").stdout)["files"][2]["path"]
    (online.folder / ".poeflow").rename(target)
    done = online.run("run", "a.yaml")
    assert (done.returncode, "are not used" in done.stderr) == (0, False)
    assert len(simulator.requests) == 1


@pytest.mark.parametrize("name", ["", "cache", "cache/media"])
def test_no_link_is_followed_there(online, place, simulator, tmp_path_factory, name):
    outside = tmp_path_factory.mktemp("precious")
    online.write("a.yaml", FLOW)
    target = json.loads(online.run("config", "--output", "json").stdout)["files"][2]["path"]
    path = place / target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(outside)
    done = online.run("run", "a.yaml")
    assert (done.returncode, "is a link" in done.stderr) == (8, True), done.stderr
    assert (len(simulator.requests), list(outside.iterdir())) == (0, [])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_folder_of_another_user_is_not_used(online, place, simulator):
    online.write("a.yaml", FLOW)
    target = json.loads(online.run("config", "--output", "json").stdout)["files"][2]["path"]
    path = place / target
    path.mkdir(parents=True)
    os.chown(path, 12345, 12345)
    done = online.run("run", "a.yaml")
    assert (done.returncode, "belongs to another user" in done.stderr) == (8, True), done.stderr
    assert len(simulator.requests) == 0


def test_a_place_in_the_project_is_refused_by_all(online, simulator):
    online.write("a.yaml", FLOW)
    online.environ["POEFLOW_STATE_DIR"] = str(online.folder / "state")
    for command in (["run"], ["plan"], ["status"], ["check"], ["accept"]):
        done = online.run(*command, "a.yaml")
        assert (done.returncode, "is in the project" in done.stderr) == (2, True), command
    assert len(simulator.requests) == 0


def as_one_of_many() -> None:
    """Give up root's right to read everything: then a closed folder is closed to us."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def test_an_unreadable_home_stops_nothing_that_needs_nothing_from_it(online):
    home = online.folder / "home"
    home.chmod(0)
    online.write("a.yaml", FLOW)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            online.command(*words),
            cwd=online.folder,
            env=online.env(),
            preexec_fn=as_one_of_many,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    try:
        for command in (
            ("check", "a.yaml"),
            ("plan", "a.yaml"),
            ("run", "a.yaml"),
            ("run", "a.yaml", "--locked"),
            ("status", "a.yaml"),
            ("history",),
            ("models",),
            ("config",),
            ("doctor",),
            ("schema",),
            ("graph", "a.yaml"),
            ("init", "new.yaml"),
        ):
            done = run(*command)
            assert done.returncode == 0, (command, done.stderr)
            assert done.stderr.count("permission denied; it is not used") <= 1
        assert "permission denied; it is not used" in run("plan", "a.yaml").stderr
    finally:
        home.chmod(0o700)
