"""kill -9 at any moment: running again finishes the work and pays for nothing twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from poeflow.records import RunFilter
from poeflow.simulator.server import Simulator
from poeflow.store.history import History

STEPS = 40
KILLS = 6
CONCURRENCY = 4


def flow() -> str:
    chain = "\n".join(
        f'  s{n}: {{prompt: "step {n} {{{{ steps.s{n - 1}.text | length }}}}",'
        f" output: {{save: out/{n}.md}}}}"
        for n in range(1, STEPS)
    )
    return (
        "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"
        "  s0: {prompt: begin, output: {save: out/0.md}}\n"
        f"{chain}\n"
        f"  all: {{for_each: '{{{{ range({STEPS}) | list }}}}', prompt: 'item {{{{ item }}}}',"
        " output: {save: 'out/i{{ key }}.md'}}\n"
    )


@pytest.mark.slow
def test_no_answered_step_is_asked_twice_and_no_file_is_torn(tmp_path):
    (tmp_path / "a.yaml").write_text(flow())
    command = [sys.executable, "-m", "poeflow.cli.start", "run", "a.yaml"]
    dice = random.Random(7)
    with Simulator(latency=0.01) as simulator:
        environ = {
            **os.environ,
            "POE_API_KEY": "some-key-12345",
            "POE_BASE_URL": simulator.base_url,
        }
        environ.pop("CI", None)
        for _ in range(KILLS):
            process = subprocess.Popen(
                [*command, "--concurrency", str(CONCURRENCY)],
                cwd=tmp_path,
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            try:
                process.wait(timeout=dice.uniform(0.4, 1.2))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        asked = [request.json["messages"][-1]["content"] for request in simulator.requests]
    assert len(set(asked)) == 2 * STEPS
    assert len(asked) <= 2 * STEPS + KILLS * CONCURRENCY, "more than what was in flight"
    assert len(list((tmp_path / "out").iterdir())) == 2 * STEPS
    assert json.loads((tmp_path / "a.lock.json").read_text())["poeflow_lock"] == 2
    proven = subprocess.run(
        [*command, "--locked"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (proven.returncode, proven.stderr) == (0, "a.yaml: current\n")
    with History(tmp_path / ".poeflow" / "poeflow.db", warn=pytest.fail) as history:
        runs = {run.id: run.end for run in history.runs(RunFilter())}
        found = {number: history.requests(number) for number in runs}
    assert runs[max(runs)] is not None
    rows = [row for of in found.values() for row in of]
    told = [row.record.request["body"]["messages"][-1]["content"] for row in rows]
    assert Counter(asked) - Counter(told) == Counter(), "each was written down before it was sent"
    unknown = {n: sum(row.answer is None for row in of) for n, of in found.items()}
    assert all(count <= CONCURRENCY for count in unknown.values()), "more than was in flight"
    assert all(runs[number] is None for number, count in unknown.items() if count)


TURNS = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  a:
    prompt: "turn {{ repeat.number }} after {{ previous.text if previous else 'nothing' }}"
    repeat: {until: repeat.number == 6, max: 9}
"""
FOLD = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  a:
    for_each: {in: [1, 2, 3, 4, 5, 6], carry: previous.text}
    prompt: "turn {{ item }} after {{ carry or 'nothing' }}"
"""


USED = """\
poeflow: 1
steps:
  a:
    use: turn.yaml
    with: {number: "{{ repeat.number }}", text: "{{ previous.outputs.a if previous else 'none' }}"}
    repeat: {until: repeat.number == 6, max: 9}
"""
TURN = """\
poeflow: 1
inputs: {number: {type: integer}, text: {}}
defaults: {model: GPT-5.2}
steps:
  a: {prompt: "turn {{ inputs.number }} after {{ inputs.text }}"}
"""


@pytest.mark.parametrize("flow", [TURNS, FOLD, USED], ids=["turns", "fold", "used"])
def test_a_run_that_is_killed_goes_on_with_the_next_turn(tmp_path, flow):
    (tmp_path / "a.yaml").write_text(flow)
    (tmp_path / "turn.yaml").write_text(TURN)
    command = [sys.executable, "-m", "poeflow.cli.start", "run", "a.yaml"]
    with Simulator(latency=0.05) as simulator:
        environ = {
            **os.environ,
            "POE_API_KEY": "some-key-12345",
            "POE_BASE_URL": simulator.base_url,
        }
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while len(simulator.requests) < 3 and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = [request.json["messages"][-1]["content"] for request in simulator.requests]
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
        )
        asked = [request.json["messages"][-1]["content"] for request in simulator.requests]
    assert done.returncode == 0, done.stderr
    assert 3 <= len(before) < 6
    assert [one.partition(" after ")[0] for one in dict.fromkeys(asked)] == [
        f"turn {number}" for number in range(1, 7)
    ]
    assert len(asked) <= 6 + 1, "only the one under way is asked again"
