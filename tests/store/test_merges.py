"""What git leaves of files in a merge, made again."""

import os
import subprocess

import pytest

from poeflow.project.conflicts import Conflict, sides
from poeflow.store.git import Git
from poeflow.store.revisions.merges import conflicts_of

BASE = "1\n2\n3\n4\n5\n6\n"
OURS = BASE.replace("1", "ours").replace("6", "we, too")
THEIRS = BASE.replace("1", "theirs")
PATHS = ("a", "in/b c.md", 'in/"ü', "in/new")


class Merging:
    """A repository in which both branches changed some files in the folder `top`."""

    def __init__(self, folder, name: str = "project") -> None:
        self.folder, self.environ = folder / name, {"PATH": os.environ["PATH"], "HOME": str(folder)}
        self.project = self.folder / "top"
        self.project.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")
        self.write(BASE, PATHS[:3])
        self.commit()
        self.git("checkout", "-q", "-b", "theirs")
        self.write(THEIRS, (*PATHS, "../outside"))
        self.commit()
        self.git("checkout", "-q", "-b", "ours", "main")
        self.write(OURS, (*PATHS, "../outside"))
        self.write(OURS, ["ours only"])
        self.commit()

    def git(self, *words: str, fails: bool = False) -> str:
        user = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        command = ["git", *user, *words]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ, check=False, capture_output=True, text=True
        )
        assert (done.returncode != 0) == fails, done.stderr
        return done.stdout

    def write(self, text: str, paths) -> None:
        (self.project / "in").mkdir(exist_ok=True)
        for path in paths:
            (self.project / path).write_text(text)

    def commit(self) -> None:
        self.git("add", ".")
        self.git("commit", "-q", "-m", "a")

    def conflicts(self) -> dict[str, Conflict]:
        found = Git.find(self.project, self.environ)
        assert found is not None
        return conflicts_of(found, {*PATHS, "ours only", "missing", "outside"})


@pytest.fixture
def merging(tmp_path):
    found = Merging(tmp_path)
    found.git("merge", "theirs", fails=True)
    return found


@pytest.mark.parametrize("way", ["under way", "added", "committed"])
def test_every_file_in_conflict_is_found_with_its_sides(merging, way):
    left = {path: (merging.project / path).read_bytes() for path in PATHS}
    if way != "under way":
        merging.git("add", ".")
    if way == "committed":
        merging.git("commit", "-q", "-m", "merged")
    found = merging.conflicts()
    assert found.keys() == set(PATHS)
    for path, conflict in found.items():
        assert sides(conflict.marked) == sides(left[path])
        assert (conflict.ours, conflict.theirs) == (OURS.encode(), THEIRS.encode())


WAYS = {
    "rebase": (("rebase", "--onto", "theirs", "older", "ours"), ("rebase", "--continue")),
    "cherry-pick": (("cherry-pick", "theirs"), ("cherry-pick", "--continue")),
    "revert": (("revert", "older"), ("revert", "--continue")),
    "squash": (("merge", "--squash", "theirs"), ("commit", "-q", "-m", "merged")),
    "stash": (("stash", "pop"), ("commit", "-q", "-m", "merged")),
}


@pytest.mark.parametrize("then", ["under way", "added", "committed"])
@pytest.mark.parametrize("way", WAYS)
def test_so_it_is_by_every_command_that_merges(tmp_path, way, then):
    merging = Merging(tmp_path)
    first, last = WAYS[way]
    merging.git("branch", "older")
    merging.git("config", "core.editor", "true")
    newer, other = OURS.replace("ours", "newer"), THEIRS.replace("theirs", "others")
    merging.write(newer, PATHS)
    if way == "stash":
        merging.git("stash")
        merging.write(other, PATHS)
        merging.commit()
    elif way == "rebase":
        merging.commit()
    elif way == "revert":
        merging.write(newer.replace("we, too", "we, last"), PATHS)
        merging.commit()
    elif way == "squash":
        merging.commit()
    else:
        merging.commit()
        merging.git("checkout", "-q", "theirs")
        merging.write(other, PATHS)
        merging.commit()
        merging.git("checkout", "-q", "ours")
    merging.git(*first, fails=True)
    left = {path: (merging.project / path).read_bytes() for path in PATHS if path != "in/new"}
    if then != "under way":
        merging.git("add", ".")
    if then == "committed":
        merging.git(*last)
    found = merging.conflicts()
    assert found.keys() >= left.keys()
    for path, marked in left.items():
        assert b"<<<<<<<" in marked
        assert sides(found[path].marked) == sides(marked)


@pytest.mark.parametrize("style", ["merge", "diff3", "zdiff3"])
def test_the_sides_are_the_same_in_every_style_of_marks(tmp_path, style):
    merging = Merging(tmp_path)
    merging.git("-c", f"merge.conflictStyle={style}", "merge", "theirs", fails=True)
    left = (merging.project / "a").read_bytes()
    assert sides(merging.conflicts()["a"].marked) == sides(left)


def test_merging_again_leaves_the_repository_as_it_is(merging):
    before = sorted((merging.folder / ".git").rglob("*"))
    assert merging.conflicts()
    assert sorted((merging.folder / ".git").rglob("*")) == before


def test_no_driver_of_the_repository_runs(merging):
    ran = merging.folder / "ran"
    merging.git("config", "merge.own.driver", f"touch {ran}")
    (merging.folder / ".gitattributes").write_text("* merge=own\n")
    assert merging.conflicts().keys() == set(PATHS)
    assert not ran.exists()


@pytest.mark.parametrize("name", ['a "quoted" name', "a:b", "a\\b"])
def test_a_repository_may_have_any_name(tmp_path, name):
    merging = Merging(tmp_path, name)
    merging.git("merge", "theirs", fails=True)
    assert merging.conflicts().keys() == set(PATHS)


def test_nothing_is_found_without_a_merge_or_without_git(tmp_path, merging):
    merging.environ["PATH"] = ""
    assert merging.conflicts() == {}
    assert Merging(tmp_path / "other").conflicts() == {}
