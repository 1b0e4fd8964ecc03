"""Patterns match what a user means, in bounded time, and never what must stay at home."""

import os
import re
from pathlib import PurePosixPath

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.project.globs import MAX_MATCHES, is_pattern, matches
from poeflow.project.private_files import Access
from poeflow.project.project import FileProblem, Project


def made(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return Project(root.resolve())


def test_what_a_pattern_is():
    assert [is_pattern(path) for path in ("a.md", "*.md", "a?", "[ab]", "a]b")] == [
        False,
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("//*.md", ["//a.md", "//b.md"]),
        ("//data/*.md", ["//data/c.md"]),
        ("//**/*.md", ["//a.md", "//b.md", "//data/c.md", "//data/deep/er/d.md"]),
        ("//**/**/d.md", ["//data/deep/er/d.md"]),
        ("//data/**", ["//data/c.md", "//data/deep/er/d.md", "//data/e.pdf"]),
        ("//data/**/er/*", ["//data/deep/er/d.md"]),
        ("//*/*/*/d.md", ["//data/deep/er/d.md"]),
        ("//?.md", ["//a.md", "//b.md"]),
        ("//[!a].md", ["//b.md"]),
        ("//[a-b].m?", ["//a.md", "//b.md"]),
        ("//[", []),
        ("//*.MD", []),
        ("//gone/*.md", []),
        ("//", []),
        ("//data/deep/*", []),
    ],
)
def test_patterns(tmp_path, pattern, found):
    project = made(tmp_path, "b.md", "a.md", "data/c.md", "data/e.pdf", "data/deep/er/d.md")
    assert matches(project, pattern) == found


def test_what_is_never_meant(tmp_path):
    project = made(
        tmp_path,
        "kept.md",
        "id_card.png",
        ".env",
        ".env.local",
        ".git/config",
        ".poeflow/cache/x",
        "notes.lock.json",
        "node_modules/x/y.js",
        "venv/x",
        "my-env/pyvenv.cfg",
        "my-env/lib/x.py",
        "__pycache__/x.pyc",
        "server.pem",
        "SERVER.PEM",
        "id_ed25519",
        "id_rsa.pub",
        "data/.hidden",
    )
    assert matches(project, "//**") == ["//id_card.png", "//kept.md"]


ONE_BY_ONE = "name the files one by one"
ON_THE_COMMAND_LINE = "name the folder on the command line: --allow-file .github"
LEFTOVERS = (
    *("notes.md~", "notes.md.~1~", "#notes.md#", "notes.md.swp", "x.swo", "4913", "notes.md.bak"),
    *("notes.md.orig", "notes.md.rej", "notes.md.tmp", "notes.md___jb_tmp___", "~$report.docx"),
    *(".DS_Store", "._notes.md", "__MACOSX/notes.md", "Thumbs.db", "ehthumbs.db", "desktop.ini"),
    *("Desktop.ini", "$RECYCLE.BIN/a.md", "System Volume Information/a", "lost+found/a"),
    "@eaDir/notes.md",
)


def test_what_editors_and_systems_leave_is_never_meant(tmp_path):
    kept = ("#1.md", "49130", "bak", "swap.swf", "tmp/a.md", "~notes.md")
    project = made(tmp_path, *LEFTOVERS, *kept)
    assert matches(project, "//**") == sorted(f"//{path}" for path in kept)
    assert [matches(project, f"//{path[:-1]}?") for path in LEFTOVERS if "/" not in path] == [
        [] for path in LEFTOVERS if "/" not in path
    ]


@pytest.mark.parametrize(
    ("pattern", "folder", "hint"),
    [
        ("//.git/*", ".git", ONE_BY_ONE),
        ("//a/.git/**", ".git", ONE_BY_ONE),
        ("//node_modules/*/x.js", "node_modules", ONE_BY_ONE),
        ("//.github/*", ".github", ON_THE_COMMAND_LINE),
        ("//link/*", ".github", ON_THE_COMMAND_LINE),
    ],
)
def test_a_folder_that_is_never_meant_is_said(tmp_path, pattern, folder, hint):
    project = made(tmp_path, ".git/config", "a/.git/config", "node_modules/x/x.js", ".github/x")
    (tmp_path / "link").symlink_to(".github")
    with pytest.raises(FileProblem) as caught:
        matches(project, pattern)
    assert str(caught.value) == f"{pattern}: patterns match nothing in {folder}; {hint}"


