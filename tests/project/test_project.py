"""Paths stay inside the project, reading holds no surprises, writing is whole or not at all."""

import fcntl
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.errors import DiskError
from poeflow.project.project import (
    MAX_TEXT_BYTES,
    FileProblem,
    Project,
    atomic_write,
    make_folder,
    schemas_folder,
)

FLOW = "//flows/notes.yaml"


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "flows" / "data").mkdir(parents=True)
    (root / "flows" / "data" / "changelog.md").write_bytes(b"one\n")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_bytes(b"secret")
    return Project(root.resolve())


def problem_of(function, *arguments, **named):
    with pytest.raises(FileProblem) as caught:
        function(*arguments, **named)
    return str(caught.value)


class TestFind:
    def test_nearest_settings_win_over_git(self, tmp_path):
        (tmp_path / ".git").mkdir()
        inner = tmp_path / "inner" / "flows"
        inner.mkdir(parents=True)
        (tmp_path / "inner" / "poeflow.toml").touch()
        assert Project.find(inner) == Project(tmp_path / "inner")

    @pytest.mark.parametrize(
        "table", ["[tool.poeflow]", "[tool.poeflow.models]", " [ tool.poeflow ]"]
    )
    def test_pyproject_with_our_table_is_a_root(self, tmp_path, table):
        (tmp_path / "pyproject.toml").write_text(f"[project]\nname = 'x'\n{table}\n")
        (tmp_path / "flows").mkdir()
        assert Project.find(tmp_path / "flows") == Project(tmp_path)

    @pytest.mark.parametrize("text", ["[tool.ruff]", "# [tool.poeflow]", "[tool.poeflowers]"])
    def test_pyproject_without_our_table_is_none(self, tmp_path, text):
        flows = tmp_path / "flows"
        flows.mkdir()
        (tmp_path / "pyproject.toml").write_text(text)
        assert Project.find(flows) == Project(flows)

    def test_git_worktree_file_is_a_git_root(self, tmp_path):
        (tmp_path / ".git").write_text("gitdir: elsewhere")
        (tmp_path / "a" / "b").mkdir(parents=True)
        assert Project.find(tmp_path / "a" / "b") == Project(tmp_path)

    def test_root_is_resolved(self, tmp_path):
        (tmp_path / "real").mkdir()
        (tmp_path / "link").symlink_to("real")
        assert Project.find(tmp_path / "link") == Project(tmp_path / "real")


class TestCanonical:
    @pytest.mark.parametrize(
        ("written", "canonical"),
        [
            ("data/x.md", "//flows/data/x.md"),
            ("./data//x.md", "//flows/data/x.md"),
            ("../README.md", "//README.md"),
            ("//x.md", "//x.md"),
            ("///x.md", "//x.md"),
            ("//", "//"),
            ("//a/../b", "//b"),
            ("$HOME/x", "//flows/$HOME/x"),
            ("data/**/*.pdf", "//flows/data/**/*.pdf"),
            ("a b/ü.md", "//flows/a b/ü.md"),
        ],
    )
    def test_is_relative_to_the_file_that_names_it(self, project, written, canonical):
        assert project.canonical(written, relative_to=FLOW) == canonical

    @pytest.mark.parametrize(
        "written",
        [
            "/etc/passwd",
            "~/x",
            "~root/x",
            "../../x",
            "//../x",
            "C:/x",
            "C:\\x",
            "a\\b",
            "a\x00b",
            "",
            " ",
            "x" * 5000,
            "data/../../../x",
        ],
    )
    def test_what_leaves_the_project_is_refused(self, project, written):
        with pytest.raises(FileProblem):
            project.canonical(written, relative_to=FLOW)

    def test_says_what_to_do(self, project):
        assert problem_of(project.canonical, "../../x", relative_to=FLOW) == (
            f"../../x: the path leaves the project; move the file into the project ({project.root})"
        )
        assert problem_of(project.canonical, "/etc/x", relative_to=FLOW) == (
            "/etc/x: not a path inside the project;"
            " write it relative to the file that names it, with / between folders"
        )

    @given(st.text(alphabet="ab./~\\ :\0", max_size=30))
    def test_whatever_is_written_stays_below_the_root(self, written):
        project = Project(Path("/project"))
        try:
            canonical = project.canonical(written, relative_to=FLOW)
        except FileProblem:
            return
        inside = os.path.normpath(project.path_of(canonical))
        assert inside == "/project" or inside.startswith("/project/")
        assert project.canonical(canonical, relative_to="//other.yaml") == canonical


