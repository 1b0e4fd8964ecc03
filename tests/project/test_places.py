"""A file that somebody names lies in the project of its place: links lead on within it only."""

import os
from pathlib import Path

import pytest

from poeflow.opener import UnusableFileError
from poeflow.project.places import follow, placed, read_given
from poeflow.project.project import FileProblem


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A marked project with a flow, another folder beside it, and the first as working folder."""
    (tmp_path / "project/flows").mkdir(parents=True)
    (tmp_path / "project/poeflow.toml").touch()
    (tmp_path / "project/flows/a.yaml").write_text("a")
    (tmp_path / "other").mkdir()
    (tmp_path / "other/o.yaml").write_text("o")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path


def place_of(desk, path):
    project, canonical = placed(desk / "project" / path if isinstance(path, str) else path)
    return project.root.relative_to(desk).as_posix(), canonical


@pytest.mark.parametrize("path", ["flows/a.yaml", "flows/../flows/a.yaml", "./flows/a.yaml"])
def test_a_file_lies_where_it_is(desk, path):
    assert place_of(desk, path) == ("project", "//flows/a.yaml")
    assert follow(desk / path).left is None


def test_a_link_in_the_project_is_what_it_leads_to(desk):
    (desk / "project/b.yaml").symlink_to("flows/a.yaml")
    (desk / "project/more").symlink_to("flows")
    assert place_of(desk, "b.yaml") == ("project", "//flows/a.yaml")
    assert place_of(desk, "more/a.yaml") == ("project", "//flows/a.yaml")


@pytest.mark.parametrize("is_marked", [True, False])
def test_a_link_out_is_the_link_itself(desk, monkeypatch, is_marked):
    if not is_marked:
        (desk / "project/poeflow.toml").unlink()
    (desk / "project/b.yaml").symlink_to("../other/o.yaml")
    (desk / "project/more").symlink_to(desk / "other")
    for path, canonical in (("b.yaml", "//b.yaml"), ("more/o.yaml", "//more")):
        assert place_of(desk, path) == ("project", canonical)
        assert follow(desk / "project" / path).left is not None
        project, found = placed(desk / "project" / path)
        with pytest.raises(FileProblem, match="is a link that leaves the project"):
            project.read_bytes(found, limit=100)


def test_the_project_is_that_of_the_place_of_the_link(desk):
    (desk / "other/poeflow.toml").touch()
    (desk / "project/b.yaml").symlink_to("../other/o.yaml")
    assert place_of(desk, "b.yaml") == ("project", "//b.yaml")


def test_a_link_above_every_project_is_the_machine_s_own(desk):
    (desk / "home").symlink_to("project")
    assert place_of(desk, desk / "home/flows/a.yaml") == ("project", "//flows/a.yaml")


def test_who_stands_in_a_linked_folder_stands_in_the_real_one(desk, monkeypatch):
    (desk / "home").symlink_to("project")
    monkeypatch.chdir(desk / "home")
    project, canonical = placed(desk.joinpath("home/flows/a.yaml").relative_to(desk / "home"))
    assert (project.root, canonical) == (desk / "project", "//flows/a.yaml")


def test_a_link_that_goes_round_is_an_error_of_its_reader(desk):
    (desk / "project/b.yaml").symlink_to("b.yaml")
    project, canonical = placed(desk / "project/b.yaml")
    with pytest.raises(FileProblem, match="symbolic links"):
        project.read_bytes(canonical, limit=100)


def test_outside_every_project_a_link_and_a_pipe_will_do(desk):
    (desk / "other/link").symlink_to("o.yaml")
    assert read_given(desk / "other/link", limit=10) == b"o"
    reading, writing = os.pipe()
    os.write(writing, b"piped")
    os.close(writing)
    path = Path(f"/dev/fd/{reading}")
    assert read_given(path, limit=10) == b"piped"
    os.close(reading)


def test_what_is_given_in_a_project_is_a_file_of_it(desk):
    (desk / "project/link").symlink_to("flows/a.yaml")
    (desk / "project/out").symlink_to(desk / "other/o.yaml")
    os.mkfifo(desk / "project/pipe")
    assert read_given(desk / "project/link", limit=10) == b"a"
    for name, reason in (("out", "is a link that leaves"), ("pipe", "is not a regular file")):
        with pytest.raises(UnusableFileError, match=reason):
            read_given(desk / "project" / name, limit=10)


def test_more_than_the_limit_is_not_read(desk):
    for path in (desk / "other/o.yaml", desk / "project/flows/a.yaml"):
        path.write_bytes(b"x" * 11)
        with pytest.raises(UnusableFileError, match="bytes"):
            read_given(path, limit=10)
