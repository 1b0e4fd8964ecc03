"""Commands over several flows: what is in the way of one is said, and the others are looked at."""

import contextlib
import json
import shutil
import subprocess
import time

import pytest

from poeflow.simulator.server import Simulator

FINE = "poeflow: 1\nsteps: {a: {render: x, output: {save: out/a.md}}}\n"
NEEDY = "poeflow: 1\ninputs: {t: {type: string}}\nsteps: {b: {render: '{{ inputs.t }}'}}\n"
USING = "poeflow: 1\nsteps: {u: {use: parts/sub.yaml, with: {t: x}}}\n"
ERROR = 'error: b.yaml: the input "t" is missing; pass --input t=...\n'
WAITING = "{}: needs the input t, and has no lock\n"


@pytest.fixture
def flows(desk):
    desk.write("a.yaml", FINE)
    desk.write("b.yaml", NEEDY)
    desk.write("c.yaml", FINE.replace("a.md", "c.md"))
    for name in ("a", "c"):
        assert desk.run("run", f"{name}.yaml").returncode == 0
    return desk


def test_a_flow_of_a_folder_that_needs_inputs_is_a_line_of_status(flows):
    done = flows.run("status", "--output", "json")
    assert (done.returncode, done.stderr) == (0, WAITING.format("b.yaml"))
    assert sorted(json.loads(done.stdout)) == ["a.yaml", "c.yaml"]


def test_a_flow_of_a_folder_that_needs_inputs_is_a_line_of_lock_fill(flows):
    (flows.folder / "c.lock.json").unlink()
    (flows.folder / "c.yaml").write_text("poeflow: 1\nsteps: {c: {model: Claude-Sonnet-4.5}}\n")
    done = flows.run("lock", "fill")
    assert done.returncode == 3
    assert done.stderr.startswith(f"a.yaml: nothing to fill\n{WAITING.format('b.yaml')}c.yaml:")
    flows.write("c.yaml", FINE.replace("a.md", "c.md"))
    done = flows.run("lock", "fill")
    assert (done.returncode, "c.yaml: filled 1 entry: a\n" in done.stderr) == (0, True)


def test_flows_that_are_only_used_are_not_in_the_way(desk):
    desk.write("u.yaml", USING)
    desk.write("parts/sub.yaml", NEEDY)
    assert desk.run("run", "u.yaml").returncode == 0
    for words in (("status",), ("lock", "fill")):
        done = desk.run(*words)
        assert (done.returncode, WAITING.format("parts/sub.yaml") in done.stderr) == (0, True)
        assert "u" in done.stdout + done.stderr


@pytest.mark.parametrize("words", [("status",), ("lock", "fill"), ("run", "--locked")])
def test_a_flow_that_is_named_needs_its_inputs_and_the_others_are_looked_at(flows, words):
    done = flows.run(*words, "b.yaml", "./a.yaml", "c.yaml")
    assert (done.returncode, done.stderr.startswith(ERROR)) == (2, True), done.stderr
    shown = done.stdout + done.stderr
    assert all(name in shown for name in ("a.yaml", "c.yaml")), shown


@pytest.mark.parametrize("words", [("status",), ("lock", "fill")])
def test_a_flow_with_a_lock_that_lost_its_inputs_is_an_error(flows, words):
    flows.write("b.inputs.yaml", "t: x\n")
    assert flows.run("run", "b.yaml").returncode == 0
    (flows.folder / "b.inputs.yaml").unlink()
    done = flows.run(*words)
    assert (done.returncode, ERROR in done.stderr) == (2, True), done.stderr
    assert "c.yaml" in done.stdout + done.stderr


@pytest.mark.parametrize("words", [("status",), ("run", "--locked")])
def test_what_is_in_the_way_is_an_annotation(flows, words):
    flows.write("c.lock.json", "{")
    done = flows.run(*words, "b.yaml", "c.yaml", "a.yaml", "--output", "github", "--junit", "j.xml")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("::error")]
    assert [line.split(",")[0] for line in lines] == ["::error file=b.yaml", "::error file=c.yaml"]
    report = (flows.folder / "j.xml").read_text()
    assert report.count("<failure") + report.count("<error") == 2


def test_the_most_serious_exit_code_is_used(flows):
    flows.write("a.yaml", FINE.replace("x,", "y,"))
    assert flows.run("run", "--locked", "a.yaml", "c.yaml").returncode == 4
    assert flows.run("run", "--locked", "a.yaml", "b.yaml", "c.yaml").returncode == 2


WRITING = "poeflow: 1\nsteps: {%s: {render: %s, output: {save: out/x.md}}}\n"


@pytest.fixture
def moved(desk):
    """Return a desk whose step moved from a.yaml to b.yaml, which wrote its file anew."""
    desk.write("a.yaml", WRITING % ("a", "x"))
    assert desk.run("run", "a.yaml").returncode == 0
    desk.write("a.yaml", "poeflow: 1\nsteps: {z: {render: z}}\n")
    return desk


@pytest.mark.parametrize("text", ["x", "y"])
@pytest.mark.parametrize("state", ["kept", "lost"])
def test_a_file_that_another_flow_writes_now_is_not_pruned(moved, text, state):
    moved.write("b.yaml", WRITING % ("b", text))
    assert moved.run("run", "b.yaml").returncode == 0
    if state == "lost":
        shutil.rmtree(moved.folder / ".poeflow")
    assert moved.run("run", "--locked", "b.yaml").returncode == 0
    done = moved.run("run", "a.yaml", "--prune-outputs")
    assert (done.returncode, "out/x.md" in done.stderr) == (0, False), done.stderr
    assert moved.run("run", "--locked", "a.yaml", "b.yaml").returncode == 0


