"""`poeflow run` in CI: annotations, job summary, JUnit file, and a log nothing can hijack."""

import json
import shutil
import subprocess
import xml.etree.ElementTree as ET

import pytest

from poeflow.operations.proof import TOLERATED
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
        "::error file=flows/a.yaml,line=8,col=28,title=each[x] and 1 more::stale; prompt changed",
        "flows/a.yaml: each[x]: stale: prompt changed",
        "flows/a.yaml: each[y]: stale: prompt changed",
    ]
    assert summary.read_text() == (
        "### ✗ flows&#47;a&#46;yaml\n\n| | step | status |\n|---|---|---|\n"
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
    assert suite.findtext(".//failure") == "flows/a.yaml:8:28: stale; prompt changed"


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


PARTS = """\
poeflow: 1
models: {writer: {model: GPT-5.2}}
defaults:
  params: {temperature: 1}
inputs:
  topic: {default: otters}
steps:
  draft:
    model: writer
    prompt: |
      On {{ inputs.topic }}
      {% include "part.md" %}
    output: {save: out/draft.md}
  used:
    use: ../parts/used.yaml
    with: {word: w}
  after: {model: GPT-5.2, prompt: "{{ steps.draft.text }}"}
"""
USED = """\
poeflow: 1
inputs: {word: {}}
steps:
  inner: {model: GPT-5.2, prompt: "say {{ inputs.word }}"}
outputs: {said: "{{ steps.inner.text }}"}
"""


@pytest.mark.parametrize(
    ("file", "old", "new", "place", "step"),
    [
        ("flows/a.yaml", "On {{", "Of {{", "flows/a.yaml,line=10,col=5", "draft"),
        ("flows/part.md", "short", "long", "flows/part.md,line=1,col=1", "draft"),
        ("flows/a.yaml", "otters", "seals", "flows/a.yaml,line=6,col=3", "draft"),
        ("flows/a.yaml", "ture: 1", "ture: 0.5", "flows/a.yaml,line=4,col=12", "draft"),
        ("flows/a.yaml", "GPT-5.2}}", "Grok-4}}", "flows/a.yaml,line=2,col=19", "draft"),
        ("flows/a.yaml", "word: w", "word: v", "flows/a.yaml,line=16,col=12", "used/inner"),
        ("parts/used.yaml", "say", "tell", "parts/used.yaml,line=4,col=27", "used/inner"),
        ("flows/out/draft.md", "", "mine", "flows/out/draft.md,line=1,col=1", "draft"),
        ("poeflow.toml", "0.5", "0.7", "poeflow.toml,line=2,col=1", "used/inner"),
    ],
)
def test_an_annotation_is_at_the_change(online, file, old, new, place, step):
    online.write("poeflow.toml", "[defaults]\nparams = {top_p = 0.5}\n")
    online.write("flows/part.md", "be short")
    online.write("flows/a.yaml", PARTS)
    online.write("parts/used.yaml", USED)
    assert online.run("run", "flows/a.yaml").returncode == 0
    text = (online.folder / file).read_text()
    online.write(file, text.replace(old, new) if old else new)
    online.environ["GITHUB_WORKSPACE"] = str(online.folder)
    done = online.run("run", "flows/a.yaml", "--locked", "--output", "github")
    assert done.returncode == 4
    lines = [line for line in done.stderr.splitlines() if f"title={step}::" in line]
    assert [line.partition(",title=")[0] for line in lines] == [f"::error file={place}"]


PERSONA = """\
poeflow: 1
models:
  strict: {model: GPT-5.2, system: Be strict.}
steps:
  each:
    for_each: [x]
    model: GPT-5.2
    prompt: "{{ item }}"
    expect: [{judge: {rubric: good, model: strict}, level: warn}]
"""


def test_an_annotation_of_another_model_of_a_judge_is_at_its_alias(online):
    online.write("a.yaml", PERSONA)
    assert online.run("run", "a.yaml").returncode == 0
    online.write("a.yaml", PERSONA.replace("GPT-5.2, system", "Grok-4, system"))
    done = online.run("run", "a.yaml", "--locked", "--output", "github")
    assert (
        "::error file=a.yaml,line=3,col=12,title=each[x]::stale; judge model strict" in done.stderr
    )


@pytest.mark.parametrize(
    ("new", "place"), [("Be kind.", "line=3,col=28"), ("", "line=9,col=5")], ids=["changed", "gone"]
)
def test_an_annotation_of_another_judge_is_at_its_alias_or_expect(online, new, place):
    online.write("a.yaml", PERSONA)
    assert online.run("run", "a.yaml").returncode == 0
    system = f", system: {new}" if new else ""
    online.write("a.yaml", PERSONA.replace(", system: Be strict.", system))
    done = online.run("run", "a.yaml", "--locked", "--output", "github")
    lines = [line for line in done.stderr.splitlines() if line.startswith("::error")]
    assert [line.partition(",title=")[0] for line in lines] == [f"::error file=a.yaml,{place}"]


@pytest.mark.parametrize("command", ["plan", "status"])
def test_what_only_looks_reports_too(scripted, command):
    flow = "poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: hi}\n  b: {render: x}\n"
    scripted.write("a.yaml", flow)
    assert scripted.run("run", "a.yaml").returncode == 0
    scripted.write("a.yaml", flow.replace("hi", "ho"))
    scripted.environ["GITHUB_STEP_SUMMARY"] = str(scripted.folder / "s.md")
    done = scripted.run(command, "a.yaml", "--output", "github", "--junit", "j.xml")
    assert done.returncode == 0
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("::")]
    assert line == "::warning file=a.yaml,line=3,col=23,title=a::stale; prompt changed"
    (suite,) = ET.parse(scripted.folder / "j.xml").getroot()
    assert [(case.get("name"), [c.tag for c in case]) for case in suite] == [
        ("a", ["failure"]),
        ("b", []),
    ]
    summary = (scripted.folder / "s.md").read_text()
    assert "| ✗ | a | stale&#58; prompt changed |\n| ✓ | b | fresh |\n" in summary
    assert ("1 stale, 1 fresh&#58; 1 call, about " in summary) is (command == "plan")


