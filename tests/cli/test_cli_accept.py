"""`accept` where a run has no lock, or one of an inputs file: each hint names a way that works."""

import pytest

FLOW = """\
poeflow: 1
inputs: {week: {type: string%s}}
steps:
  letter: {model: GPT-5.2, prompt: write, output: {save: "out/{{ inputs.week }}.md"}}
"""
MINE = "my own words\n"
EDITED = "s: //out/W28.md was edited since poeflow wrote it; "
FORCE = ", or replace it with --force\n"
NO_LOCK = "one with --input has no lock, and its edits stay until --force replaces them\n"


@pytest.fixture
def edited(online):
    """A file that a run with `--input` wrote, edited."""
    online.write("a.yaml", FLOW % "")
    assert online.run("run", "a.yaml", "--input", "week=W28").returncode == 0
    online.write("out/W28.md", MINE)
    return online


def failed(desk, *words: str) -> str:
    done = desk.run("run", "a.yaml", *words)
    assert done.returncode == 1
    return done.stderr


def kept(desk) -> bool:
    return (desk.folder / "out/W28.md").read_text() == MINE


def test_a_run_with_inputs_by_hand_names_a_way_to_keep_an_edit(edited):
    by_hand = "run with --inputs-file in place of --input, so that `poeflow accept` can keep it"
    assert f"{EDITED}{by_hand}{FORCE}" in failed(edited, "--input", "week=W28")
    edited.write("w28.yaml", "week: W28\n")
    by_file = ("--inputs-file", "w28.yaml")
    accept = "poeflow accept --inputs-file w28.yaml"
    assert f"{EDITED}keep it with `{accept}`{FORCE}" in failed(edited, *by_file)
    assert edited.run("accept", "a.yaml", *by_file).stderr == "accepted out/W28.md\n"
    assert edited.run("run", "a.yaml", *by_file).returncode == 0
    assert edited.run("run", "a.yaml", *by_file, "--locked").returncode == 0
    assert kept(edited)
    assert edited.run("run", "a.yaml", "--input", "week=W28", "--force").returncode == 0
    assert not kept(edited)


def test_accepting_it_without_the_inputs_says_which_file_to_pass(edited):
    lacking = edited.run("accept", "a.yaml")
    assert (lacking.returncode, lacking.stderr) == (
        2,
        f"error: the flow needs the input week\n  pass the --inputs-file of its run; {NO_LOCK}",
    )
    unknown = edited.run("accept", "a.yaml", "--input", "week=W28")
    assert unknown.stderr.startswith(
        "error: no such option --input\n  --inputs-file FILE; a run with --input has no lock\n"
    )
    edited.write("a.yaml", FLOW % ", default: W1")
    other = edited.run("accept", "a.yaml", "out/W28.md")
    assert (other.returncode, other.stderr.splitlines(keepends=True)) == (
        2,
        [
            "error: out/W28.md is written by no step of a\n",
            f"  pass the --inputs-file of the run that wrote it; {NO_LOCK}",
        ],
    )


def test_an_edited_file_of_a_simulated_run_is_not_said_to_be_acceptable(desk):
    desk.write("a.yaml", FLOW % ", default: W28")
    assert desk.run("run", "a.yaml", "--offline").returncode == 0
    desk.write(".poeflow/offline/out/W28.md", MINE)
    desk.write("a.yaml", (FLOW % ", default: W28").replace("write,", "write more,"))
    assert f"{EDITED}move it away{FORCE}" in failed(desk, "--offline")


@pytest.fixture
def beneath(desk):
    """A flow in a folder, whose output was edited."""
    desk.write("flows/a.yaml", 'poeflow: 1\nsteps: {s: {render: "x", output: {save: out/s.md}}}\n')
    assert desk.run("run", "flows/a.yaml").returncode == 0
    desk.write("flows/out/s.md", MINE)
    return desk


@pytest.mark.parametrize("path", ["flows/out/s.md", "out/s.md", "flows/../flows/out/s.md"])
def test_a_file_may_be_named_as_the_flow_names_it(beneath, path):
    done = beneath.run("accept", "flows/a.yaml", path)
    assert (done.returncode, done.stderr) == (0, "accepted flows/out/s.md\n")
    done = beneath.run("accept", "flows/a.yaml", path, "--drop")
    assert (done.returncode, done.stderr) == (0, "dropped flows/out/s.md\n")


def test_a_file_in_the_current_folder_is_meant_first(beneath):
    beneath.write("out/s.md", "of somebody else\n")
    done = beneath.run("accept", "flows/a.yaml", "out/s.md")
    assert done.returncode == 2
    assert done.stderr.startswith("error: out/s.md is written by no step of a\n")
    missing = beneath.run("accept", "flows/a.yaml", "out/none.md")
    assert missing.stderr.startswith("error: out/none.md is written by no step of a\n")


WAITS = "its step is unknown until x has run; run the flow up to it first"


def test_files_of_a_step_that_waits_for_another_are_not_said_to_be_of_no_step(desk):
    flow = """poeflow: 1
inputs: {week: {type: string, default: W1}}
steps:
  x: {command: [cat], stdin: "a {{ inputs.week }}", reads: []}
  v: {render: "{{ steps.x.text }}", output: {save: out/v.md}}
  w: {render: "{{ steps.x.text }}", output: {save: out/w.md}}
"""
    desk.write("a.yaml", flow)
    assert desk.run("run", "a.yaml", "--allow-tools").returncode == 0
    desk.write("out/v.md", MINE)
    desk.write("a.yaml", flow.replace("a {{", "b {{"))
    for words in ((), ("out/v.md",)):
        done = desk.run("accept", "a.yaml", *words)
        assert (done.returncode, done.stderr) == (1, f"out/v.md: {WAITS}\n")
    done = desk.run("accept", "a.yaml", "out/w.md")
    assert (done.returncode, done.stderr) == (1, f"out/w.md: {WAITS}\n")
    done = desk.run("accept", "a.yaml", "--drop")
    assert (done.returncode, done.stderr) == (0, "nothing was accepted\n")
    desk.write("a.yaml", flow)
    assert desk.run("accept", "a.yaml").stderr == "accepted out/v.md\n"
    desk.write("a.yaml", flow.replace("a {{", "b {{"))
    done = desk.run("accept", "a.yaml", "--drop")
    assert (done.returncode, done.stderr) == (1, f"out/v.md: {WAITS}\n")
