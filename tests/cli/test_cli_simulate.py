"""`poeflow simulate` as a process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

COMMAND = [sys.executable, "-m", "poeflow.cli.main", "simulate"]


@dataclass
class Ended:
    """How a process ended, filled in when it has."""

    code: int | None = None
    out: str = ""
    err: str = ""


@contextmanager
def simulate(*options: str) -> Iterator[tuple[str, Ended]]:
    """Run the command until it says where it listens, and end it with Ctrl-C."""
    ended = Ended()
    pipe, environ = subprocess.PIPE, {**os.environ, "PYTHONWARNINGS": "error"}
    command = [*COMMAND, *options]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environ) as process:
        try:
            line = process.stdout.readline()
            yield line.removeprefix("listening ").strip(), ended
            process.send_signal(signal.SIGINT)
            ended.out, ended.err = process.communicate(timeout=20)
            ended.code = process.returncode
        finally:
            process.kill()


def test_it_says_where_it_listens_and_ends_with_ctrl_c():
    options = ("--rpm", "5", "--key-required", "--any-model", "--faults", "529x1")
    with simulate(*options) as (url, ended):
        body = {"model": "Some-New-Bot", "messages": [{"role": "user", "content": "hi"}]}
        key = {"authorization": "Bearer any-key-at-all"}
        codes = [
            httpx.post(f"{url}/chat/completions", json=body, headers=headers).status_code
            for headers in ({}, key, key)
        ]
        limit = httpx.get(f"{url}/models").headers["x-ratelimit-limit-requests"]
    assert url.startswith("http://127.0.0.1:")
    assert url.endswith("/v1")
    assert (codes, limit) == ([401, 529, 200], "5")
    assert ended == Ended(130, "", "\ninterrupted\n")


def test_it_warns_where_others_can_reach_it():
    with simulate("--host", "0.0.0.0") as (url, ended):
        port = url.removesuffix("/v1").rpartition(":")[2]
        assert httpx.get(f"http://127.0.0.1:{port}/v1/models").status_code == 200
    warning = "warning: everyone who reaches this machine can use the simulator\n"
    assert ended == Ended(130, "", f"{warning}\ninterrupted\n")


def ran(*options: str) -> tuple[int, str]:
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


def test_mistakes_are_told(tmp_path):
    script = tmp_path / "script.yaml"
    script.write_text("simulator: 1\nrules:\n  - fault: stal\n")
    assert ran("--faults", "stal") == (
        2,
        'error: unknown fault "stal"\n  did you mean "stall"?\n',
    )
    assert ran("--latency", "soon") == (
        2,
        "error: invalid value for '--latency': 'soon' is not a duration; write 90s, 10m or 1h\n",
    )
    assert ran("--script", str(script)) == (
        3,
        f'{script}:3:12: unknown fault "stal"; did you mean "stall"?\n',
    )
