"""Where the state of a project is, and which places are refused."""

import os
import tempfile
from pathlib import Path

import pytest

from poeflow.errors import UsageError
from poeflow.project.state_folder import state_folder


def elsewhere(path) -> dict[str, str]:
    return {"POEFLOW_STATE_DIR": str(path)}


def test_it_is_in_the_project(tmp_path):
    assert state_folder(tmp_path, {}) == tmp_path / ".poeflow"
    assert state_folder(tmp_path, elsewhere(" ")) == tmp_path / ".poeflow"


def test_projects_of_one_name_have_different_folders(tmp_path):
    one, other = (tmp_path / name / "my flows!" for name in "ab")
    for folder in (one, other):
        folder.mkdir(parents=True)
    found = [state_folder(root, elsewhere(tmp_path / "state")) for root in (one, other)]
    assert found[0] != found[1]
    assert {path.parent for path in found} == {tmp_path.resolve() / "state"}
    assert all(path.name.startswith("my-flows-") for path in found)
    assert state_folder(one, elsewhere(tmp_path / "state")) == found[0]


def test_a_project_has_one_folder_by_whichever_way_it_is_reached(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    environ = elsewhere(tmp_path / "state")
    assert state_folder(tmp_path / "link", environ) == state_folder(tmp_path / "real", environ)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("state", "POEFLOW_STATE_DIR: state is not an absolute path"),
        ("{project}", "POEFLOW_STATE_DIR: {project} is in the project, where flows could read it"),
        ("{project}/x", "POEFLOW_STATE_DIR: {project}/x is in the project, where flows"),
        ("{outside}/into", "POEFLOW_STATE_DIR: {project}/deep is in the project, where flows"),
        ("{outside}/file", "POEFLOW_STATE_DIR: {outside}/file is not a folder"),
        ("{outside}/open", "POEFLOW_STATE_DIR: anyone may write to {outside}/open"),
        ("{outside}/round", "POEFLOW_STATE_DIR: {outside}/round: too many levels of symbolic"),
    ],
)
def test_places_that_are_refused(tmp_path, place, message):
    names = {"project": tmp_path.resolve() / "project", "outside": tmp_path.resolve() / "outside"}
    for folder in names.values():
        folder.mkdir()
    (names["outside"] / "into").symlink_to(names["project"] / "deep")
    (names["outside"] / "file").touch()
    (names["outside"] / "open").mkdir()
    (names["outside"] / "open").chmod(0o777)
    (names["outside"] / "round").symlink_to(names["outside"] / "round")
    with pytest.raises(UsageError) as error:
        state_folder(names["project"], elsewhere(place.format(**names)))
    assert error.value.message.startswith(message.format(**names))


def test_a_place_for_everybodys_files_is_fine(tmp_path):
    (tmp_path / "project").mkdir()
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    found = state_folder(tmp_path / "project", elsewhere(tmp_path / "tmp"))
    assert found.parent == tmp_path.resolve() / "tmp"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_folder_of_somebody_else_is_refused():
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        Path(place).chmod(0o755)
        os.chown(place, 54321, 54321)
        os.seteuid(12345)
        try:
            with pytest.raises(UsageError, match="belongs to another user"):
                state_folder(Path("/usr"), elsewhere(place))
        finally:
            os.seteuid(0)
