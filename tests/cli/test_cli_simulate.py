"""`poeflow simulate` as a process."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

COMMAND = [sys.executable, "-m", "poeflow.cli.start", "simulate"]


@dataclass
class Ended:
    """How a process ended, filled in when it has."""

    code: int | None = None
    out: str = ""
    err: str = ""
    pid: int = field(default=0, compare=False)


@contextmanager
def simulate(*options: str, files: int | None = None) -> Iterator[tuple[str, Ended]]:
    """Run the command until it says where it listens, and end it with Ctrl-C.

    `files` is how many it may have open.
    """
    ended = Ended()
    pipe, environ = subprocess.PIPE, {**os.environ, "PYTHONWARNINGS": "error"}
    limit = [] if files is None else ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh"]
    command = [*limit, *COMMAND, *options]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environ) as process:
        try:
            line = process.stdout.readline()
            ended.pid = process.pid
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


def seconds_at_work(pid: int) -> float:
    """Return how long a process has had a processor, by proc(5)."""
    told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def test_without_room_for_another_connection_it_waits_and_does_not_spin():
    with simulate(files=64) as (url, ended):
        port = int(url.removesuffix("/v1").rpartition(":")[2])
        idle = [socket.create_connection(("127.0.0.1", port), timeout=1) for _ in range(80)]
        before = seconds_at_work(ended.pid)
        idle[-1].sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(TimeoutError):
            idle[-1].recv(1)
        assert seconds_at_work(ended.pid) - before < 0.3
        for line in idle:
            line.close()
        assert httpx.head(f"{url}/models", timeout=20).status_code == 200
    assert ended == Ended(130, "", "\ninterrupted\n")
