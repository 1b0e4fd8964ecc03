"""Git merges the locks of two branches by poeflow, once `poeflow init --git` has told it to."""

import json
import os
import subprocess
import sys

import pytest

from poeflow.store.lockfile import LockFile

FLOW = """\
poeflow: 1
steps:
  say: {for_each: {file: rows.csv, key: item.key}, render: "say {{ item.text }}"}
"""


class Branches:
    """A repository with a flow over a table, a commit for each state of the table."""

    def __init__(self, desk) -> None:
        self.desk = desk
        program = desk.write("home/bin/poeflow", "")
        command = f'exec {sys.executable} -m poeflow.cli.start "$@"\n'
        program.write_text(f"#!/bin/sh\n{command}")
        program.chmod(0o755)
        self.path = desk.folder / "a.lock.json"
        desk.environ["PATH"] = f"{program.parent}:{os.environ['PATH']}"
        self.git("init", "-q", "-b", "main")
        self.git("config", "user.name", "somebody")
        self.git("config", "user.email", "somebody@example.com")
        desk.write(".gitignore", "home/\n.poeflow/\n")
        desk.write("a.yaml", FLOW)

    def git(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.desk.folder,
            env=self.desk.env(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 or arguments[0] == "merge", done.stderr
        return done

    def commit(self, branch: str, **rows: str) -> None:
        """Run the flow over these rows, and commit that to a branch."""
        if branch != "main":
            self.git("checkout", "-q", "-b", branch, "main")
        lines = [f"{key},{text}\n" for key, text in rows.items()]
        self.desk.write("rows.csv", "".join(["key,text\n", *lines]))
        done = self.desk.run("run", "a.yaml")
        assert done.returncode == 0, done.stderr
        self.git("add", "-A")
        self.git("commit", "-q", "-m", branch)

    def merged(self) -> subprocess.CompletedProcess[str]:
        """Merge the branch `other` into `own`; the table is a person's to merge."""
        self.git("checkout", "-q", "own")
        return self.git("merge", "-q", "-m", "merged", "other")

    def rows(self) -> dict[str, str | None]:
        lock = LockFile(self.path, shown="a.lock.json").read()
        return {name: entry.text for name, entry in lock.instances.items()}


@pytest.fixture
def branches(desk):
    found = Branches(desk)
    assert desk.run("init", "--git").returncode == 0
    return found


def test_rows_of_both_branches_are_taken(branches):
    branches.commit("main", b="1", d="2", f="3")
    branches.commit("own", a="0", b="1", d="2", f="3")
    branches.commit("other", b="1", d="9", e="5", f="3", g="7")
    other = branches.rows()
    branches.git("checkout", "-q", "own")
    own = branches.rows()
    done = branches.merged()
    assert "Merge conflict in a.lock.json" not in done.stdout
    assert branches.rows() == {**other, "say[a]": own["say[a]"]}


def test_what_one_branch_took_out_is_out(branches):
    branches.commit("main", b="1", d="2", f="3")
    branches.commit("own", b="1", f="3")
    branches.commit("other", b="1", d="2", f="3", g="7")
    branches.merged()
    assert list(branches.rows()) == ["say[b]", "say[f]", "say[g]"]


def test_what_both_changed_is_marked_and_settled_by_the_next_run(branches):
    branches.commit("main", b="1", d="2", f="3")
    branches.commit("own", b="1", d="8", f="3")
    own = branches.rows()
    branches.commit("other", b="1", d="9", f="3")
    done = branches.merged()
    assert "Merge conflict in a.lock.json" in done.stdout
    assert "a.lock.json: both sides changed" in done.stderr
    assert branches.path.read_text().count("<<<<<<< ours\n") == 1
    branches.desk.write("rows.csv", "key,text\nb,1\nd,8\nf,3\n")
    assert branches.desk.run("run", "a.yaml").returncode == 0
    assert branches.rows() == own


def test_git_is_set_up_once_and_told_of(branches):
    desk = branches.desk
    before = (desk.folder / ".git/config").read_text()
    done = desk.run("init", "--git")
    assert done.returncode == 0
    assert done.stdout == (
        "git config merge.poeflow.name: takes the entries of both sides of a lock\n"
        "git config merge.poeflow.driver: poeflow lock merge %O %A %B %P\n"
        ".gitattributes has the line already: *.lock.json merge=poeflow\n"
    )
    assert (desk.folder / ".git/config").read_text() == before
    assert (desk.folder / ".gitattributes").read_text() == "*.lock.json merge=poeflow\n"


def test_lines_of_others_stay(desk):
    Branches(desk)
    desk.write(".gitattributes", "*.png binary")
    assert desk.run("init", "--git").returncode == 0
    lines = (desk.folder / ".gitattributes").read_text()
    assert lines == "*.png binary\n*.lock.json merge=poeflow\n"


@pytest.mark.parametrize("name", [".gitattributes", ".git/config"])
def test_nothing_is_written_through_a_link(desk, name):
    Branches(desk)
    target = desk.write("home/target", "")
    place = desk.folder / name
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    assert desk.run("init", "--git").returncode == 2
    assert target.read_text() == ""
    assert place.is_symlink()


def test_without_a_repository_it_says_so(desk):
    done = desk.run("init", "--git")
    assert done.returncode == 2
    assert "the project is in no repository of git" in done.stderr


def test_locks_that_cannot_be_read_are_merged_as_texts(desk):
    newer = json.dumps({"poeflow_lock": 9, "a": 1, "b": 2, "c": 3}, indent=1)
    desk.write("base", newer)
    desk.write("ours", newer.replace('"a": 1', '"a": 8'))
    desk.write("theirs", newer.replace('"c": 3', '"c": 9'))
    done = desk.run("lock", "merge", "base", "ours", "theirs", "x.lock.json")
    assert done.returncode == 0, done.stderr
    merged = (desk.folder / "ours").read_text()
    assert json.loads(merged) == {"poeflow_lock": 9, "a": 8, "b": 2, "c": 9}