class TestRead:
    def test_text_loses_bom_and_carriage_returns(self, project):
        project.path_of("//t.md").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
        assert project.read_text("//t.md") == "one\ntwo\nthree\n"

    def test_bytes_are_exact(self, project):
        project.path_of("//t.bin").write_bytes(b"\r\n\xff\0")
        assert project.read_bytes("//t.bin", limit=4) == b"\r\n\xff\0"
        assert project.size_of("//t.bin") == 4

    def test_too_large(self, project):
        project.path_of("//t.bin").write_bytes(b"x" * 1001)
        assert problem_of(project.read_bytes, "//t.bin", limit=1000) == (
            "//t.bin has 1,001 bytes; the limit is 1,000; make it smaller or split it"
        )

    def test_text_has_a_limit(self, project):
        project.path_of("//t.md").write_bytes(b"x" * (MAX_TEXT_BYTES + 1))
        assert "the limit is 4,194,304" in problem_of(project.read_text, "//t.md")

    def test_not_utf8_names_the_line(self, project):
        project.path_of("//t.md").write_bytes(b"one\ntwo\xff")
        assert problem_of(project.read_text, "//t.md") == (
            "//t.md is not UTF-8 text (line 2); save it as UTF-8, or attach it"
        )

    def test_missing_suggests_a_sibling(self, project):
        assert problem_of(project.read_text, "//flows/data/changelg.md") == (
            '//flows/data/changelg.md does not exist; did you mean "changelog.md"?'
        )

    def test_missing_without_a_sibling(self, project):
        assert problem_of(project.read_text, "//flows/data/qqq") == (
            "//flows/data/qqq does not exist; check the path"
        )
        assert problem_of(project.read_text, "//nowhere/x.md") == (
            "//nowhere/x.md does not exist; its folder does not exist either"
        )

    def test_below_a_file(self, project):
        assert problem_of(project.read_text, "//flows/data/changelog.md/x") == (
            "//flows/data/changelog.md/x cannot be read: not a directory; check the path"
        )

    def test_folder(self, project):
        assert problem_of(project.read_text, "//flows") == "//flows is a folder; name a file in it"
        assert problem_of(project.read_text, "//") == "// is a folder; name a file in it"

    def test_pipe_does_not_block(self, project):
        os.mkfifo(project.path_of("//pipe"))
        assert problem_of(project.read_text, "//pipe") == (
            "//pipe is not a regular file; copy it to one"
        )

    def test_socket(self, project, monkeypatch):
        monkeypatch.chdir(project.root)
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
            assert problem_of(project.read_text, "//s") == (
                "//s is not a regular file; copy it to one"
            )

    @pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
    def test_unreadable(self, project):
        project.path_of("//t.md").touch(mode=0)
        assert problem_of(project.read_text, "//t.md") == (
            "//t.md cannot be read: permission denied; change its permissions"
        )

    @pytest.mark.parametrize("canonical", ["//.git/config", "//.poeflow/ledger.jsonl", "//.GIT/x"])
    def test_state_is_never_read(self, project, canonical):
        path = project.path_of(canonical)
        path.parent.mkdir()
        path.touch()
        assert problem_of(project.read_text, canonical) == (
            f"{canonical}: nothing in {path.parent.name} is ever read;"
            " copy the file to another folder"
        )


class TestLinks:
    def test_inside_is_followed(self, project):
        project.path_of("//link.md").symlink_to("flows/data/changelog.md")
        project.path_of("//folder").symlink_to("flows/data")
        assert project.read_text("//link.md") == "one\n"
        assert project.read_text("//folder/changelog.md") == "one\n"

    def test_outside_is_refused(self, project):
        project.path_of("//link.md").symlink_to(project.root.parent / "outside" / "secret.txt")
        assert problem_of(project.read_text, "//link.md") == (
            "//link.md is a link that leaves the project; copy the file into the project"
        )

    def test_folder_outside_gives_away_no_names(self, project):
        project.path_of("//out").symlink_to(project.root.parent / "outside")
        assert problem_of(project.read_text, "//out/secret.tx") == (
            "//out/secret.tx is a link that leaves the project; copy the file into the project"
        )

    def test_a_link_to_state_is_refused(self, project):
        project.path_of("//.git").mkdir()
        project.path_of("//.git/config").touch()
        project.path_of("//link").symlink_to(".git/config")
        assert "nothing in .git is ever read" in problem_of(project.read_text, "//link")

    def test_to_nothing(self, project):
        project.path_of("//link").symlink_to("gone")
        assert problem_of(project.read_text, "//link") == (
            "//link is a link to nothing; point it at a file of the project"
        )

    def test_going_round(self, project):
        project.path_of("//a").symlink_to("b")
        project.path_of("//b").symlink_to("a")
        assert problem_of(project.read_text, "//a") == (
            "//a cannot be read: too many levels of symbolic links; check the path"
        )


