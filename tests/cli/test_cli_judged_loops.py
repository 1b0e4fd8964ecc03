"""A loop that is judged as a whole, cut short by kill -9 and run again, by real processes."""

import os
import signal
import subprocess
import sys
import time

from poeflow.simulator.server import Simulator

ROWS = 6
FLOW = f"""
poeflow: 1
defaults: {{model: GPT-5.2}}
limits: {{concurrency: 1}}
steps:
  say:
    for_each: {list(range(ROWS))}
    prompt: "row {{{{ item }}}}"
    expect: [{{contains_any: ["row {{{{ item }}}}"], level: score}}]
  report:
    render: "{{{{ steps.say.all | pass_rate }}}}"
    output: {{save: out.txt}}
    expect: [{{that: steps.say.all | pass_rate == 1}}]
"""


def test_killed_in_the_middle_it_is_judged_over_all_rows_and_none_is_asked_twice(tmp_path):
    (tmp_path / "a.yaml").write_text(FLOW)
    command = [sys.executable, "-m", "poeflow.cli.start", "run", "a.yaml"]
    with Simulator(latency=0.1) as simulator:
        environ = {
            **os.environ,
            "POE_API_KEY": "some-key-12345",
            "POE_BASE_URL": simulator.base_url,
        }
        environ.pop("CI", None)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = subprocess.Popen(command, cwd=tmp_path, env=environ, **quiet)
        while len(simulator.requests) < ROWS // 2:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "out.txt").exists()
        for _ in range(2):
            done = subprocess.run(
                command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            assert (tmp_path / "out.txt").read_text() == "1.0\n"
        asked = [request.json["messages"][-1]["content"] for request in simulator.requests]
        proven = subprocess.run(
            [*command, "--locked"], cwd=tmp_path, env=environ, capture_output=True, check=False
        )
    assert set(asked) == {f"row {number}" for number in range(ROWS)}
    assert len(asked) <= ROWS + 1, "what was in flight, and nothing else"
    assert proven.returncode == 0