@pytest.mark.parametrize("command", ["plan", "status"])
def test_what_only_looks_reports_an_invalid_flow(desk, command):
    desk.write("a.yaml", "poeflow: 1\nsteps:\n  a: {rendr: hi}\n")
    done = desk.run(command, "a.yaml", "--output", "github", "--junit", "j.xml")
    assert done.returncode == 3
    assert '::error file=a.yaml,line=3,col=7,title=poeflow::unknown key "rendr"' in done.stderr
    (suite,) = ET.parse(desk.folder / "j.xml").getroot()
    assert suite.get("errors") == "1"


def results_in(text: str) -> dict[str, str]:
    """Return the values in a file for GitHub's runner, read as the runner does."""
    found, lines = {}, iter(text.split("\n"))
    for line in lines:
        if line:
            name, end = line.split("<<", 1)
            found[name] = "\n".join(iter(lambda: next(lines), end))
    return found


HANDED = """\
poeflow: 1
steps:
  a: {render: "one\\nend_\\nb<<end_1\\n"}
  data: {render: "{{ {'k': [1]} | tojson }}", output: {format: json}}
outputs: {text: "{{ steps.a.text }}", data: "{{ steps.data.data }}"}
"""


def test_outputs_are_handed_to_later_steps_of_the_job(desk):
    desk.write("a.yaml", HANDED)
    desk.write("b-c.yaml", HANDED)
    desk.write("bad.yaml", "poeflow: 1\nsteps: {x: {render: '{{ 1 // 0 }}'}}\n")
    file = desk.write("results", "before=1\n")
    desk.environ["GITHUB_OUTPUT"] = str(file)
    assert desk.run("run", "a.yaml").returncode == 0
    assert file.read_text() == "before=1\n"
    assert desk.run("run", "a.yaml", "--output", "github").returncode == 0
    text = file.read_text().removeprefix("before=1\n")
    first = results_in(text)
    assert first == {"text": "one\nend_\nb<<end_1", "data": '{"k":[1]}'}
    file.write_text("")
    desk.run("run", "a.yaml", "b-c.yaml", "bad.yaml", "--output", "github", "--keep-going")
    again = results_in(file.read_text())
    assert again == {f"{flow}_{name}": first[name] for flow in ("a", "b_c") for name in first}
    ends = {line for line in (text + file.read_text()).split("\n") if line.startswith("end_")}
    assert len(ends) == 7  # one for each value, and the line that is text


def test_an_output_that_is_too_large_is_not_handed_on(desk):
    desk.write("big.md", "x" * 700_000)
    desk.write("a.yaml", HANDED.replace('"one\\nend_\\nb<<end_1\\n"', "{file: big.md}"))
    desk.environ["GITHUB_OUTPUT"] = str(desk.write("results", ""))
    done = desk.run("run", "a.yaml", "--output", "github")
    assert done.returncode == 0
    assert results_in((desk.folder / "results").read_text()) == {"data": '{"k":[1]}'}
    told = "::warning title=poeflow::the output text is not handed on: GitHub takes 1 MiB of a job"
    assert told in done.stderr


