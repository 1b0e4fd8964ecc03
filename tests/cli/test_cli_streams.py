"""Broken pipes, full disks and closed streams are ordinary: the run goes on, its work is kept."""

import json
import subprocess

import pytest

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  first: {prompt: first}
  second: {prompt: "then {{ steps.first.text }}"}
  third: {prompt: "then {{ steps.second.text }}", output: {save: out.md}}
"""


@pytest.fixture
def shell(online):
    """Run a line of shell in the project, `poeflow` being the program."""
    online.write("a.yaml", FLOW)

    def run(line: str) -> subprocess.CompletedProcess[str]:
        program = " ".join(online.command())
        return subprocess.run(
            ["bash", "-c", f'set -o pipefail; poeflow() {{ {program} "$@"; }}; {line}'],
            cwd=online.folder,
            env=online.env(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    return run


@pytest.mark.parametrize(
    "line",
    [
        "poeflow run a.yaml 2>/dev/full >result",
        "poeflow run a.yaml 2>&- >result",
        "{ poeflow run a.yaml 2>&1 >result; echo $? >code; } | true; exit $(cat code)",
        "poeflow run a.yaml --output github 2>/dev/full >result",
    ],
)
def test_a_log_that_cannot_be_written_fails_no_run(shell, online, simulator, line):
    done = shell(line)
    assert (done.returncode, done.stdout) == (0, "")
    assert len(simulator.requests) == 3
    result = (online.folder / "result").read_text()
    assert result == (online.folder / "out.md").read_text()


def test_a_result_that_cannot_be_written_is_said_and_the_work_is_kept(shell, online, simulator):
    done = shell("poeflow run a.yaml >/dev/full")
    assert done.returncode == 8
    assert done.stderr.splitlines()[-1] == "error: no space left on device"
    assert (online.folder / "out.md").exists()
    assert online.run("run", "a.yaml").returncode == 0
    assert len(simulator.requests) == 3


def test_a_reader_that_has_enough_ends_the_run_quietly(shell, online, simulator):
    done = shell("poeflow run a.yaml --output jsonl | head -n 1")
    assert (done.returncode, done.stderr) == (141, "")
    assert done.stdout.startswith('{"event": "run_started"')
    assert len(simulator.requests) < 3, "nothing new is started for nobody"
    assert online.run("run", "a.yaml").returncode == 0
    assert len(simulator.requests) == 3, "what was paid for is kept"


def test_a_process_without_streams_runs(shell, online):
    assert shell("poeflow run a.yaml >&- 2>&-").returncode == 0
    assert (online.folder / "out.md").exists()


PRINTING = """\
import sys, threading
print("imported")
from sys import stdout

def tell(text):
    print(text)
    stdout.write(text + " again\\n")
    thread = threading.Thread(target=print, args=["in a thread"])
    thread.start()
    thread.join()
    return "a result"

async def tell_later(text):
    print("later", flush=True)
    return "another"

def judged(text):
    print("judged", end="")
    return True
"""
CALLS = """\
poeflow: 1
steps:
  a: {call: "printing:tell", with: {text: called}, reads: [], expect: [{call: "printing:judged"}]}
  b: {call: "printing:tell_later", with: {text: x}, reads: []}
"""
PRINTED = ["imported", "called", "called again", "in a thread", "later", "judged"]


@pytest.mark.parametrize("output", ["json", "jsonl", "text"])
def test_what_functions_print_is_not_among_the_results(desk, output):
    desk.write("printing.py", PRINTING)
    desk.write("b.yaml", CALLS)
    done = desk.run("run", "b.yaml", "--allow-tools", "--offline", "--output", output)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines() if output == "jsonl" else [done.stdout]
    found = [json.loads(line) for line in lines]
    made = found[-1]["outputs"] if output == "jsonl" else found[0]
    assert made == {"a": "a result", "b": "another"}
    assert [one for one in PRINTED if one not in done.stderr] == []


@pytest.mark.parametrize("to", ["2>/dev/full", "2>&-"])
def test_what_functions_print_may_be_lost(shell, online, to):
    online.write("printing.py", PRINTING)
    online.write("b.yaml", CALLS)
    done = shell(f"poeflow run b.yaml --allow-tools --output json {to}")
    assert (done.returncode, json.loads(done.stdout)["b"]) == (0, "another")


WRITING = """\
import os, subprocess, sys