class TestShown:
    def test_as_someone_in_the_folder_would_write_it(self, project):
        assert project.shown("//flows/a.yaml", project.root) == "flows/a.yaml"
        assert project.shown("//flows/a.yaml", project.root / "flows") == "a.yaml"
        assert project.shown("//a.yaml", project.root / "flows") == "../a.yaml"


class TestWrite:
    def test_makes_folders(self, project):
        project.write("//out/deep/notes.md", b"hello\n")
        path = project.path_of("//out/deep/notes.md")
        assert path.read_bytes() == b"hello\n"
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert list(path.parent.iterdir()) == [path]

    def test_a_link_on_the_way_is_refused(self, project):
        outside = project.root.parent / "outside"
        project.path_of("//out").symlink_to(outside)
        with pytest.raises(DiskError) as caught:
            project.write("//out/x.md", b"x")
        assert str(caught.value) == (
            f"{project.root}/out is a link; nothing is written through it;"
            " replace the link by a folder"
        )
        assert [path.name for path in outside.iterdir()] == ["secret.txt"]

    def test_a_file_on_the_way(self, project):
        with pytest.raises(DiskError) as caught:
            project.write("//flows/data/changelog.md/x", b"x")
        assert str(caught.value) == (
            f"{project.root}/flows/data/changelog.md is a file where a folder is needed;"
            " move the file away"
        )

    def test_a_link_at_the_end_is_replaced(self, project):
        secret = project.root.parent / "outside" / "secret.txt"
        project.path_of("//notes.md").symlink_to(secret)
        project.write("//notes.md", b"secret")
        assert not project.path_of("//notes.md").is_symlink()
        assert project.path_of("//notes.md").read_bytes() == b"secret"
        assert secret.read_bytes() == b"secret"


class TestAtomicWrite:
    def test_replaces(self, tmp_path):
        path = tmp_path / "a"
        path.write_bytes(b"old")
        path.chmod(0o755)
        atomic_write(path, b"new", mode=0o600)
        assert path.read_bytes() == b"new"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("data", [b"same", [b"sa", b"me"]])
    def test_equal_content_keeps_the_time(self, tmp_path, data):
        path = tmp_path / "a"
        path.write_bytes(b"same")
        os.utime(path, ns=(1, 1))
        before = path.stat()
        atomic_write(path, data)
        after = path.stat()
        assert (after.st_mtime_ns, after.st_ino) == (1, before.st_ino)
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("old", [b"", b"sam", b"same!", b"sand"])
    def test_pieces_replace_what_differs(self, tmp_path, old):
        path = tmp_path / "a"
        path.write_bytes(old)
        atomic_write(path, iter([b"sa", b"me"]))
        assert path.read_bytes() == b"same"

    def test_equal_pieces_need_no_draft(self, tmp_path, monkeypatch):
        path = tmp_path / "a"
        path.write_bytes(b"same")
        monkeypatch.setattr(os, "fchmod", None)
        monkeypatch.setattr(fcntl, "flock", None)
        atomic_write(path, [b"sa", b"me"])
        with pytest.raises(TypeError):
            atomic_write(path, [b"sa", b"nd"])

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
    def test_a_failure_on_the_way_leaves_the_old_file_and_nothing_else(self, tmp_path, error):
        path = tmp_path / "a"
        path.write_bytes(b"old")

        def pieces():
            yield b"new"
            raise error

        with pytest.raises(error):
            atomic_write(path, pieces())
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

    def test_what_a_kill_left_is_used_up(self, tmp_path):
        path = tmp_path / "a"
        script = (
            "import os, sys, pathlib\n"
            "from poeflow.project.project import atomic_write\n"
            "def pieces():\n"
            "    yield b'half' * 100_000\n"
            "    os.kill(os.getpid(), 9)\n"
            "atomic_write(pathlib.Path(sys.argv[1]), pieces())\n"
        )
        killed = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
        assert killed.returncode == -9
        assert not path.exists()
        assert len(list(tmp_path.iterdir())) == 1
        atomic_write(path, b"whole")
        assert path.read_bytes() == b"whole"
        assert list(tmp_path.iterdir()) == [path]

    def test_writers_of_one_file_take_turns(self, tmp_path):
        script = (
            "import sys, pathlib\n"
            "from poeflow.project.project import atomic_write\n"
            "for _ in range(50):\n"
            "    atomic_write(pathlib.Path(sys.argv[1]), [sys.argv[2].encode() * 9_999])\n"
        )
        path = tmp_path / "a"
        arguments = [sys.executable, "-c", script, str(path)]
        writers = [subprocess.Popen([*arguments, letter]) for letter in "xyz"]
        seen = set()
        while any(writer.poll() is None for writer in writers):
            if path.exists():
                seen.add(path.read_bytes())
        assert [writer.returncode for writer in writers] == [0, 0, 0]
        assert {*seen, path.read_bytes()} <= {letter * 9_999 for letter in (b"x", b"y", b"z")}
        assert list(tmp_path.iterdir()) == [path]

    def test_a_link_in_the_drafts_place_is_not_written_through(self, tmp_path):
        victim = tmp_path / "victim"
        victim.write_bytes(b"mine")
        folder = tmp_path / "out"
        folder.mkdir()
        names = []

        def pieces():
            names.extend(path.name for path in folder.iterdir())
            yield b"x"

        atomic_write(folder / "a", pieces())
        (folder / names[0]).symlink_to(victim)
        with pytest.raises(DiskError):
            atomic_write(folder / "a", b"y")
        assert (victim.read_bytes(), (folder / "a").read_bytes()) == (b"mine", b"x")

    def test_says_what_to_do(self, tmp_path):
        with pytest.raises(DiskError) as caught:
            atomic_write(tmp_path / "gone" / "a", b"x")
        assert str(caught.value) == (
            f"{tmp_path}/gone/a cannot be written: no such file or directory; make the folder first"
        )
        (tmp_path / "folder").mkdir()
        with pytest.raises(DiskError) as caught:
            atomic_write(tmp_path / "folder", b"x")
        assert str(caught.value) == (
            f"{tmp_path}/folder cannot be written: is a directory;"
            " a folder has this name; save to another path"
        )
        assert [path.name for path in tmp_path.iterdir()] == ["folder"]