def test_a_summary_shows_what_changed_in_outputs_and_committed_files(scripted):
    scripted.write("a.yaml", LOUD.replace("loud}", "quiet, output: {save: out.md}}"))
    scripted.environ["GITHUB_STEP_SUMMARY"] = str(scripted.folder / "s.md")
    assert scripted.run("run", "a.yaml").returncode == 0
    old = (scripted.folder / "out.md").read_text().rstrip()
    git(scripted, "init", "-q")
    git(scripted, "add", ".")
    git(scripted, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a")
    for _ in range(2):  # by the last run in the history, then by the committed file
        git(scripted, "checkout", "-q", ".")
        scripted.write("a.yaml", LOUD.replace("loud}", "still, output: {save: out.md}}"))
        summary = scripted.write("s.md", "")
        assert scripted.run("run", "a.yaml", "--output", "github").returncode == 0
        new = (scripted.folder / "out.md").read_text().rstrip()
        told = summary.read_text()
        assert f"\n**a**\n\n```diff\n@@ -1 +1 @@\n-{old}\n+{new}\n```\n" in told
        assert "**out&#46;md**" not in told
        shutil.rmtree(scripted.folder / ".poeflow")


def test_a_summary_leads_to_steps_and_committed_files(scripted):
    scripted.write("project/poeflow.toml", "")
    steps = "  a: {model: GPT-5.2, prompt: quiet, output: {save: out.md}}\n"
    steps += '  more: {render: "x", output: {save: x y.md}}\n'
    scripted.write("project/a.yaml", f"poeflow: 1\nsteps:\n{steps}")
    scripted.write("project/x y.md", "old\n")
    git(scripted, "init", "-q")
    git(scripted, "add", ".")
    git(scripted, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a")
    scripted.environ |= {
        "GITHUB_STEP_SUMMARY": str(scripted.folder / "s.md"),
        "GITHUB_WORKSPACE": str(scripted.folder),
        "GITHUB_SERVER_URL": "https://github.test",
        "GITHUB_REPOSITORY": "o/r",
        "GITHUB_SHA": "abc",
    }
    command = ("run", "project/a.yaml", "--output", "github", "--force")
    assert scripted.run(*command).returncode == 0
    told = (scripted.folder / "s.md").read_text()
    files = "https://github.test/o/r/blob/abc/project"
    assert f"| ✓ | [a]({files}/a.yaml#L3) | " in told
    listed = told.partition("\n**Files**\n\n")[2].partition("\n\n")[0].splitlines()
    assert sorted(listed) == [f"- [x y&#46;md]({files}/x%20y.md)", "- out&#46;md, new"]
    (scripted.folder / "s.md").write_text("")
    assert scripted.run(*command[:2], "--locked", *command[2:4]).returncode == 0
    assert f"| ✓ | [a]({files}/a.yaml#L3) | fresh |" in (scripted.folder / "s.md").read_text()


def test_all_summaries_of_a_step_together_fit(scripted):
    scripted.write("a.yaml", LOUD.replace("loud", "quiet"))
    before = "x" * 899_950
    summary = scripted.write("s.md", before)
    scripted.environ["GITHUB_STEP_SUMMARY"] = str(summary)
    assert scripted.run("run", "a.yaml", "--output", "github").returncode == 0
    assert summary.read_text() == f"{before}and 1 more\n"


def git(desk, *words: str) -> None:
    subprocess.run(["git", *words], cwd=desk.folder, check=True, timeout=30)


def test_a_hostile_path_stays_in_its_place(desk):
    name = "a,line=9::x\n::error::%.yaml"
    desk.write(name, "poeflow: 1\nsteps:\n  a: {rendr: hi}\n")
    for command in ("check", "plan", "status"):
        done = desk.run(command, name, "--output", "github")
        lines = [one for one in done.stderr.splitlines() if one.lstrip().startswith("::")]
        assert len(lines) == 1
        assert lines[0].startswith(
            "::error file=a%2Cline=9%3A%3Ax%0A%3A%3Aerror%3A%3A%25.yaml,line=3"
        )


def test_check_writes_documents_for_programs(desk):
    desk.write("flows/a.yaml", "poeflow: 1\nsteps:\n  a: {rendr: hi}\n")
    desk.environ["CI_PROJECT_DIR"] = str(desk.folder.parent)
    path = f"{desk.folder.name}/flows/a.yaml"
    done = desk.run("check", "--output", "sarif")
    assert (done.returncode, done.stderr) == (3, "")
    (result,) = json.loads(done.stdout)["runs"][0]["results"]
    physical = result["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"] == {"uri": path}
    done = desk.run("check", "--output", "gitlab")
    (found,) = json.loads(done.stdout)
    assert (done.returncode, found["location"]) == (3, {"path": path, "lines": {"begin": 3}})
    desk.write("flows/a.yaml", "poeflow: 1\nsteps:\n  a: {render: hi}\n")
    assert json.loads(desk.run("check", "--output", "sarif").stdout)["runs"][0]["results"] == []
    assert desk.run("check", "--output", "gitlab").stdout == "[]\n"


JUDGED = """\
poeflow: 1
steps:
  row:
    for_each: [good, bad]
    model: GPT-5.2
    prompt: "row {{ item }}"
    expect: [{contains: good, level: score, weight: 3}, {max_length: 90}]
  alone: {model: GPT-5.2, prompt: row alone, expect: [{contains: fine}]}
  sure: {model: GPT-5.2, prompt: row good, expect: [{contains: good}]}
"""
JUDGED_RULES = """\
simulator: 1
rules:
- {match: {text: row good}, answer: {text: good}}
- {match: {text: row}, answer: {text: bad}}
"""


def test_scores_and_verdicts_are_in_all_that_ci_reads(desk):
    desk.write("a.yaml", JUDGED)
    with Simulator(script=desk.write("rules.yaml", JUDGED_RULES)) as simulator:
        desk.environ |= {
            "POE_API_KEY": "canary-key-0123456789",
            "POE_BASE_URL": simulator.base_url,
            "GITHUB_STEP_SUMMARY": str(desk.folder / "s.md"),
        }
        log = desk.run("run", "a.yaml", "--keep-going", "--output", "github", "--junit", "j.xml")
        heard = desk.run("run", "a.yaml", "--keep-going", "--output", "jsonl").stdout.splitlines()
    ended = [one for one in map(json.loads, heard) if one["event"].startswith("step_f")]
    assert {
        one["step"]: (one["score"], [(it["kind"], it["passed"]) for it in one["verdicts"]])
        for one in ended
    } == {
        "row[good]": (1.0, [("contains", True), ("max_length", True)]),
        "row[bad]": (0.25, [("contains", False), ("max_length", True)]),
        "alone": (0.0, [("contains", False)]),
        "sure": (1.0, [("contains", True)]),
    }
    cases = ET.parse(desk.folder / "j.xml").getroot()[0]
    assert {case.get("name"): case.findtext("system-out", "").splitlines() for case in cases} == {
        "row[good]": [
            "score 1.00",
            'passed: contains: expected to contain "good"',
            "passed: max_length: expected at most 90 characters",
        ],
        "row[bad]": [
            "score 0.25",
            'not met: contains: expected to contain "good", found "bad"',
            "passed: max_length: expected at most 90 characters",
        ],
        "alone": ["score 0.00", 'error: contains: expected to contain "fine", found "bad"'],
        "sure": ["score 1.00", 'passed: contains: expected to contain "good"'],
    }
    rows = (desk.folder / "s.md").read_text().splitlines()
    assert [row.count("mean score 0&#46;62, ") for row in rows if "| row |" in row] == [1, 0]
    assert "| row |  | 1 of 2 (50 %) | 0.62 | " in "\n".join(rows)
    assert [row.count("score") for row in rows if "| sure |" in row] == [0]
    told = {line.partition(":")[0]: line for line in log.stderr.splitlines()}
    assert told["row[bad]"].endswith(" tokens, score 0.25")
    assert "score" not in told["row[good]"] + told["sure"]


def test_a_proof_says_why_a_failure_that_is_passed_over_is_never_current(scripted):
    rows = "for_each: [good, bad], prompt: '{{ item }}', continue_on_error: true"
    flow = f"poeflow: 1\nsteps:\n  row: {{model: GPT-5.2, {rows}}}\n"
    scripted.write("a.yaml", flow)
    assert scripted.run("run", "a.yaml").returncode == 0
    done = scripted.run("run", "a.yaml", "--locked")
    assert done.returncode == 4
    assert done.stderr.splitlines() == [
        "a.yaml: row[bad]: new: the lock does not have it",
        f"a.yaml: row: {TOLERATED}",
    ]
    scripted.write("a.yaml", flow.replace("model:", "if: item == 'good', model:"))
    assert scripted.run("run", "a.yaml").returncode == 0
    done = scripted.run("run", "a.yaml", "--locked")
    assert (done.returncode, done.stderr) == (0, "a.yaml: current\n")