def child():
    subprocess.run([sys.executable, "-c", "print('OTHER')"], check=True)

def raw():
    os.write(1, b"OTHER")

def buffered():
    sys.__stdout__.write("OTHER")

def closes():
    print("OTHER")
    sys.stdout.close()

def closes_both():
    print("OTHER")
    sys.stderr.close()
    sys.__stdout__.close()
    os.close(1)

def replaces():
    print("OTHER")
    sys.stdout = sys.stderr = None
"""


@pytest.mark.parametrize("output", ["json", "jsonl"])
@pytest.mark.parametrize("name", ["child", "raw", "buffered", "closes", "closes_both", "replaces"])
def test_nothing_that_a_function_does_to_stdout_spoils_the_results(desk, name, output):
    desk.write("writing.py", WRITING + f"\n\ndef call():\n    {name}()\n    return 'made'\n")
    step = '  a: {call: "writing:call", reads: []}\n'
    desk.write("a.yaml", f"poeflow: 1\nsteps:\n{step}")
    desk.write("b.yaml", f"poeflow: 1\nsteps:\n{step}  b: {{render: 'x {{{{ steps.a.text }}}}'}}\n")
    done = desk.run("run", "a.yaml", "b.yaml", "--allow-tools", "--output", output)
    assert done.returncode == 0, done.stderr
    if output == "jsonl":
        found = [json.loads(line) for line in done.stdout.splitlines()]
        made = [one["outputs"] for one in found if one["event"] == "run_finished"]
        assert made == [{"a": "made"}, {"b": "x made"}]
    else:
        made = {"a.yaml": {"a": "made"}, "b.yaml": {"b": "x made"}}
        assert json.loads(done.stdout) == made
        lines = done.stderr.replace("OTHER", "").splitlines()
        assert "b: rendered" in [line.strip() for line in lines]
    assert "OTHER" in done.stderr


MOVING = """\
import os

def moves():
    os.chdir("/")
    del os.environ["POE_BASE_URL"]
    os.environ.update(POE_API_KEY="another-key-12345", POEFLOW_STATE_DIR="/nowhere")
    return "moved"
"""


def test_a_function_that_changes_folder_and_environment_does_so_for_its_run_only(online, simulator):
    online.write("moving.py", MOVING)
    online.write("note.txt", "hello")
    flow = """\
poeflow: 1
inputs: {word: {type: string}}
defaults: {model: GPT-5.2}
steps:
  a: {call: "moving:moves", reads: []}
  b:
    prompt: "{{ flow.name }} {{ steps.a.text }} {{ read('//note.txt') }} {{ inputs.word }}"
    output: {save: "out/{{ flow.name }}.txt"}
"""
    online.write("one.yaml", flow)
    online.write("two.yaml", flow)
    online.write("sub/words.yaml", "word: otters\n")
    command = online.command("run", "../one.yaml", "../two.yaml", "--allow-tools")
    done = subprocess.run(
        [*command, "--inputs-file", "words.yaml", "--junit", "report.xml", "--output", "json"],
        cwd=online.folder / "sub",
        env=online.env(),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sent = [request.json["messages"][-1]["content"] for request in simulator.requests]
    assert sent == ["one moved hello otters", "two moved hello otters"]
    names = {name for name in online.files() if not name.startswith((".poeflow/", "home/"))}
    assert {"out/one.txt", "out/two.txt", "sub/report.xml"} <= names
    assert {"one.words.lock.json", "two.words.lock.json"} <= names
