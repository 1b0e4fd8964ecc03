"""Revisions by the names git gives them, and their files, of honest and hostile repositories."""

import os
import subprocess
import sys

import pytest
from hostile_trees import ATTACKS, Trap

from poeflow.errors import UsageError
from poeflow.store.revisions.revision_names import (
    repository_of,
    revision_of,
    span_of,
    span_since,
)
from poeflow.store.revisions.trees import (
    changed_between,
    changed_since,
    files_of,
    write_files,
)


class Clone:
    def __init__(self, folder):
        self.folder = folder
        self.environ = {"PATH": os.environ["PATH"], "HOME": str(folder.parent / "home")}
        folder.mkdir()
        self.git("init", "-q", "-b", "main")

    def git(self, *words, given=None):
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words],
            cwd=self.folder,
            env=self.environ,
            check=True,
            capture_output=True,
            input=given,
        )
        return done.stdout.decode().strip()

    def commit(self, **files):
        for name, text in files.items():
            (self.folder / name).write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")

    @property
    def asked(self):
        return repository_of(self.folder, self.environ, asked="--since")


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path / "clone")


def test_every_name_git_knows_for_a_commit(clone):
    first, second = clone.commit(a="1"), clone.commit(a="2")
    clone.git("tag", "light", first)
    clone.git("tag", "-a", "-m", "x", "heavy", first)
    clone.git("branch", "feature/x", first)
    clone.git("update-ref", "refs/remotes/origin/main", first)
    clone.git("symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    names = ["light", "heavy", "feature/x", "heads/feature/x", "refs/heads/feature/x"]
    names += ["origin/main", "origin", "HEAD~1", "HEAD^", "@~", "main~1", first, first[:7]]
    for name in names:
        assert revision_of(clone.asked, name).commit == first, name
    clone.git("pack-refs", "--all")
    for name in names:
        assert revision_of(clone.asked, name).commit == first, name
    assert revision_of(clone.asked, "main").commit == second


@pytest.mark.parametrize(
    "name",
    ["nope", "-v", "--help", "HEAD:a", "@{1}", "a b", "", "HEAD~9", "../../HEAD", "refs/../HEAD"],
)
def test_what_is_no_revision_is_a_usage_error_that_says_what_is(clone, name):
    clone.commit(a="1")
    with pytest.raises(UsageError) as error:
        revision_of(clone.asked, name)
    assert name in error.value.message
    assert "name a branch, a tag or a commit" in str(error.value.hint)


def test_two_dots_compare_commits_and_three_where_they_parted(clone):
    first = clone.commit(a="1")
    clone.git("checkout", "-q", "-b", "side")
    side = clone.commit(b="1")
    clone.git("checkout", "-q", "main")
    main = clone.commit(c="1")
    spans = {name: span_of(clone.asked, name) for name in ("main..side", "main...side", "..side")}
    assert spans["main..side"].old.commit == main
    assert spans["main...side"].old.commit == first
    assert spans["..side"].old.commit == main
    assert {one.new.commit for one in spans.values() if one.new is not None} == {side}
    assert span_since(clone.asked, "side").old.commit == side
    assert span_since(clone.asked, "side...").new is None
    assert span_since(clone.asked, "side...").old.commit == first


def test_commits_without_a_common_one_say_so(clone):
    clone.commit(a="1")
    clone.git("checkout", "-q", "--orphan", "other")
    clone.commit(b="1")
    with pytest.raises(UsageError, match="have no commit in common"):
        span_of(clone.asked, "main...other")


def test_a_shallow_clone_is_said_to_lack_commits(clone, tmp_path):
    clone.commit(a="1")
    clone.commit(a="2")
    clone.git("clone", "-q", "--depth=1", f"file://{clone.folder}", str(tmp_path / "shallow"))
    git = repository_of(tmp_path / "shallow", clone.environ, asked="--since")
    with pytest.raises(UsageError) as error:
        revision_of(git, "HEAD~1")
    assert "git fetch --unshallow" in str(error.value.hint)


def test_outside_a_repository_and_without_git(clone, tmp_path):
    (tmp_path / "plain").mkdir()
    with pytest.raises(UsageError, match="--since needs a repository of git"):
        repository_of(tmp_path / "plain", clone.environ, asked="--since")
    clone.commit(a="1")
    git = repository_of(clone.folder, {"PATH": ""}, asked="--since")
    with pytest.raises(UsageError, match="which does not run"):
        revision_of(git, "main")


def test_the_files_of_a_revision_in_a_folder(clone, tmp_path):
    (clone.folder / "sub").mkdir()
    (clone.folder / "sub/ä b").write_bytes(b"\0\xff")
    (clone.folder / "link").symlink_to("sub/ä b")
    (clone.folder / "empty").touch()
    commit = clone.commit(a="1\n")
    clone.commit(a="2\n")
    into = tmp_path / "into"
    into.mkdir()
    write_files(clone.asked, files_of(clone.asked, commit), into)
    assert {path.name: path.read_bytes() for path in into.rglob("*") if path.is_file()} == {
        "a": b"1\n",
        "ä b": b"\0\xff",
        "link": b"\0\xff",
        "empty": b"",
    }


def test_a_project_in_a_subfolder_has_its_own_files_only(clone, tmp_path):
    (clone.folder / "sub").mkdir()
    (clone.folder / "sub/b").write_text("1")
    commit = clone.commit(a="1")
    (clone.folder / "a").write_text("2")
    git = repository_of(clone.folder / "sub", clone.environ, asked="--since")
    assert [one.path for one in files_of(git, commit)] == ["//b"]
    assert changed_since(git, commit) == frozenset()
    (clone.folder / "sub/new").touch()
    assert changed_since(git, commit) == {"//new"}


def test_many_files_come_in_several_answers(clone, tmp_path):
    commit = clone.commit(**{f"f{number}": f"{number}" * number for number in range(10)})
    write_files(clone.asked, files_of(clone.asked, commit), tmp_path, at_once=3)
    assert [(tmp_path / f"f{number}").read_text() for number in (0, 5, 9)] == ["", "55555", "9" * 9]


def test_what_differs_from_a_commit(clone):
    commit = clone.commit(same="1", edited="1", gone="1", staged="1", **{".gitignore": "ignored\n"})
    (clone.folder / "edited").write_text("2")
    (clone.folder / "gone").unlink()
    (clone.folder / "staged").write_text("2")
    clone.git("add", "staged")
    (clone.folder / "new ä").touch()
    (clone.folder / "ignored").touch()
    os.utime(clone.folder / "same", (1, 1))
    assert changed_since(clone.asked, commit) == {"//edited", "//gone", "//staged", "//new ä"}
    later = clone.commit()
    both = files_of(clone.asked, commit), files_of(clone.asked, later)
    assert changed_between(*both) == {"//edited", "//gone", "//staged", "//new ä"}


def hostile_tree(clone, entries):
    """Return a commit with a tree that no honest git would write."""
    lines = []
    for mode, name, data in entries:
        blob = clone.git("hash-object", "-w", "--stdin", given=data)
        lines.append(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(blob))
    words = ("hash-object", "-w", "-t", "tree", "--literally", "--stdin")
    tree = clone.git(*words, given=b"".join(lines))
    return clone.git("commit-tree", tree, "-m", "x")


def test_nothing_is_written_outside_the_folder(clone, tmp_path):
    clone.commit(a="1")
    outside = tmp_path / "outside"
    outside.mkdir()
    commit = hostile_tree(
        clone,
        [
            ("100644", "../escaped", b"x"),
            ("100644", ".git/config", b"x"),
            ("120000", "absolute", str(outside).encode()),
            ("120000", "b", b"."),
            ("120000", "climbing", b"b/b/../../../outside"),
            ("120000", "d", str(outside).encode()),
            ("100644", "d/through", b"x"),
            ("120000", "up", b"../outside"),
        ],
    )
    into = tmp_path / "into"
    into.mkdir()
    write_files(clone.asked, files_of(clone.asked, commit), into)
    assert list(outside.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clone", "into", "outside"]
    found = [path.relative_to(into).as_posix() for path in into.rglob("*") if not path.is_dir()]
    assert found == ["d/through"]
    assert [path.name for path in into.iterdir() if path.is_symlink()] == ["b"]


def test_a_full_disk_is_said_and_an_unfit_name_left_out(clone, tmp_path):
    commit = clone.commit(a="1", b="2" * 100_000)
    script = (
        "import os, pathlib, resource, signal, sys\n"
        "from poeflow.errors import DiskError\n"
        "from poeflow.store.revisions.revision_names import repository_of\n"
        "from poeflow.store.revisions.trees import files_of, write_files\n"
        "git = repository_of(pathlib.Path(sys.argv[1]), os.environ, asked='--since')\n"
        "files = files_of(git, sys.argv[2])\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "try:\n"
        "    write_files(git, files, pathlib.Path(sys.argv[3]))\n"
        "except DiskError as error:\n"
        "    print(error.message)\n"
    )
    (tmp_path / "full").mkdir()
    arguments = [str(clone.folder), commit, str(tmp_path / "full")]
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"{tmp_path / 'full/b'} cannot be written: file too large\n"
    entries = [("100644", "a", b"x"), ("100644", "n" * 300, b"x"), ("100644", "z", b"x")]
    into = tmp_path / "into"
    into.mkdir()
    write_files(clone.asked, files_of(clone.asked, hostile_tree(clone, entries)), into)
    assert sorted(path.name for path in into.iterdir()) == ["a", "z"]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_no_question_about_a_revision_starts_anything_of_the_tree(tmp_path, attack):
    trap = Trap.set_in(tmp_path)
    attack(trap)
    trap.ran.unlink(missing_ok=True)
    try:
        git = repository_of(trap.project, trap.environ, asked="--since")
        commit = revision_of(git, "HEAD").commit
        changed_since(git, commit)
        (tmp_path / "into").mkdir()
        write_files(git, files_of(git, commit), tmp_path / "into")
        span_of(git, "HEAD...HEAD")
    except UsageError:
        pass
    assert not trap.ran.exists(), trap.ran.read_text()
