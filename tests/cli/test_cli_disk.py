"""A full disk, a read-only one, and two runs at once: told clearly, and nothing is lost.

The disks are real ones, mounted where only the test's own processes see them.
"""

import json
import subprocess
import sys

import pytest

from poeflow.simulator.server import Simulator

STEPS = 300
MANY = f"""\
poeflow: 1
defaults: {{model: GPT-5.2}}
steps:
  all:
    for_each: "{{{{ range({STEPS}) | list }}}}"
    prompt: "item {{{{ item }}}}"
    output: {{save: "out/{{{{ key }}}}.md"}}
"""
CAN_MOUNT = (
    subprocess.run(
        ["unshare", "--map-root-user", "--mount", "true"], capture_output=True, check=False
    ).returncode
    == 0
)
mounts = pytest.mark.skipif(not CAN_MOUNT, reason="this system lets nobody mount a disk")


def mounted(desk, script: str) -> list[str]:
    """Run a shell script that may mount disks; `poeflow` in it is the program."""
    command = f'poeflow() {{ "{sys.executable}" -m poeflow.cli.start "$@"; }}\nset -u\n{script}'
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "bash", "-c", command],
        cwd=desk.folder,
        env=desk.env(),
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.stdout.splitlines()


@mounts
@pytest.mark.slow
def test_on_a_full_disk_nothing_paid_is_lost(online, simulator):
    online.write("flow/a.yaml", MANY)
    online.write("flow/poeflow.toml", "")
    told = mounted(
        online,
        """
        mkdir disk && mount -t tmpfs -o size=2m disk disk && cp flow/* disk && cd disk
        poeflow run a.yaml --max-requests 400 2>err >/dev/null; echo "code $?"
        grep -m 1 'free some space' err
        mount -o remount,size=64m .
        poeflow run a.yaml --max-requests 400 2>/dev/null >/dev/null; echo "code $?"
        poeflow run a.yaml --locked 2>&1
        """,
    )
    assert (told[0], told[-2:]) == ("code 8", ["code 0", "a.yaml: current"])
    assert any("free some space and run again; no answer was lost" in line for line in told)
    asked = [request.json["messages"][-1]["content"] for request in simulator.requests]
    assert sorted(asked) == sorted(f"item {n}" for n in range(STEPS)), "each exactly once"


@mounts
def test_a_read_only_project_is_told_before_anything_is_sent(online, simulator):
    online.write("a.yaml", "poeflow: 1\nsteps: {say: {prompt: hi, model: GPT-5.2}}\n")
    told = mounted(
        online,
        """
        mount --bind -o ro . . 2>/dev/null || { mount --bind . . && mount -o remount,bind,ro .; }
        cd "$PWD"
        poeflow check a.yaml; echo "code $?"
        poeflow plan a.yaml 2>/dev/null; echo "code $?"
        poeflow run a.yaml 2>&1; echo "code $?"
        """,
    )
    assert told[0] == "code 0"
    assert told[2] == "code 0"
    assert told[-1] == "code 8"
    assert "read-only" in told[-3]
    elsewhere = "let it be written to, or name another folder with POEFLOW_STATE_DIR"
    assert told[-2].strip() == elsewhere
    assert len(simulator.requests) == 0


@mounts
def test_what_no_lock_could_prove_is_not_paid_for(online, simulator):
    """The state may be elsewhere; the lock is beside the flow."""
    flow = "poeflow: 1\nsteps: {say: {prompt: hi, model: GPT-5.2, output: {save: hi.md}}}\n"
    online.write("flow/a.yaml", flow)
    online.write("flow/poeflow.toml", "")
    told = mounted(
        online,
        """
        export POEFLOW_STATE_DIR="$PWD/state"
        mount --bind flow flow && mount -o remount,bind,ro flow && cd flow
        poeflow run a.yaml 2>&1; echo "code $?"
        poeflow run a.yaml --offline >/dev/null 2>&1; echo "code $?"
        mount -o remount,bind,rw .
        poeflow run a.yaml >/dev/null 2>&1; echo "code $?"
        mount -o remount,bind,ro .
        poeflow run a.yaml >/dev/null 2>&1; echo "code $?"
        """,
    )
    assert "flow cannot be written to, and the lock is there; let it be" in told[0]
    assert told[-4:] == ["code 8", "code 0", "code 0", "code 0"]
    assert len(simulator.requests) == 1, "that of the folder that could be written to"


def test_a_second_run_waits_for_the_first_and_pays_for_nothing_again(online):
    online.write("a.yaml", "poeflow: 1\nsteps: {say: {prompt: hi, model: GPT-5.2}}\n")
    with Simulator(latency=0.3) as simulator:
        online.environ["POE_BASE_URL"] = simulator.base_url
        both = [
            subprocess.Popen(
                online.command("run", "a.yaml"),
                cwd=online.folder,
                env=online.env(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        ended = [(*one.communicate(timeout=30), one.returncode) for one in both]
        assert [code for _, _, code in ended] == [0, 0]
        assert ended[0][0] == ended[1][0] != ""
        assert len(simulator.requests) == 1


def test_a_second_run_that_does_not_wait_says_who_is_at_work(online):
    online.write("a.yaml", "poeflow: 1\nsteps: {say: {prompt: hi, model: GPT-5.2}}\n")
    with Simulator(latency=20) as simulator:
        online.environ["POE_BASE_URL"] = simulator.base_url
        first = subprocess.Popen(
            online.command("run", "a.yaml", "--output", "jsonl"),
            cwd=online.folder,
            env=online.env(),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert first.stdout is not None
        with first.stdout as lines:
            kinds = iter(json.loads(line)["event"] for line in lines)
            assert "request_sent" in kinds
            second = online.run("run", "a.yaml", "--wait", "0")
            assert (second.returncode, second.stdout) == (7, "")
            assert f"another run (process {first.pid}, for " in second.stderr
            first.terminate()
            assert first.wait(timeout=10) == 143
