"""What matters of what happens on disk: other content, new and lost files, and nothing of ours."""

import os
import shutil

import pytest

from poeflow.operations.watch.watched_files import (
    FileChange,
    WatchedFiles,
    merged_log,
    note_outside_file,
)
from poeflow.project.globs import matches
from poeflow.project.project import FileProblem, Project
from poeflow.project.read_log import FileSnapshot, ReadLog, stamp_at


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "data").mkdir(parents=True)
    (root / "a.md").write_bytes(b"a")
    (root / "data" / "one.txt").write_bytes(b"1")
    return Project(root.resolve(), ReadLog())


def seen(project, *patterns):
    """Return the inputs of a run that read a.md and what the patterns match."""
    project.read_text("//a.md")
    for pattern in patterns:
        for path in matches(project, pattern):
            project.read_text(path)
    return WatchedFiles(project.log, project.root)


def told(project, inputs, touched=(), *, sweeps=True):
    changes = inputs.changes([project.path_of(one) for one in touched], sweeps=sweeps)
    return [(f"//{one.path.relative_to(project.root).as_posix()}", one.kind) for one in changes]


def test_nothing_has_changed_at_first(project):
    assert told(project, seen(project, "//data/*")) == []


def test_other_content_is_a_change_until_it_is_accepted(project):
    inputs = seen(project)
    project.path_of("//a.md").write_bytes(b"b")
    assert told(project, inputs) == [("//a.md", "changed")]
    assert told(project, inputs) == [("//a.md", "changed")]
    inputs.mark_as_read()
    assert told(project, inputs) == []


def test_a_change_that_is_taken_back_is_none(project):
    inputs = seen(project)
    project.path_of("//a.md").write_bytes(b"b")
    assert told(project, inputs) == [("//a.md", "changed")]
    project.path_of("//a.md").write_bytes(b"a")
    assert told(project, inputs) == []


def test_a_file_saved_as_it_was_has_not_changed(project):
    inputs = seen(project)
    path = project.path_of("//a.md")
    path.with_name("draft").write_bytes(b"a")
    path.with_name("draft").replace(path)
    assert told(project, inputs, ["//a.md"]) == []


def test_a_touched_file_is_read_where_its_stamp_is_the_same(project):
    path = project.path_of("//a.md")
    inputs = seen(project)
    snapshot = inputs.log.files[path]
    path.write_bytes(b"b")
    inputs.log.files[path] = FileSnapshot(stamp_at(path), snapshot.digest)
    assert told(project, inputs) == []
    assert told(project, inputs, ["//a.md"]) == [("//a.md", "changed")]


def test_lost_and_found(project):
    with pytest.raises(FileProblem):
        project.read_text("//gone/b.md")
    inputs = seen(project)
    project.path_of("//a.md").unlink()
    project.path_of("//gone").mkdir()
    project.path_of("//gone/b.md").write_bytes(b"b")
    assert told(project, inputs) == [("//a.md", "gone"), ("//gone/b.md", "new")]


def test_a_pattern_that_matches_other_files_is_a_change(project):
    inputs = seen(project, "//data/**/*.txt")
    project.path_of("//data/deep").mkdir()
    project.path_of("//data/deep/two.txt").write_bytes(b"2")
    project.path_of("//data/deep/two.pdf").write_bytes(b"2")
    assert told(project, inputs) == [("//data/deep/two.txt", "new")]
    assert project.path_of("//data/deep") in inputs.folders()
    shutil.rmtree(project.path_of("//data"))
    assert told(project, inputs) == [("//data/one.txt", "gone")]
    inputs.mark_as_read()
    assert told(project, inputs) == []


def test_patterns_are_searched_only_where_something_happened_in_their_folders(project):
    inputs = seen(project, "//data/*.txt")
    project.path_of("//data/two.txt").write_bytes(b"2")
    assert told(project, inputs, ["//a.md"], sweeps=False) == []
    assert told(project, inputs, ["//data/two.txt"], sweeps=False) == [("//data/two.txt", "new")]


def test_what_the_run_wrote_itself_is_no_change(project):
    project.has("//out/x.txt")
    project.read_text("//data/one.txt")
    project.write("//out/x.txt", b"own")
    project.write("//data/one.txt", b"own")
    seen(project, "//out/*.txt")
    project.write("//out/y.txt", b"own")
    inputs = WatchedFiles(project.log, project.root)
    assert told(project, inputs, ["//out/x.txt", "//out/y.txt"]) == []
    project.path_of("//out/y.txt").write_bytes(b"theirs")
    project.path_of("//data/one.txt").write_bytes(b"theirs")
    assert told(project, inputs) == [("//data/one.txt", "changed"), ("//out/y.txt", "new")]


def test_a_file_that_changed_while_it_was_read_has_changed(project):
    project.read_text("//a.md")
    project.path_of("//a.md").write_bytes(b"b")
    assert told(project, seen(project)) == [("//a.md", "changed")]


def test_of_a_run_that_did_not_end_the_inputs_before_it_count_too(project):
    whole = seen(project, "//data/*.txt").log
    project.path_of("//a.md").write_bytes(b"b")
    log = ReadLog()
    Project(project.root, log).read_text("//a.md")
    project.path_of("//data/one.txt").write_bytes(b"2")
    inputs = WatchedFiles(merged_log(log, whole), project.root)
    assert told(project, inputs) == [("//data/one.txt", "changed")]


def test_which_paths_concern_a_flow(project):
    project.has("//gone/deep/b.md")
    inputs = seen(project, "//data/*.txt")
    concerning = {
        path: inputs.concerns(project.path_of(path))
        for path in ("//a.md", "//gone", "//gone/deep/b.md", "//data/new.txt", "//z.md", "//out/a")
    }
    assert concerning == {
        "//a.md": True,
        "//gone": True,
        "//gone/deep/b.md": True,
        "//data/new.txt": True,
        "//z.md": False,
        "//out/a": False,
    }


def test_the_nearest_folder_there_is_stands_for_one_that_is_not(project):
    project.has("//gone/deep/b.md")
    inputs = seen(project, "//data/*.txt")
    assert inputs.folders() == {project.root, project.path_of("//data")}
    project.path_of("//gone").mkdir()
    assert project.path_of("//gone") in inputs.folders()


def test_behind_a_link_the_real_file_counts(project):
    project.path_of("//real").mkdir()
    project.path_of("//real/b.md").write_bytes(b"b")
    project.path_of("//link.md").symlink_to("real/b.md")
    project.read_text("//link.md")
    inputs = seen(project)
    assert project.path_of("//real") in inputs.folders()
    assert inputs.concerns(project.path_of("//real/b.md"))
    project.path_of("//real/b.md").write_bytes(b"c")
    assert told(project, inputs, ["//real/b.md"]) == [("//link.md", "changed")]


def test_a_file_outside_the_project_can_be_noted(project, tmp_path):
    path = tmp_path / "inputs.yaml"
    path.write_bytes(b"a: 1")
    log = ReadLog()
    note_outside_file(log, path)
    note_outside_file(log, tmp_path / "gone.yaml")
    inputs = WatchedFiles(log, project.root)
    os.utime(path)
    assert inputs.changes() == []
    path.write_bytes(b"a: 2")
    (tmp_path / "gone.yaml").touch()
    assert inputs.changes() == [
        FileChange(tmp_path / "gone.yaml", "new"),
        FileChange(path, "changed"),
    ]
