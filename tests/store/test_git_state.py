"""Which commit a project is at."""

import os
import subprocess

import pytest

from poeflow.store.git_state import git_state


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
    return git_state(tmp_path / "project", given)


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
