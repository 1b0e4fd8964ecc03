"""What git knows of honest repositories of every kind, and of broken ones."""

import os
import subprocess

import pytest

from poeflow.store.git import Git


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def project(tmp_path, home):
    (tmp_path / "project").mkdir()
    return tmp_path / "project"


@pytest.fixture
def git(project, home):
    """A repository without anybody's settings."""

    def run(*words: str, folder=project) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words],
            cwd=folder,
            env=environ_of(home),
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    run("init", "-q", "-b", "main")
    return run


@pytest.fixture
def commit(project, git):
    """Return a function that commits a file and gives the commit."""

    def commit(text: str = "a\n", name: str = "a") -> str:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_bytes(text.encode())
        git("add", "-f", name)
        git("commit", "-q", "-m", text)
        return git("rev-parse", "HEAD")

    return commit


def environ_of(home, **more):
    return {"PATH": os.environ["PATH"], "HOME": str(home), **more}


def state(folder, **environ):
    home = folder
    while not (home / "home").is_dir() and home != home.parent:
        home = home.parent
    git = Git.find(folder, environ_of(home / "home", **environ))
    return None if git is None else git.commit_and_dirty()


def asked(folder):
    found = Git.find(folder, environ_of(folder))
    assert found is not None
    return found


def test_a_clean_and_a_dirty_tree(project, commit):
    assert state(project) == (None, None), "no commit yet"
    first = commit()
    assert state(project) == (first, False)
    (project / "a").write_text("b")
    assert state(project) == (first, True)


def test_no_repository(project):
    assert state(project) is None
    assert Git(project, environ_of(project)).commit_and_dirty() == (None, None)


def test_without_git_the_commit_is_known_and_nothing_else(project, commit):
    first = commit()
    assert state(project, PATH="") == (first, None)
    assert state(project, PATH=str(project)) == (first, None)


def test_new_files_count_unless_they_are_ignored(project, home, git, commit):
    first = commit("ignored\n", ".gitignore")
    (project / "ignored").touch()
    (project / ".git/info/exclude").write_text("excluded\n")
    (project / "excluded").touch()
    (project / "everywhere").touch()
    (project / "always").touch()
    assert state(project) == (first, True)
    (home / "ignore").write_text("everywhere\nalways\n")
    (home / ".gitconfig").write_text("[core]\n\texcludesFile = ~/ignore\n")
    assert state(project) == (first, False)
    (home / ".gitconfig").unlink()
    (home / ".config/git").mkdir(parents=True)
    (home / "ignore").rename(home / ".config/git/ignore")
    assert state(project) == (first, False)


def test_a_project_in_a_subfolder_is_all_that_is_looked_at(project, git, commit):
    first = commit("a\n", "sub/a")
    (project / "new").touch()
    assert state(project / "sub") == (first, False)
    (project / "sub/new").touch()
    assert state(project / "sub") == (first, True)


def test_a_detached_head_and_packed_refs(project, git, commit):
    first = commit()
    second = commit("b\n")
    git("pack-refs", "--all")
    assert state(project) == (second, False)
    git("checkout", "-q", first)
    assert state(project) == (first, False)


def test_a_linked_work_tree(project, tmp_path, git, commit):
    first = commit()
    git("worktree", "add", "-q", "-b", "other", str(tmp_path / "linked"))
    second = commit("b\n")
    assert state(project) == (second, False)
    assert state(tmp_path / "linked") == (first, False)
    (tmp_path / "linked/a").write_text("c\n")
    assert state(tmp_path / "linked") == (first, True)
    assert list(asked(tmp_path / "linked").versions("a")) == [b"a\n"]
    assert asked(tmp_path / "linked").tracked(["a"]) == ["a"]


def test_a_submodule_and_what_is_around_it(project, tmp_path, git, commit):
    inner = commit()
    git("init", "-q", "-b", "main", str(tmp_path / "outer"))
    outer = tmp_path / "outer"
    git(
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "-q",
        "add",
        str(project),
        "in",
        folder=outer,
    )
    git("commit", "-qm", "x", folder=outer)
    assert state(outer / "in") == (inner, False)
    assert asked(outer / "in").tracked(["a"]) == ["a"]
    (outer / "in/a").write_text("c\n")
    assert state(outer / "in") == (inner, True)
    assert state(outer) == (git("rev-parse", "HEAD", folder=outer), False)