@pytest.mark.parametrize("damage", ["{", '{"poeflow_lock": 99, "outputs": {"//out/x.md": ""}}'])
def test_a_file_is_not_pruned_if_a_lock_that_cannot_be_read_may_name_it(moved, damage):
    moved.write("parts/b.yaml", WRITING % ("b", "x"))
    moved.write("parts/b.more.lock.json", damage)
    assert moved.run("run", "a.yaml", "--prune-outputs").returncode == 0
    assert (moved.folder / "out/x.md").exists()


def test_the_lock_of_a_flow_that_is_gone_keeps_no_file(moved):
    moved.write("b.yaml", WRITING % ("b", "x"))
    assert moved.run("run", "b.yaml").returncode == 0
    (moved.folder / "b.yaml").unlink()
    assert moved.run("run", "a.yaml", "--prune-outputs").returncode == 0
    assert not (moved.folder / "out/x.md").exists()


def test_a_file_that_a_run_without_a_lock_wrote_is_not_pruned(moved):
    text = WRITING % ("b", "'{{ inputs.t }}'")
    moved.write("b.yaml", text.replace("steps", "inputs: {t: {type: string}}\nsteps"))
    assert moved.run("run", "b.yaml", "--input", "t=y").returncode == 0
    assert moved.run("run", "a.yaml", "--prune-outputs").returncode == 0
    assert (moved.folder / "out/x.md").read_text() == "y\n"


SLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps: {a: {for_each: [x, y, z], prompt: "{{ item }}", output: {save: "docs/{{ item }}.md"}}}
"""
READING = """\
poeflow: 1
steps:
  b: {for_each: {glob: docs/*.md}, render: "{{ item }}", output: {save: "out/{{ loop.index }}.md"}}
  c: {render: "{% include 'docs/x.md' %}", output: {save: out/c.txt}}
"""


@pytest.fixture
def beside(desk):
    """Return a desk, and a block during whose beginning a run of a.yaml writes docs/*.md."""

    @contextlib.contextmanager
    def running():
        with Simulator(latency=0.4) as slow:
            desk.environ |= {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": slow.base_url}
            command = desk.command("run", "a.yaml", "--force", "--concurrency", "1")
            with subprocess.Popen(command, cwd=desk.folder, env=desk.env()) as process:
                while not slow.requests:
                    time.sleep(0.01)
                yield
            assert process.returncode == 0

    desk.write("docs/x.md", "as before")
    desk.write("a.yaml", SLOW)
    return desk, running


def test_a_run_that_waited_for_another_takes_the_files_that_are_there_then(beside):
    desk, running = beside
    desk.write("b.yaml", READING)
    with running():
        assert desk.run("run", "b.yaml").returncode == 0
    made = sorted(path.name for path in (desk.folder / "out").iterdir())
    assert made == ["1.md", "2.md", "3.md", "c.txt"]
    assert (desk.folder / "out/c.txt").read_text() == (desk.folder / "docs/x.md").read_text()
    assert desk.run("run", "--locked", "b.yaml").returncode == 0


def test_what_is_accepted_after_another_run_is_current_with_the_files_that_are_there_then(beside):
    desk, running = beside
    desk.write("b.yaml", WRITING % ("c", "\"{% include 'docs/x.md' %}\""))
    assert desk.run("run", "b.yaml").returncode == 0
    desk.write("out/x.md", "my own words\n")
    with running():
        assert desk.run("accept", "b.yaml").returncode == 0
    assert desk.run("run", "--locked", "b.yaml").returncode == 0


def test_a_flow_takes_what_one_before_it_in_the_command_wrote(desk):
    desk.write("docs/x.md", "x\n")
    desk.write("b.yaml", READING)
    writing = WRITING % ("a", "new")
    desk.write("a.yaml", writing.replace("out/x.md", "docs/x.md"))
    done = desk.run("run", "a.yaml", "b.yaml", "--force")
    assert done.returncode == 0, done.stderr
    assert (desk.folder / "out/c.txt").read_text() == "new\n"
    assert desk.run("run", "--locked", "b.yaml").returncode == 0


def test_a_mistake_in_a_file_of_several_flows_is_listed_once(desk):
    desk.write("p.md", "say {{ nope }}\n")
    for name in ("a", "b"):
        flow = "poeflow: 1\nsteps: {%s: {render: {file: p.md}}}\n"
        desk.write(f"{name}.yaml", flow % name)
    done = desk.run("check")
    assert (done.returncode, done.stderr.count("nope")) == (3, 1), done.stderr
    assert done.stderr.endswith("\n1 problem in 2 flows\n")


def test_results_of_several_flows_are_one_json_document(flows):
    flows.write("b.yaml", FINE.replace("render: x", "render: 'é'").replace("a.md", "b.md"))
    flows.write("d.yaml", NEEDY.replace("string", "string, default: d").replace("inputs.t", "1/0"))
    done = flows.run("run", "a.yaml", "b.yaml", "--output", "json")
    assert json.loads(done.stdout) == {"a.yaml": {"a": "x"}, "b.yaml": {"a": "é"}}
    done = flows.run("run", "a.yaml", "d.yaml", "--output", "json")
    assert (done.returncode, json.loads(done.stdout)) == (1, {"a.yaml": {"a": "x"}})
