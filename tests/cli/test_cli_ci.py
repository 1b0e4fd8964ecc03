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


def test_the_summary_has_an_invalid_flow(desk):
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a: {rendr: hi}\n")
    desk.write("b.yaml", "poeflow: 1\nsteps: {a: {render: hi}}\n")
    told = "### ✗ a&#46;yaml\n\n- a&#46;yaml&#58;3&#58;7&#58; unknown key &#34;rendr&#34;&#59; "
    told += "did you mean &#34;render&#34;&#63;\n"
    for command in ("run", "check"):
        summary = desk.folder / f"{command}.md"
        desk.environ["GITHUB_STEP_SUMMARY"] = str(summary)
        assert desk.run(command, "a.yaml", "b.yaml", "--output", "github").returncode == 3
        also = "\n### ✓ b&#46;yaml\n\n" if command == "check" else "\n"
        assert summary.read_text() == told + also


def test_check_annotates_and_reports(desk):
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a: {rendr: hi}\n")
    desk.write("b.yaml", "poeflow: 1\nsteps: {a: {render: hi}}\n")
    done = desk.run("check", "a.yaml", "b.yaml", "--output", "github", "--junit", "j.xml")
    assert (done.returncode, done.stdout) == (3, "")
    assert '::error file=a.yaml,line=3,col=7,title=poeflow::unknown key "rendr"' in done.stderr
    assert [
        (suite.get("name"), [(case.get("name"), [c.tag for c in case]) for case in suite])
        for suite in ET.parse(desk.folder / "j.xml").getroot()
    ] == [("a.yaml", [("a.yaml:3:7", ["error"])]), ("b.yaml", [("b.yaml", [])])]


def test_a_proof_is_annotated_and_in_the_reports(scripted):
    flow = FLOW.replace("prompt: bad,", "prompt: well,")
    flow += (
        "  each: {for_each: [x, y], prompt: 'on {{ item }}'}\n  never: {render: no, if: false}\n"
    )
    scripted.write("flows/a.yaml", flow)
    assert scripted.run("run", "flows/a.yaml").returncode == 0
    scripted.write("flows/a.yaml", flow.replace("'on {{", "'of {{"))
    summary = scripted.folder / "summary.md"
    scripted.environ |= {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_ACTIONS": "true"}
    command = ("run", "flows/a.yaml", "--locked", "--output", "github", "--junit", "j.xml")
    done = scripted.run(*command)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.splitlines() == [
        "::error file=flows/a.yaml,line=8,col=3,title=each[x]::stale; prompt changed",
        "::error file=flows/a.yaml,line=8,col=3,title=each[y]::stale; prompt changed",
        "flows/a.yaml: each[x]: stale: prompt changed",
        "flows/a.yaml: each[y]: stale: prompt changed",
    ]
    assert summary.read_text() == (
        "### ✗ flows&#47;a&#46;yaml\n\n| | step | how it stands |\n|---|---|---|\n"
        "| ✓ | good | fresh |\n| ✓ | bad | fresh |\n| ✓ | page | fresh |\n"
        "| ✗ | each | 2 stale&#58; prompt changed |\n| ✓ | never | skipped |\n\n"
    )
    (suite,) = ET.parse(scripted.folder / "j.xml").getroot()
    assert [(case.get("name"), [(c.tag, c.get("message")) for c in case]) for case in suite] == [
        ("good", []),
        ("bad", []),
        ("page", []),
        ("each[x]", [("failure", "stale; prompt changed")]),
        ("each[y]", [("failure", "stale; prompt changed")]),
        ("never", [("skipped", "skipped")]),
    ]


def test_a_proof_without_a_lock_is_in_the_reports(desk):
    desk.write("a.yaml", FLOW)
    desk.environ["GITHUB_STEP_SUMMARY"] = str(desk.folder / "summary.md")
    for extra, told in (
        ((), "a.lock.json does not exist; run the flow and commit it"),
        (("--offline",), ".poeflow/offline/a.lock.json does not exist; run the flow offline"),
    ):
        command = ("run", "a.yaml", "--locked", "--output", "github", "--junit", "j.xml", *extra)
        done = desk.run(*command)
        assert (done.returncode, done.stderr.splitlines()) == (
            4,
            [f"::error file=a.yaml,line=1,col=1,title=poeflow::{told}", f"a.yaml: {told}"],
        )
        (suite,) = ET.parse(desk.folder / "j.xml").getroot()
        assert [(case.get("name"), [c.get("message") for c in case]) for case in suite] == [
            ("a.yaml is current", [told])
        ]
    assert (desk.folder / "summary.md").read_text().startswith("### ✗ a&#46;yaml\n\n- a&#46;lock")


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (("a.yaml", "--refresh"), "--locked and --refresh are two things"),
        (("a.yaml", "--failed"), "--locked and --failed are two things"),
        (("a.yaml", "--force"), "--locked and --force are two things"),
        (("a.yaml:good",), "--locked proves whole flows, not parts of them"),
        (("a.yaml", "--first", "1"), "--locked proves whole flows, not parts of them"),
    ],
)
def test_a_proof_is_of_whole_flows_and_asks_nothing(desk, extra, told):
    desk.write("a.yaml", FLOW)
    done = desk.run("run", "--locked", *extra)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"error: {told}")


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


def test_a_look_at_an_answer_cannot_command_the_runner(scripted):
    scripted.write("a.yaml", LOUD)
    scripted.run("run", "a.yaml")
    scripted.write("a.yaml", LOUD.replace("loud", "loud too"))
    scripted.run("run", "a.yaml")
    scripted.write("a.yaml", LOUD.replace("loud", "loud '::error::x'"))
    scripted.environ["GITHUB_ACTIONS"] = "true"
    for command in (
        ("show", "last/a"),
        ("diff", "last~1", "last"),
        ("plan", "a.yaml", "--render", "a"),
    ):
        lines = scripted.run(*command).stdout.splitlines()
        commands = [line for line in lines if line.lstrip().startswith("::")]
        if commands:
            token = commands[0].removeprefix("::stop-commands::")
            assert (len(token), lines[0], lines[-1]) == (32, commands[0], f"::{token}::")
    assert scripted.run("show", "last/a").stdout.startswith("::stop-commands::")


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
