"""Pictures are found by their bytes, wherever they lie in the project, and nowhere else."""

import pytest
from view_runs import png

from poeflow.digest import sha256_of
from poeflow.project.project import Project
from poeflow.report.pages.source import Picture, Pictures


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    return Project(root.resolve())


@pytest.fixture
def pictures(project):
    return Pictures(project, Project(project.root / ".poeflow/offline"))


def write(project, name: str, data: bytes) -> str:
    path = project.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return sha256_of(data)


def test_a_picture_is_found_by_its_path_and_by_its_bytes(project, pictures):
    digest = write(project, "a/b/c.png", png())
    found = Picture("image/png", png())
    assert pictures.find(digest, ["//a/b/c.png"]) == found
    assert pictures.find(digest) == found
    (project.root / "a/b/c.png").rename(project.root / "moved.png")
    assert pictures.find(digest, ["//a/b/c.png"]) is None
    assert pictures.find(digest) == found


def test_a_picture_that_was_changed_is_another(project, pictures):
    digest = write(project, "a.png", png())
    assert pictures.find(digest) is not None
    other = write(project, "a.png", png(1))
    assert pictures.find(digest) is None
    assert pictures.find(other) == Picture("image/png", png(1))


def test_simulated_outputs_are_found_as_well(project, pictures):
    digest = write(project, ".poeflow/offline/out/a.png", png())
    assert pictures.find(digest, ["//out/a.png"]) == Picture("image/png", png())
    assert pictures.find(digest) == Picture("image/png", png())


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("a.png", b"<html><script>x</script>"),
        ("a.png", b"GIF89a is how this text begins"),
        ("a.png", b"%PDF-1.7 \x89"),
        (".git/a.png", png()),
        (".hidden/a.png", png()),
        ("node_modules/a.png", png()),
    ],
)
def test_other_files_are_never_shown(project, pictures, name, data):
    digest = write(project, name, data)
    assert (
        pictures.find(digest, [f"//{name}"] if not name.startswith(("node", ".hid")) else [])
        is None
    )


def test_links_that_leave_the_project_lead_nowhere(project, pictures, tmp_path):
    (tmp_path / "outside.png").write_bytes(png())
    (project.root / "a.png").symlink_to(tmp_path / "outside.png")
    assert pictures.find(sha256_of(png()), ["//a.png"]) is None


def test_the_type_is_what_the_bytes_say(project, pictures):
    digest = write(project, "a.png", b"GIF89a\x01\0\x01\0\0\0\0;")
    assert pictures.find(digest) == Picture("image/gif", b"GIF89a\x01\0\x01\0\0\0\0;")
