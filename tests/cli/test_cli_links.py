"""Flows that are links: within their project they work, out of it nothing is read or written."""

import os

import pytest

from poeflow.errors import UsageError
from poeflow.simulator.script import read_script
from poeflow.simulator.server import Simulator

FLOW = "poeflow: 1\nsteps:\n  a: {render: hi, output: {save: out/a.txt}}\n"
ASKS = "poeflow: 1\nsteps:\n  a: {{model: Claude-Sonnet-4.5, prompt: {}}}\n"
LEAVES = "is a link that leaves the project; copy the file into the project"


@pytest.fixture
def project(desk):
    """The desk stands in a project; beside it lies another one, of the same user."""
    desk.write("project/poeflow.toml", "")
    desk.write("project/flows/a.yaml", FLOW)
    desk.write("other/poeflow.toml", "")
    desk.write("other/o.yaml", FLOW)
    desk.write("other/passwd", "root:x:0:0:root:/root:/bin/bash\n")
    desk.folder /= "project"
    (desk.folder / "home").mkdir()
    return desk


@pytest.mark.parametrize("target", ["passwd", "o.yaml"])
@pytest.mark.parametrize("command", ["check", "plan", "status", "graph", "run", "accept"])
def test_a_link_out_is_refused_and_not_quoted(project, command, target):
    (project.folder / "d.yaml").symlink_to(f"../other/{target}")
    before = sorted((project.folder.parent / "other").rglob("*"))
    ended = project.run(command, "d.yaml")
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[0] == f"d.yaml:1:1: //d.yaml {LEAVES}"
    assert "root" not in ended.stdout + ended.stderr
    assert sorted((project.folder.parent / "other").rglob("*")) == before
    assert not (project.folder / "out").exists()


def test_a_pattern_and_a_linked_folder_lead_out_no_more(project):
    (project.folder / "flows/d.yaml").symlink_to("../../other/passwd")
    (project.folder / "more").symlink_to("../other")
    for argument, shown, canonical in (
        ("flows/*.yaml", "flows/d.yaml", "//flows/d.yaml"),
        ("flows/**/*.yaml", "flows/d.yaml", "//flows/d.yaml"),
        ("more/*.yaml", "more/*.yaml", "//more"),
        ("more/o.yaml", "more/o.yaml", "//more"),
        ("more", "more", "//more"),
    ):
        ended = project.run("check", argument)
        assert (ended.returncode, ended.stderr.splitlines()[0]) == (
            3,
            f"{shown}:1:1: {canonical} {LEAVES}",
        )


def test_in_a_folder_a_link_out_is_passed_over(project):
    (project.folder / "flows/d.yaml").symlink_to("../../other/passwd")
    (project.folder / "flows/e.yaml").symlink_to("/dev/zero")
    os.mkfifo(project.folder / "flows/f.yaml")
    (project.folder / "flows/more").symlink_to("../../other")
    ended = project.run("check", "flows")
    assert (ended.returncode, ended.stderr.splitlines()) == (
        0,
        [
            "warning: flows/d.yaml is a link that leaves the project; it is not looked at",
            "1 flow ok",
        ],
    )


def test_links_within_the_project_work(project):
    (project.folder / "b.yaml").symlink_to("flows/a.yaml")
    (project.folder / "more").symlink_to("flows")
    for flow in ("b.yaml", "more/a.yaml", "more"):
        assert project.run("check", flow).stderr == "1 flow ok\n"
    assert project.run("run", "b.yaml", "--offline").returncode == 0


def test_a_linked_checkout_works(project):
    link = project.folder.parent / "checkout"
    link.symlink_to("project")
    assert project.run("check", str(link / "flows/a.yaml")).stderr == "1 flow ok\n"
    assert project.run("check", str(link)).stderr == "1 flow ok\n"
    project.folder = link
    assert project.run("check", "flows/a.yaml").stderr == "1 flow ok\n"


def test_quoted_patterns_end_where_links_go_round(project):
    for name in "xyz":
        (project.folder / "flows" / name).symlink_to(".")
    assert project.run("check", "flows/**/*.yaml").stderr == "1 flow ok\n"


def test_a_script_is_held_to_its_project(project):
    (project.folder / "s.yaml").symlink_to("../other/passwd")
    path = project.folder / "s.yaml"
    with pytest.raises(UsageError) as caught:
        read_script(path)
    assert str(caught.value) == f"{path} {LEAVES}"


def test_standard_input_and_pipes_are_files_to_name(project):
    flow = ASKS.format("'{{ inputs.t }}'").replace("steps", "inputs: {t: {}}\nsteps")
    project.write("flows/b.yaml", flow)
    for given in (["--input", "t=@/dev/stdin"], ["--input", "t=@-"]):
        ended = project.run("plan", "flows/b.yaml", *given, "--render", "a", stdin="piped")
        assert "piped" in ended.stdout, ended.stderr
    given = ["--inputs-file", "/dev/stdin"]
    ended = project.run("plan", "flows/b.yaml", *given, "--render", "a", stdin="t: piped\n")
    assert "piped" in ended.stdout, ended.stderr


@pytest.mark.parametrize("kind", ["zero", "pipe", "huge", "outside"])
def test_a_trap_in_the_store_is_told_before_anything_is_asked(project, kind):
    project.write("flows/a.yaml", ASKS.format("hi"))
    with Simulator() as simulator:
        project.environ |= {"POE_API_KEY": "canary-key-0123456789"}
        project.environ |= {"POE_BASE_URL": simulator.base_url}
        assert project.run("run", "flows/a.yaml").returncode == 0
        entry = project.folder / ".poeflow/cache/ab" / ("ab" * 32 + ".json")
        entry.parent.mkdir(parents=True)
        match kind:
            case "zero":
                entry.symlink_to("/dev/zero")
            case "outside":
                entry.symlink_to(project.folder.parent / "other/passwd")
            case "pipe":
                os.mkfifo(entry)
            case _:
                with entry.open("wb") as file:
                    file.truncate(3 * 1024**3)
        ended = project.run("run", "flows/a.yaml", "--force")
        asked = len(simulator.requests)
    assert (ended.returncode, asked) == (8, 1), ended.stderr
    assert f"{entry} cannot be read: " in ended.stderr