def test_hashes_of_the_long_kind(tmp_path, home, git):
    folder = tmp_path / "long"
    git("init", "-q", "--object-format=sha256", str(folder))
    (folder / "a").write_text("a\n")
    git("add", "a", folder=folder)
    git("commit", "-qm", "x", folder=folder)
    first = git("rev-parse", "HEAD", folder=folder)
    assert (len(first), state(folder)) == (64, (first, False))
    assert list(asked(folder).versions("a")) == [b"a\n"]
    assert asked(folder).tracked(["a"]) == ["a"]


def test_a_shallow_clone_and_a_split_index(project, tmp_path, git, commit):
    commit()
    second = commit("b\n")
    git("clone", "-q", "--depth=1", f"file://{project}", str(tmp_path / "shallow"))
    git("update-index", "--split-index", folder=tmp_path / "shallow")
    assert state(tmp_path / "shallow") == (second, False)
    assert list(asked(tmp_path / "shallow").versions("a")) == [b"b\n"]
    assert asked(tmp_path / "shallow").tracked(["a"]) == ["a"]


@pytest.mark.parametrize("is_users", [True, False])
def test_line_ends_that_git_converts_are_no_difference(project, home, git, commit, is_users):
    file = home / ".gitconfig" if is_users else project / ".git/config"
    with file.open("a") as config:
        config.write("[core]\n\tautocrlf = true\n")
    first = commit("a\r\nb\r\n")
    os.utime(project / "a", (1, 1))
    assert git("cat-file", "blob", "HEAD:a") == "a\nb"
    assert state(project) == (first, False)


def test_what_a_filter_would_have_to_tell_is_unknown(project, git, commit):
    git("config", "filter.up.clean", "tr a-z A-Z")
    commit("* filter=up\n*.md -filter\n", ".gitattributes")
    commit("a\n")
    first = commit("m\n", "b.md")
    for name in (".gitattributes", "a", "b.md"):  # no doubt whether they changed since
        os.utime(project / name, (1, 1))
    git("update-index", "--refresh")
    assert state(project) == (first, False)
    os.utime(project / "a", (2, 2))
    assert state(project) == (first, None)
    (project / "b.md").write_text("n\n")
    assert state(project) == (first, True)


def test_the_users_environment_leads_git_nowhere(project, tmp_path, git, commit):
    first = commit()
    git("init", "-q", str(tmp_path / "other"))
    other = str(tmp_path / "other/.git")
    assert state(project, GIT_DIR=other, GIT_WORK_TREE="/", GIT_INDEX_FILE="x") == (first, False)
    assert state(tmp_path / "home", GIT_DIR=other) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_repository_of_another_user_is_read_too(project, commit):
    first = commit()
    for path in (project, project / ".git", project / ".git/config"):
        os.chown(path, 12345, 12345)
    assert state(project) == (first, False)


def test_git_gets_no_key_and_nothing_else_of_the_environment(project, tmp_path, commit):
    commit()
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin/git"
    script.write_text(f"#!/bin/sh\nenv >>{tmp_path}/environ\n")
    script.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    secrets = {"POE_API_KEY": "canary", "GIT_TRACE": str(tmp_path / "trace"), "LD_PRELOAD": ""}
    state(project, PATH=path, **secrets, GIT_CONFIG_COUNT="0", GIT_EXTERNAL_DIFF="x")
    found = (tmp_path / "environ").read_text()
    assert "GIT_DIR=" in found
    names = ("canary", "GIT_TRACE", "LD_PRELOAD", "GIT_CONFIG_COUNT", "GIT_EXTERNAL_DIFF")
    assert [name for name in names if name in found] == []


def test_what_is_tracked_among_paths_and_below_them_in_any_case(project, git, commit):
    assert asked(project).tracked(["a"]) == [], "no index yet"
    for name in ("a", "ab", ".poeflow/cache/x.json", ".PoeFlow/é", "sub/.poeflow/y"):
        commit("x\n", name)
    (project / "new").touch()
    assert asked(project).tracked(["new", "A", ".poeflow/", "none"]) == [
        ".PoeFlow/é",
        ".poeflow/cache/x.json",
        "a",
    ]
    assert asked(project / "sub").tracked([".poeflow", "a"]) == [".poeflow/y"]
    assert asked(project).tracked(["*", "[a]", ":(top)a"]) == []
    assert asked(project).tracked([]) == []