def test_what_the_user_named_is_matched(tmp_path):
    project = made(tmp_path, ".github/a.yml", ".github/.env", ".env", ".env.example", "x.pem")
    named = Access().allowing(tmp_path / ".github", tmp_path / ".env.example")
    allowed = msgspec.structs.replace(project, access=named)
    assert matches(project, "//**") == []
    assert matches(allowed, "//**") == ["//.env.example", "//.github/a.yml"]
    assert matches(allowed, "//.github/*") == ["//.github/a.yml"]


def test_what_holds_keys_by_another_name_is_not_matched(tmp_path):
    project = made(tmp_path, "keys.txt", "notes.txt")
    withholding = Access().withholding(tmp_path / "keys.txt")
    assert matches(msgspec.structs.replace(project, access=withholding), "//*") == ["//notes.txt"]


@pytest.mark.parametrize(("written", "named"), [("\u00e9", "e\u0301"), ("e\u0301", "\u00e9")])
def test_accents_match_in_either_unicode_form(tmp_path, written, named):
    project = made(tmp_path, f"caf{named}/th{named}-1.md", f"caf{named}/other.md")
    found = [f"//caf{named}/th{named}-1.md"]
    assert matches(project, f"//caf{written}/th{written}-*.md") == found
    assert matches(project, f"//**/th{written}*") == found
    assert matches(project, "//caf?/th?-1.md") == found


def test_links(tmp_path):
    project = made(tmp_path / "project", "real/a.md", ".env")
    outside = made(tmp_path / "outside", "secret.md").root
    root = project.root
    (root / "inside.md").symlink_to("real/a.md")
    (root / "outside.md").symlink_to(outside / "secret.md")
    (root / "env.md").symlink_to(".env")
    (root / "gone.md").symlink_to("gone")
    (root / "round.md").symlink_to("round.md")
    (root / "folder").symlink_to("real")
    (root / "out").symlink_to(outside)
    os.mkfifo(root / "pipe.md")
    assert matches(project, "//**/*.md") == ["//inside.md", "//real/a.md"]
    assert matches(project, "//folder/*.md") == ["//folder/a.md"]
    with pytest.raises(FileProblem, match="leaves the project"):
        matches(project, "//out/*.md")


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    project = made(tmp_path, "a.txt")
    (tmp_path / os.fsdecode(b"\xff.md")).touch()
    assert matches(project, "//*.txt") == ["//a.txt"]
    with pytest.raises(FileProblem) as caught:
        matches(project, "//*.md")
    assert str(caught.value) == "//\\udcff.md: the name is not UTF-8; rename it"


def test_too_many_matches(tmp_path):
    project = made(tmp_path, *(f"{number}.md" for number in range(MAX_MATCHES + 1)))
    with pytest.raises(FileProblem) as caught:
        matches(project, "//*")
    assert str(caught.value) == "//* matches over 10,000 files; narrow it"
    assert len(matches(project, "//[1-9]*")) == MAX_MATCHES


@pytest.mark.timeout(5)
def test_hostile_patterns_take_no_time(tmp_path):
    project = made(tmp_path, "a" * 250, "/".join("a" * 60) + "/b")
    assert matches(project, "//" + "*a" * 120 + "b") == []
    assert matches(project, "//" + "**/a*/" * 40 + "c") == []
    assert matches(project, "//" + "**/" * 1000 + "b") == ["//" + "/".join("a" * 60) + "/b"]


@given(
    st.lists(st.sampled_from(["a", "b", "*", "**", "a?", "?"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=5),
)
def test_agrees_with_the_plain_meaning(tmp_path_factory, pattern, path):
    root = tmp_path_factory.mktemp("globs")
    project = made(root, "/".join(path))
    pieces = {"*": "[^/]+/", "**": "(?:[^/]+/)*", "?": "[^/]/", "a?": "a[^/]/"}
    plain = "".join(pieces.get(part, f"{part}/") for part in pattern)
    if pattern[-1] == "**":
        plain = plain.removesuffix("(?:[^/]+/)*") + "(?:[^/]+/)+"
    expected = re.fullmatch(plain, "/".join(path) + "/") is not None
    found = matches(project, "//" + str(PurePosixPath(*pattern)))
    assert found == (["//" + "/".join(path)] if expected else [])
