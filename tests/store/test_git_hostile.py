"""Nothing that a tree brings with it runs because git is asked about it."""

import subprocess
import sys

import pytest
from hostile_trees import (
    ATTACKS,
    Trap,
    bare_repository_in_a_clone,
    filter_clean,
    fsmonitor,
    git_file_that_leads_elsewhere,
    included_configuration,
)

from poeflow.store.git import Git
from poeflow.store.revisions.merges import conflicts_of, unresolved_sides


@pytest.fixture(params=ATTACKS, ids=lambda attack: attack.__name__)
def trap(request, tmp_path):
    trap = Trap.set_in(tmp_path)
    request.param(trap)
    trap.ran.unlink(missing_ok=True)
    return trap


def test_a_run_starts_nothing_of_the_tree(trap):
    run = [sys.executable, "-P", "-m", "poeflow.cli.start", "run", "a.yaml", "--offline"]
    environ = {**trap.environ, "POE_API_KEY": "canary-key-0123456789"}
    done = subprocess.run(
        run, cwd=trap.project, env=environ, capture_output=True, text=True, timeout=40, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not trap.ran.exists(), trap.ran.read_text()


def test_no_question_starts_anything_of_the_tree(trap):
    git = Git.find(trap.project, trap.environ) or Git(trap.project, trap.environ)
    git.commit_and_dirty()
    git.tracked(["a.md", ".poeflow"])
    list(git.versions("a.md"))
    unresolved_sides(git, "a.md")
    conflicts_of(git, {"a.md"})
    git.ask("ls-files", "--others", "--exclude-standard")
    git.revision("main")
    assert git.merged(b"A\nb\nc\n", b"a\nb\nc\n", b"a\nb\nC\n") == (b"A\nb\nC\n", False)
    assert not trap.ran.exists(), trap.ran.read_text()


@pytest.mark.parametrize(
    "attack",
    [
        bare_repository_in_a_clone,
        filter_clean,
        fsmonitor,
        git_file_that_leads_elsewhere,
        included_configuration,
    ],
)
def test_git_by_itself_falls_for_such_trees(tmp_path, attack):
    trap = Trap.set_in(tmp_path)
    attack(trap)
    trap.ran.unlink(missing_ok=True)
    trap.git("-c", "safe.bareRepository=all", "status", folder=trap.project)
    assert trap.ran.exists()