@pytest.mark.parametrize("form", ["sha1", "sha256"])
@pytest.mark.parametrize("version", ["2", "3"])
def test_what_is_tracked_is_seen_without_git_too(tmp_path, home, git, form, version):
    folder = tmp_path / "other"
    git("init", "-q", f"--object-format={form}", str(folder))
    names = (
        "a",
        "docs/old.poeflow.md",
        "sub/.PoeFlow/cache/y",
        "sub/.poeflow.md",
        "sub/" + "x" * 9,
    )
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x\n")
        git("add", name, folder=folder)
    if version == "3":  # which only names with such a mark need
        (folder / "late").touch()
        git("add", "--intent-to-add", "late", folder=folder)
    git("commit", "-qm", "x", folder=folder)
    assert (folder / ".git/index").read_bytes()[7] == int(version)
    blind = Git.find(folder / "sub", {"PATH": ""})
    assert blind is not None
    for paths in ([".poeflow", "none"], ["x" * 9], [".poeflow.md", ".Poeflow/cache/"], ["y"]):
        assert blind.tracked(paths) == asked(folder / "sub").tracked(paths)
    assert blind.tracked([".poeflow", "none"]) == [".PoeFlow/cache/y"]


@pytest.mark.parametrize("how", ["4", "split", "cut", "none"])
def test_what_nobody_can_tell_counts_as_tracked(project, git, commit, how):
    commit("x\n", ".poeflow/y")
    index = project / ".git/index"
    match how:
        case "4":
            git("update-index", "--index-version=4")
        case "split":
            git("update-index", "--split-index")
        case "cut":
            index.write_bytes(index.read_bytes()[:-1])
        case _:
            index.write_bytes(b"")
    blind = Git.find(project, {"PATH": ""})
    assert blind is not None
    assert blind.tracked([".poeflow", "none"]) == [".poeflow", "none"]


def test_older_versions_of_a_file_are_found_the_newest_first(project, git, commit):
    for text in ("one", "two", "three"):
        commit(text)
    assert list(asked(project).versions("a")) == [b"three", b"two", b"one"]
    assert list(asked(project).versions("b")) == []
    assert list(asked(project).versions("*")) == []


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (b"a\nb\nC\n", (b"A\nb\nC\n", False)),
        (b"x\nb\nc\n", (b"<<<<<<< edited\nA\n=======\nx\n>>>>>>> answer\nb\nc\n", True)),
    ],
)
def test_two_changes_of_one_text_are_merged_or_shown_side_by_side(tmp_path, theirs, expected):
    git = Git(tmp_path, environ_of(tmp_path))
    assert git.merged(b"A\nb\nc\n", b"a\nb\nc\n", theirs) == expected


def test_without_git_there_are_no_versions_and_no_merges(tmp_path):
    git = Git(tmp_path, {"PATH": str(tmp_path)})
    assert (list(git.versions("a")), git.merged(b"", b"", b"")) == ([], None)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("HEAD", (None, None)),
        ("packed-refs", (None, None)),
        ("config", False),
        ("info/exclude", False),
        ("shallow", False),
        ("index", None),
        ("commondir", False),
    ],
)
def test_a_link_to_a_device_is_as_if_there_were_nothing(project, git, commit, name, expected):
    first = commit()
    git("pack-refs", "--all")
    (project / ".git" / name).unlink(missing_ok=True)
    (project / ".git" / name).symlink_to("/dev/zero")
    found = state(project)
    if name == "HEAD":
        assert found is None
    else:
        assert found == (expected if isinstance(expected, tuple) else (first, expected))


def test_a_list_of_other_stores_that_never_ends_is_given_up(project, commit):
    first = commit()
    (project / ".git/objects/info/alternates").symlink_to("/dev/zero")
    assert state(project) == (first, None)


@pytest.mark.parametrize(
    "head",
    ["", "ref: refs/../../../etc/passwd", "ref: HEAD", "ref: refs/heads/a", "g" * 40, "x" * 99_999],
)
def test_a_head_that_says_nothing(project, git, head):
    (project / ".git/HEAD").write_text(head)
    (project / ".git/refs/heads/a").write_text("ref: refs/heads/a")
    assert state(project) == (None, None)


@pytest.mark.parametrize(
    "text",
    ["", "gitdir:", "gitdir: /none", "gitdir: \0", "gitdir: " + "x" * 5_000, "x" * 99_999],
)
def test_a_git_file_that_leads_nowhere(project, text):
    (project / ".git").write_text(text)
    assert state(project) is None


@pytest.mark.parametrize("common", ["", "\0", "x" * 5_000, "/dev/null", "../.."])
def test_a_common_folder_that_is_none(project, commit, common):
    first = commit()
    (project / ".git/commondir").write_text(common)
    assert state(project) in (None, (first, False))


