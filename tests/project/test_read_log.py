"""What is read and written is noted as it was: what was there, what was missing, what matched."""

import pytest

from poeflow.digest import sha256_of
from poeflow.project.globs import matches
from poeflow.project.project import FileProblem, Project
from poeflow.project.read_log import FileSnapshot, ReadLog, stamp_at


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path.resolve(), ReadLog())


def test_without_a_log_nothing_is_noted(tmp_path):
    (tmp_path / "a.md").write_text("a")
    project = Project(tmp_path.resolve())
    assert (project.read_text("//a.md"), project.log) == ("a", None)


def test_a_file_is_noted_with_stamp_and_hash(project):
    path = project.path_of("//a.md")
    path.write_bytes(b"a")
    project.read_text("//a.md")
    assert project.log.files == {path: FileSnapshot(stamp_at(path), sha256_of(b"a"))}


def test_a_missing_file_is_noted_as_missing(project):
    with pytest.raises(FileProblem):
        project.read_text("//a.md")
    assert not project.has("//b.md")
    assert project.log.files == dict.fromkeys(
        map(project.path_of, ("//a.md", "//b.md")), FileSnapshot()
    )


def test_a_file_that_is_only_looked_at_has_no_hash(project):
    path = project.path_of("//a.pdf")
    path.write_bytes(b"a")
    assert project.size_of("//a.pdf") == 1
    assert project.log.files == {path: FileSnapshot(stamp_at(path))}


def test_peeking_is_not_noted(project):
    project.path_of("//a.md").write_bytes(b"a")
    assert (project.peek("//a.md", limit=9), project.log.files) == (b"a", {})


def test_a_file_that_changes_between_two_readings_is_like_none(project):
    path = project.path_of("//a.md")
    path.write_bytes(b"a")
    project.read_text("//a.md")
    path.write_bytes(b"other")
    project.read_text("//a.md")
    assert project.log.files == {path: FileSnapshot(stamp_at(path), "")}


def test_a_file_touched_between_two_readings_has_not_changed(project):
    path = project.path_of("//a.md")
    path.write_bytes(b"a")
    project.read_text("//a.md")
    seen = dict(project.log.files)
    path.write_bytes(b"a")
    project.read_text("//a.md")
    assert project.log.files == seen


def test_what_poeflow_wrote_itself_is_no_change(project):
    path = project.path_of("//out/a.md")
    assert not project.has("//out/a.md")
    project.write("//out/a.md", b"own")
    project.read_text("//out/a.md")
    assert project.log.written == {path: sha256_of(b"own")}
    assert project.log.files == {path: FileSnapshot(stamp_at(path), sha256_of(b"own"))}


def test_patterns_are_noted_with_what_they_matched_and_where_they_looked(project):
    project.path_of("//data/deep/.git").mkdir(parents=True)
    project.path_of("//data/deep/a.md").touch()
    matches(project, "//data/**/*.md")
    matches(project, "//none/*.md")
    assert project.log.patterns == {"//data/**/*.md": ("//data/deep/a.md",), "//none/*.md": ()}
    assert project.log.folders == {
        project.path_of(one) for one in ("//data", "//data/deep", "//none")
    }


def test_a_pattern_that_cannot_be_searched_has_matched_nothing_known(project):
    project.path_of("//.git").mkdir()
    with pytest.raises(FileProblem):
        matches(project, "//.git/*")
    assert project.log.patterns == {"//.git/*": None}
