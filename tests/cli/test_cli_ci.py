"""`poeflow run` in CI: annotations, job summary, JUnit file, and a log nothing can hijack."""

import subprocess
import xml.etree.ElementTree as ET

import pytest

from poeflow.simulator.server import Simulator

FLOW = """\
poeflow: 1
name: pages
defaults: {model: GPT-5.2}
steps:
  good: {prompt: good}
  bad: {prompt: bad, needs: [good]}
  page: {render: "{{ steps.bad.text }}"}
"""
HOSTILE = "::add-mask::x\\n  ::error::y\\n##[group]z"
SCRIPT = f"""\
simulator: 1
rules:
- {{match: {{text: bad}}, fault: "400"}}
- {{match: {{text: loud}}, answer: {{text: "{HOSTILE}"}}}}
"""


@pytest.fixture
def scripted(desk):
    script = desk.write("script.yaml", SCRIPT)
    with Simulator(script=script) as simulator:
        desk.environ |= {"POE_API_KEY": "canary-key-0123456789", "POE_BASE_URL": simulator.base_url}
        yield desk


def test_a_workflow_sees_annotations_and_a_summary(scripted):
    scripted.write("flows/a.yaml", FLOW)
    summary = scripted.write("summary.md", "# before\n")
    scripted.environ |= {
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_WORKSPACE": str(scripted.folder),
        "GITHUB_ACTIONS": "true",
    }
    done = scripted.run("run", "flows/a.yaml", "--output", "github")
    assert done.returncode == 1
    annotations = [line for line in done.stderr.splitlines() if line.startswith("::")]
    assert len(annotations) == 1
    assert annotations[0].startswith("::error file=flows/a.yaml,line=6,col=3,title=bad::")
    told = summary.read_text()
    assert told.startswith("# before\n### ✗ pages\n")
    assert "\n| ✗ | bad | " in told
    assert "\n| - | page | skipped, bad failed |" in told


def test_an_invalid_flow_is_annotated_and_in_the_report(desk):
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a: {rendr: hi}\n")
    done = desk.run("run", "a.yaml", "--output", "github", "--junit", "report.xml")
    assert done.returncode == 3
    assert '::error file=a.yaml,line=3,col=7,title=poeflow::unknown key "rendr"' in done.stderr
    (suite,) = ET.parse(desk.folder / "report.xml").getroot()
    assert suite.get("errors") == "1"


def test_a_junit_report_has_every_flow_and_instance(scripted):
    scripted.write("a.yaml", FLOW)
    scripted.write("b.yaml", "poeflow: 1\nsteps: {x: {render: hi}}\n")
    assert scripted.run("run", "a.yaml", "b.yaml", "--junit", "report.xml").returncode == 1
    root = ET.parse(scripted.folder / "report.xml").getroot()
    assert [
        (suite.get("name"), [(case.get("name"), [c.tag for c in case]) for case in suite])
        for suite in root
    ] == [
        ("a.yaml", [("good", []), ("bad", ["failure"]), ("page", ["skipped"])]),
        ("b.yaml", [("x", [])]),
    ]
    assert root.find(".//failure").get("type") == "failed"


def test_a_report_that_cannot_be_written_is_said_before_anything_is_sent(scripted):
    scripted.write("a.yaml", FLOW)
    done = scripted.run("run", "a.yaml", "--junit", "none/report.xml")
    assert done.returncode == 2
    assert done.stderr == (
        "error: --junit none/report.xml: its folder does not exist\n  make the folder none\n"
    )
    assert not (scripted.folder / ".poeflow").exists()


LOUD = "poeflow: 1\nsteps: {a: {model: GPT-5.2, prompt: loud}}\n"


def test_an_answer_cannot_command_the_runner(scripted):
    scripted.write("a.yaml", LOUD)
    scripted.environ["GITHUB_ACTIONS"] = "true"
    first, *rest, last = scripted.run("run", "a.yaml").stdout.splitlines()
    assert rest == ["::add-mask::x", "  ::error::y", "##[group]z"]
    assert first.startswith("::stop-commands::")
    token = first.removeprefix("::stop-commands::")
    assert len(token) == 32
    assert last == f"::{token}::"
    assert scripted.run("run", "a.yaml").stdout.splitlines()[0] != first


def test_results_for_programs_are_never_fenced(scripted):
    scripted.write("a.yaml", LOUD)
    scripted.environ["GITHUB_ACTIONS"] = "true"
    out = scripted.folder / "out.txt"
    with out.open("wb") as file:
        command = scripted.command("run", "a.yaml")
        subprocess.run(
            command, cwd=scripted.folder, env=scripted.env(), stdout=file, check=True, timeout=30
        )
    assert out.read_text() == "::add-mask::x\n  ::error::y\n##[group]z\n"
    told = scripted.run("run", "a.yaml", "--output", "json").stdout
    assert '"a": "::add-mask::x\\n  ::error::y\\n#\\u0023[group]z"' in told
    del scripted.environ["GITHUB_ACTIONS"]
    assert scripted.run("run", "a.yaml").stdout == out.read_text()


def test_a_harmless_answer_is_printed_as_it_is(scripted):
    scripted.write("a.yaml", LOUD.replace("loud", "quiet"))
    scripted.environ["GITHUB_ACTIONS"] = "true"
    assert "::" not in scripted.run("run", "a.yaml").stdout