class TestMakeFolder:
    def test_is_private_where_asked_and_may_exist(self, tmp_path):
        make_folder(tmp_path / "a", mode=0o700)
        make_folder(tmp_path / "a")
        assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


@pytest.mark.parametrize("path", ["//../outside/secret.txt", "//flows/../../outside/secret.txt"])
def test_no_path_that_was_not_made_canonical_leads_out_of_the_project(project, path):
    assert "leaves the project" in problem_of(project.peek, path, limit=MAX_TEXT_BYTES)


@pytest.mark.parametrize("begin", ["//", "///"])
def test_a_path_that_begins_with_a_root_does_not_leave_the_project(project, tmp_path, begin):
    path = f"{begin}{tmp_path}/outside/secret.txt"
    assert "leaves the project" in problem_of(project.peek, path, limit=MAX_TEXT_BYTES)


@pytest.mark.parametrize("above", [False, True])
def test_a_folder_that_became_a_link_is_another_project(tmp_path, above):
    (tmp_path / "above/root").mkdir(parents=True)
    project = Project(tmp_path / "above/root")
    (tmp_path / "above").rename(tmp_path / "moved")
    (tmp_path / "moved/root/t.md").write_text("other")
    if above:
        (tmp_path / "above").symlink_to("moved")
    else:
        (tmp_path / "above").mkdir()
        (tmp_path / "above/root").symlink_to(tmp_path / "moved/root")
    assert "leaves the project" in problem_of(project.read_text, "//t.md")


def test_a_root_that_is_not_absolute_is_not_taken_for_another(tmp_path, monkeypatch):
    for folder in ("a/b", "b"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "t.md").write_text(folder)
    monkeypatch.chdir(tmp_path)
    assert "leaves the project" in problem_of(Project(Path("a")).read_text, "//b/t.md")


def test_schemas_are_found():
    assert (schemas_folder() / "flow.schema.json").is_file()


def test_a_missing_file_with_a_twin_in_another_unicode_form_is_told_so(tmp_path):
    (tmp_path / "cafe\u0301.md").touch()
    with pytest.raises(FileProblem) as caught:
        Project(tmp_path.resolve()).read_text("//caf\u00e9.md")
    assert (caught.value.message, caught.value.hint) == (
        "//caf\u00e9.md does not exist; a file's name differs from it in Unicode form only",
        "rename that file, or copy its name into the flow",
    )


def test_a_missing_folder_with_a_twin_in_another_unicode_form_is_told_so(tmp_path):
    (tmp_path / "cafe\u0301").mkdir()
    with pytest.raises(FileProblem) as caught:
        Project(tmp_path.resolve()).read_text("//caf\u00e9/menu/a.md")
    assert (caught.value.message, caught.value.hint) == (
        "//caf\u00e9/menu/a.md does not exist; a folder's name differs in Unicode form only",
        "rename that folder, or copy its name into the flow",
    )
