"""State that git tracks came with the repository: it is not used unless the user says so."""

import json
import os
import subprocess

import pytest
from stored_answers import alter_answers

from poeflow.digest import sha256_of

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  draft: {prompt: on otters, output: {save: out.md}}
"""
WARNED = "git tracks .poeflow/"


@pytest.fixture
def git(online):
    """Return a function that runs git in the project, which is a repository with a run in it."""

    def run(*arguments: str) -> None:
        clean = {"PATH": os.environ["PATH"], "HOME": str(online.folder / "home")}
        subprocess.run(["git", *arguments], cwd=online.folder, env=clean, check=True)

    run("init", "-q")
    online.write("a.yaml", FLOW)
    assert online.run("run", "a.yaml").returncode == 0
    return run


@pytest.fixture
def committed(online, git):
    """The project, with its state in git and its stored answer altered by who committed it."""
    assert alter_answers(online.folder, "of a stranger") == 1
    git("add", "-f", ".poeflow")
    return online


def test_a_run_is_refused_and_says_what_to_do(committed, simulator):
    before, sent = (committed.folder / "out.md").read_text(), len(simulator.requests)
    for options in ((), ("--refresh",), ("--offline",), ("--force",)):
        done = committed.run("run", "a.yaml", *options)
        assert done.returncode == 2, options
        assert done.stderr.count(WARNED) == 1
        assert "--trust-state" in done.stderr
        assert "git rm -r .poeflow" in done.stderr
    assert (committed.folder / "out.md").read_text() == before
    assert len(simulator.requests) == sent, "nothing is paid for that could not be stored"


def test_what_only_looks_does_without_it_and_warns_once(committed):
    for command in (("plan", "a.yaml"), ("status",), ("run", "a.yaml", "--locked")):
        done = committed.run(*command)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count(WARNED) == 1, command
    (committed.folder / "out.md").unlink()
    (status,) = json.loads(committed.run("plan", "a.yaml", "--output", "json").stdout)
    assert status["state"] == "missing"
    assert "its answer is not here" in status["reasons"]


@pytest.mark.parametrize(
    "command",
    [
        ("history",),
        ("show",),
        ("diff",),
        ("report", "last", "--html", "page.html"),
        ("view", "--no-browser"),
        ("history", "--keep", "0"),
        ("cache", "prune", "--older", "0s"),
        ("accept", "a.yaml"),
    ],
    ids=" ".join,
)
def test_nothing_else_opens_it(committed, command):
    done = committed.run(*command)
    assert (done.returncode, WARNED in done.stderr) == (2, True), done.stderr


def test_it_is_used_where_the_user_says_so(committed):
    for command in (("history",), ("show",), ("plan", "a.yaml"), ("run", "a.yaml")):
        done = committed.run(*command, "--trust-state")
        assert (done.returncode, WARNED in done.stderr) == (0, False), done.stderr
    assert "stranger" not in (committed.folder / "out.md").read_text(), "the lock still counts"


def test_what_is_no_longer_tracked_is_used(committed, git):
    git("rm", "-q", "-r", "--cached", ".poeflow")
    assert committed.run("history").returncode == 0
    assert committed.run("run", "a.yaml").returncode == 0


def test_a_row_of_a_ledger_opens_no_file_of_the_user(online, git):
    online.write("out.md", "mine")
    row = {"path": "//out.md", "sha256": sha256_of(b"mine")}
    online.write(".poeflow/ledger.jsonl", json.dumps(row) + "\n")
    done = online.run("run", "a.yaml", "--refresh")
    assert "out.md was edited since poeflow wrote it" in done.stderr
    assert (online.folder / "out.md").read_text() == "mine"


@pytest.mark.parametrize("name", [".poeflow/models.json", ".poeflow/.gitignore"])
def test_what_may_be_committed_is_no_reason(online, git, name):
    online.write(name, "[]")
    git("add", "-f", name)
    done = online.run("run", "a.yaml")
    assert (done.returncode, WARNED in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    "name", ["poeflow.db", "history.db", "ledger.jsonl", "simulated/x", "cache/ends/x", "x"]
)
def test_any_other_file_is(online, git, name):
    online.write(f".poeflow/{name}", "")
    git("add", "-f", f".poeflow/{name}")
    assert online.run("run", "a.yaml").returncode == 2


def test_a_project_in_a_folder_of_the_repository(online, git):
    online.write("inner/poeflow.toml", "")
    online.write("inner/a.yaml", FLOW)
    online.write("inner/.poeflow/ledger.jsonl", "")
    git("add", "-f", "inner/.poeflow")
    assert online.run("run", "inner/a.yaml").returncode == 2
    assert online.run("run", "a.yaml").returncode == 0


def test_state_that_a_cache_brought_back_is_used(online, git, simulator):
    git("add", "a.yaml", "out.md", "a.lock.json")
    (online.folder / "out.md").unlink()
    sent = len(simulator.requests)
    assert online.run("run", "a.yaml").returncode == 0
    assert (online.folder / "out.md").exists()
    assert len(simulator.requests) == sent
