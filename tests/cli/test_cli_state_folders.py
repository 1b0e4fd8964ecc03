"""Parts of the state that are not what poeflow makes are seen before anything is sent."""

import os

import pytest

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  draft: {prompt: on otters, output: {save: out.md}}
"""
FOLDERS = (
    *(".poeflow", ".poeflow/cache", ".poeflow/cache/ends", ".poeflow/cache/media"),
    *(".poeflow/cache/media/urls", ".poeflow/cache/media/files"),
)
OFFLINE = (".poeflow/simulated", ".poeflow/simulated/cache", ".poeflow/offline")


@pytest.fixture
def outside(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outside")
    (folder / "precious.json").write_text("precious")
    return folder


def put_a_link(path, outside) -> None:
    path.symlink_to(outside)


def put_a_file(path, outside) -> None:
    path.write_text("x")


@pytest.mark.parametrize("put", [put_a_link, put_a_file])
@pytest.mark.parametrize("name", FOLDERS)
def test_nothing_is_sent_where_an_answer_could_not_be_stored(online, simulator, outside, name, put):
    online.write("a.yaml", FLOW)
    path = online.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    put(path, outside)
    done = online.run("run", "a.yaml")
    assert (done.returncode, len(done.stderr.splitlines())) == (8, 2), done.stderr
    assert f"{name} is a" in done.stderr
    assert len(simulator.requests) == 0
    assert [one.name for one in outside.iterdir()] == ["precious.json"]


@pytest.mark.parametrize("name", OFFLINE)
def test_nothing_simulated_is_written_through_a_link(desk, outside, name):
    desk.write("a.yaml", FLOW)
    path = desk.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(outside)
    done = desk.run("run", "a.yaml", "--offline")
    assert (done.returncode, f"{name} is a link" in done.stderr) == (8, True), done.stderr
    assert [one.name for one in outside.iterdir()] == ["precious.json"]


def test_a_folder_of_answers_that_is_a_link_is_seen(online, simulator, outside):
    online.write("a.yaml", FLOW)
    assert online.run("run", "a.yaml").returncode == 0
    folder = online.folder / ".poeflow/cache/ab"
    folder.parent.mkdir()
    folder.symlink_to(outside)
    sent = len(simulator.requests)
    done = online.run("run", "a.yaml", "--refresh")
    assert (done.returncode, "is a link" in done.stderr) == (8, True), done.stderr
    assert len(simulator.requests) == sent


@pytest.mark.parametrize("name", ["cache", "cache/media", "cache/ends"])
def test_pruning_removes_nothing_behind_a_link(desk, outside, name):
    path = desk.folder / ".poeflow" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(outside)
    done = desk.run("cache", "prune", "--older", "0s", "--max-size", "0", "--unreferenced")
    assert (done.returncode, f"{name} is a link" in done.stderr) == (8, True), done.stderr
    assert (outside / "precious.json").read_text() == "precious"


@pytest.mark.parametrize("name", [".poeflow", ".poeflow/cache"])
def test_folders_of_another_user_are_not_used(online, simulator, name):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    online.write("a.yaml", FLOW)
    (online.folder / name).mkdir(parents=True)
    os.chown(online.folder / name, 12345, 12345)
    done = online.run("run", "a.yaml")
    assert (done.returncode, "belongs to another user" in done.stderr) == (8, True), done.stderr
    assert len(simulator.requests) == 0


def test_root_is_at_home_in_the_project_of_another_user(online):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    online.write("a.yaml", FLOW)
    (online.folder / ".poeflow").mkdir()
    for path in (online.folder, online.folder / ".poeflow"):
        os.chown(path, 12345, 12345)
    assert online.run("run", "a.yaml").returncode == 0


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
@pytest.mark.parametrize("name", ["ledger.jsonl", "lock"])
def test_a_ledger_or_mark_that_is_no_file_is_seen(online, simulator, outside, name, kind):
    online.write("a.yaml", FLOW)
    online.write("out.md", "mine")
    path = online.folder / ".poeflow" / name
    path.parent.mkdir()
    make = {"link": lambda: path.symlink_to(outside / "precious.json"), "folder": path.mkdir}
    make.get(kind, lambda: os.mkfifo(path))()
    done = online.run("run", "a.yaml")
    assert (done.returncode, len(done.stderr.splitlines())) == (8, 2), done.stderr
    assert len(simulator.requests) == 0
    assert (outside / "precious.json").read_text() == "precious"


def test_a_folder_in_place_of_an_answer_is_seen_before_it_is_asked_for(online, simulator):
    online.write("a.yaml", FLOW)
    assert online.run("run", "a.yaml").returncode == 0
    answer = online.folder / ".poeflow/cache/ab" / ("ab" * 32 + ".json")
    answer.mkdir(parents=True)
    sent = len(simulator.requests)
    done = online.run("run", "a.yaml", "--refresh")
    assert done.returncode == 8, done.stderr
    assert len(simulator.requests) == sent


def test_pictures_behind_a_link_are_not_looked_through(desk, outside):
    from poeflow.digest import sha256_of
    from poeflow.project.project import Project
    from poeflow.report.pages.source import Pictures
    from poeflow.store.workspace import Workspace

    data = b"\x89PNG\r\n\x1a\n" + bytes(64)
    (outside / "a.png").write_bytes(data)
    state = desk.folder / ".poeflow"
    state.mkdir()
    (state / "offline").symlink_to(outside)
    project = Project(desk.folder.resolve())
    pictures = Pictures(project, Workspace(project, {}, offline=True).output_tree())
    assert pictures.find(sha256_of(data)) is None
    assert pictures.find(sha256_of(data), ("//a.png",)) is None
