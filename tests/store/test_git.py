"""Which commit a project is at."""

import os
import subprocess

import pytest

from poeflow.store.git import Git


@pytest.fixture
def git(tmp_path):
    """A repository without anybody's settings."""
    home = tmp_path / "home"
    home.mkdir()

    def run(*words: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words],
            cwd=tmp_path / "project",
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    (tmp_path / "project").mkdir()
    run("init", "-q")
    return run


def state(tmp_path, **environ):
    given = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), **environ}
    git = Git.find(tmp_path / "project", given)
    return (None, None) if git is None else git.commit_and_dirty()


def test_a_clean_and_a_dirty_tree(tmp_path, git):
    assert state(tmp_path) == (None, None), "no commit yet"
    (tmp_path / "project/a").write_text("a")
    git("add", "a")
    git("commit", "-q", "-m", "one")
    commit = git("rev-parse", "HEAD")
    assert state(tmp_path) == (commit, False)
    (tmp_path / "project/a").write_text("b")
    assert state(tmp_path) == (commit, True)


def test_no_repository_and_no_git(tmp_path):
    (tmp_path / "project").mkdir()
    assert state(tmp_path) == (None, None)
    assert state(tmp_path, PATH="") == (None, None)


def test_a_hostile_repository_runs_nothing(tmp_path, git):
    ran = tmp_path / "ran"
    script = tmp_path / "project" / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)
    (tmp_path / "project/a").write_text("a")
    git("add", "a")
    git("commit", "-q", "-m", "one")
    git("config", "core.fsmonitor", str(script))
    git("config", "core.hooksPath", str(tmp_path / "project"))
    assert state(tmp_path)[1] is True
    assert not ran.exists()


def test_older_versions_of_a_file_are_found_the_newest_first(tmp_path, git):
    files = Git.find(tmp_path / "project", {"PATH": os.environ["PATH"]})
    assert list(files.versions("a")) == []
    for text in ("one", "two", "three"):
        (tmp_path / "project/a").write_text(text)
        git("add", "a")
        git("commit", "-qm", text)
    assert list(files.versions("a")) == [b"three", b"two", b"one"]
    assert list(files.versions("b")) == []


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (b"a\nb\nC\n", (b"A\nb\nC\n", False)),
        (b"x\nb\nc\n", (b"<<<<<<< edited\nA\n=======\nx\n>>>>>>> answer\nb\nc\n", True)),
    ],
)
def test_two_changes_of_one_text_are_merged_or_shown_side_by_side(tmp_path, theirs, expected):
    files = Git(tmp_path, {"PATH": os.environ["PATH"]})
    assert files.merged(b"A\nb\nc\n", b"a\nb\nc\n", theirs) == expected


def test_without_git_there_are_no_versions_and_no_merges(tmp_path):
    files = Git(tmp_path, {"PATH": str(tmp_path)})
    assert (list(files.versions("a")), files.merged(b"", b"", b"")) == ([], None)