def test_a_link_that_goes_round(project):
    (project / ".git").symlink_to(".git")
    assert state(project) is None


def test_a_folder_that_is_no_repository_for_its_names(project, git):
    bare = project / "bare"
    git("init", "-q", "--bare", str(bare))
    assert state(bare) == (None, None), "that of the folder around it"
    (project / "empty/.git").mkdir(parents=True)
    assert state(project / "empty") == (None, None)


@pytest.fixture
def put_git(tmp_path):
    """Return a function that gives the PATH to a program in git's place."""

    def put(script: str) -> str:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin/git").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin/git").chmod(0o755)
        return f"{tmp_path / 'bin'}:{os.environ['PATH']}"

    return put


def test_what_git_prints_is_read_up_to_a_limit(project, commit, put_git):
    first = commit()
    path = put_git("exec yes")
    assert state(project, PATH=path) == (first, True)
    git = Git.find(project, {"PATH": path})
    assert git is not None
    assert list(git.versions("a")) == []
    assert git.merged(b"", b"", b"") is None


def test_git_is_ended_with_what_it_started_when_it_takes_too_long(project, tmp_path, put_git):
    never, held = tmp_path / "never", tmp_path / "held"
    os.mkfifo(never)
    os.mkfifo(held)
    reader = os.open(held, os.O_RDONLY | os.O_NONBLOCK)
    path = put_git(f"cat {never} 3>{held} & wait")
    assert Git(project, {"PATH": path}).merged(b"", b"", b"") is None
    os.set_blocking(reader, True)
    assert os.read(reader, 1) == b"", "whoever had it open is gone"
    os.close(reader)


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
@pytest.mark.parametrize("version", ["2", "4"])
def test_a_staged_file_is_read_only_if_the_one_on_disk_is_another(project, home, kind, version):
    def git(*words):
        own = ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *words]
        subprocess.run(own, cwd=project, env=environ_of(home), check=True, capture_output=True)

    git("init", "-q", "-b", "main", f"--object-format={kind}")
    git("config", "index.version", version)
    for name in ("a.lock.json", "in/a.lock.json", "in/deeper/b"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(f"{name} as staged")
    git("add", "-A")
    git("commit", "-q", "-m", "a")
    found = Git.find(project / "in", environ_of(home))
    lock = project / "in/a.lock.json"
    if version == "2":
        assert found.staged_if_different(lock) is None
    assert found.staged_if_different(project / "in/none") is None
    assert found.staged_if_different(home / "outside") is None
    lock.write_text("another")
    assert found.staged_if_different(lock) == b"in/a.lock.json as staged"
    git("gc", "-q", "--prune=now")
    assert found.staged_if_different(lock) == b"in/a.lock.json as staged"
    git("rm", "-q", "--cached", "in/a.lock.json")
    assert found.staged_if_different(lock) is None
    (project / ".git/index").write_bytes(b"DIRC\0\0\0\2" + b"in/a.lock.json\0" * 9)
    assert found.staged_if_different(lock) is None


@pytest.mark.parametrize("way", ["merge", "cherry-pick", "rebase"])
@pytest.mark.parametrize("place", ["main", "linked"])
def test_what_is_being_merged_is_known_until_it_is_done(project, git, commit, tmp_path, way, place):
    commit()
    git("checkout", "-q", "-b", "theirs")
    theirs = commit("theirs\n")
    git("checkout", "-q", "main")
    ours = commit("ours\n")
    folder = project
    if place == "linked":
        folder = tmp_path / "linked"
        git("worktree", "add", "-q", "-b", "other", str(folder))
    assert asked(folder).merging == ()
    with pytest.raises(subprocess.CalledProcessError):
        git(way, "theirs", folder=folder)
    assert asked(folder).merging == ((ours,) if way == "rebase" else (theirs,))
    git(way, "--abort", folder=folder)
    assert asked(folder).merging == ()


def test_a_rebase_that_has_ended_is_no_merge_under_way(project, git, commit):
    commit()
    git("checkout", "-q", "-b", "theirs")
    commit("theirs\n")
    git("checkout", "-q", "main")
    commit("ours\n")
    with pytest.raises(subprocess.CalledProcessError):
        git("rebase", "theirs")
    assert (asked(project).has_merged, len(asked(project).merging)) == (True, 1)
    git("checkout", "-q", "--theirs", ".")
    git("add", ".")
    git("-c", "core.editor=true", "rebase", "--continue")
    assert (project / ".git/REBASE_HEAD").exists()
    assert (asked(project).has_merged, asked(project).merging) == (False, ())
