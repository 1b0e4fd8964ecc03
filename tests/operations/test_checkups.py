"""Flows that are checked together: what they share is read once, and noted for each."""

from poeflow.operations.check import checkups
from poeflow.project.project import Project

SETTINGS = "[models.writer]\nmodel = 'GPT-5.2'\n"


def test_the_settings_of_a_project_are_noted_for_each_of_its_flows(tmp_path):
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "poeflow.toml").write_text(SETTINGS.replace("writer", name))
        for flow in ("a.yaml", "b.yaml"):
            text = f"poeflow: 1\nsteps: {{s: {{model: {name}, prompt: x}}}}\n"
            (folder / flow).write_text(text)
    named = [(name, flow) for name in ("one", "two") for flow in ("a.yaml", "b.yaml")]
    found = checkups(
        (Project(tmp_path / name), f"//{flow}", f"{name}/{flow}") for name, flow in named
    )
    assert [one.problems for one in found] == [()] * 4
    for (name, flow), one in zip(named, found, strict=True):
        assert one.checked.file.flow.models[name].model == "GPT-5.2"
        noted = {path.name: snapshot.digest for path, snapshot in one.project.log.files.items()}
        assert {file: digest is not None for file, digest in noted.items()} == {
            "poeflow.toml": True,
            "pyproject.toml": False,
            flow: True,
            flow.replace(".yaml", ".inputs.yaml"): False,
        }
