"""`poeflow doctor`: a finding for each thing that runs need."""

import json
import os
import socket
import sqlite3
import subprocess
import threading
from email.utils import formatdate

import pytest

import poeflow
from poeflow.clock import SystemClock
from poeflow.operations.machine.server_examination import MAX_SKEW, ask_server
from poeflow.project.project import Project
from poeflow.simulator.server import Simulator
from poeflow.store.workspace import Workspace

KEY = "canary-key-0123456789"


def findings(desk, *arguments: str, exit_code: int = 0) -> dict[str, dict]:
    done = desk.run("doctor", "--output", "json", *arguments)
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert KEY not in done.stdout + done.stderr
    document = json.loads(done.stdout)
    assert document["ok"] is (exit_code == 0)
    return {one["name"]: one for one in document["findings"]}


def test_a_line_for_each_finding(desk):
    done = desk.run("doctor")
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[0].startswith(f"ok       poeflow        {poeflow.__version__} on Python ")
    assert "warning  key            POE_API_KEY is not set" in lines
    assert not (desk.folder / ".poeflow").exists()


def test_what_is_found_where_nothing_is_wrong(online, simulator):
    online.write("a.yaml", "poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: hi}\n")
    assert online.run("run", "a.yaml").returncode == 0
    found = findings(online)
    assert {one["level"] for one in found.values()} == {"ok"}, found
    assert found["sqlite"]["facts"]["version"] == sqlite3.sqlite_version
    is_fixed = sqlite3.sqlite_version_info >= (3, 51, 3)
    assert found["sqlite"]["facts"]["journal"] == ("wal" if is_fixed else "delete")
    assert found["libraries"]["facts"]["click"]
    assert found["key"]["facts"] == {"variable": "POE_API_KEY", "present": True}
    assert found["state"]["facts"]["folder"] == f"{online.folder}/.poeflow"
    files = [path for path in (online.folder / ".poeflow").rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    assert found["cache"]["facts"] == {"bytes": total, "files": len(files)}
    assert len(simulator.requests) == 1  # that of the run


@pytest.mark.parametrize("address", ["ftp://x", "http://example.com/v1"])
def test_an_address_that_a_run_refuses_is_a_fault_in_the_same_words(desk, address):
    desk.write("a.yaml", "poeflow: 1\nsteps: {a: {model: GPT-5.2, prompt: hi}}\n")
    desk.environ |= {"POE_BASE_URL": address, "POE_API_KEY": KEY}
    found = findings(desk, exit_code=1)["network"]
    refused = desk.run("run", "a.yaml")
    assert refused.returncode == 2
    assert refused.stderr.splitlines() == [f"error: {found['text']}", f"  {found['hint']}"]


def test_only_if_asked_the_server_is(online, simulator):
    found = findings(online, "--online")
    assert found["server"]["facts"]["url"] == simulator.base_url
    assert found["balance"]["facts"]["points"] > 0
    assert abs(found["clock"].get("facts", {}).get("seconds_ahead", 0)) < MAX_SKEW
    authorized = ["authorization" in dict(one.headers) for one in simulator.requests]
    assert authorized == [False, True]  # the first one needs no key


def test_a_server_that_does_not_answer_is_a_fault(desk):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        desk.environ["POE_BASE_URL"] = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
    found = findings(desk, "--online", exit_code=1)
    assert (found["server"]["level"], "balance" in found) == ("fault", False)


def test_a_refused_key_is_a_fault(desk):
    with Simulator(key=f"other-{KEY}") as simulator:
        desk.environ |= {"POE_API_KEY": KEY, "POE_BASE_URL": simulator.base_url}
        found = findings(desk, "--online", exit_code=1)
    assert (found["server"]["level"], found["balance"]["level"]) == ("ok", "fault")


@pytest.mark.parametrize(("ahead", "level"), [(0, "ok"), (-600, "warning"), (600, "warning")])
def test_the_clock_is_compared_with_the_servers(serve_once, ahead, level):
    class Clock(SystemClock):
        def now(self) -> float:
            return super().now() + ahead

    url = serve_once(formatdate(usegmt=True))
    found = {one.name: one for one in ask_server({"POE_BASE_URL": url}, Clock())}
    assert found["clock"].level == level
    if ahead:
        assert ("ahead of" if ahead > 0 else "behind") in found["clock"].text


@pytest.fixture
def serve_once():
    """Return a function that serves one response with a date, and gives the address."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(date: str) -> str:
        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                body = f"HTTP/1.1 404 No\r\ndate: {date}\r\ncontent-length: 0\r\n\r\n"
                connection.sendall(body.encode())

        threading.Thread(target=answer, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/v1"

    yield serve
    listening.close()


def test_faults_of_the_state_are_found(desk, tmp_path_factory):
    (desk.folder / ".poeflow").symlink_to(tmp_path_factory.mktemp("elsewhere"))
    found = findings(desk, exit_code=1)
    assert (found["state"]["level"], "is a link" in found["state"]["text"]) == ("fault", True)


def test_state_that_git_tracks_is_a_fault(desk):
    desk.write(".poeflow/poeflow.db", "")
    for words in (["init", "-q"], ["add", "-f", ".poeflow"]):
        subprocess.run(["git", *words], cwd=desk.folder, check=True, env=desk.env())
    found = findings(desk, exit_code=1)
    assert found["state"]["text"].startswith("git tracks .poeflow/poeflow.db")
    assert found["git"]["facts"]["repository"] is True


def test_a_lock_that_is_held_is_a_warning(desk):
    with Workspace(Project(desk.folder.resolve()), {}, offline=False).hold():
        found = findings(desk)
    assert (found["lock"]["level"], found["lock"]["facts"]) == ("warning", {"pid": os.getpid()})
    assert findings(desk)["lock"]["level"] == "ok"


def test_proxies_and_certificates(desk):
    desk.environ["HTTPS_PROXY"] = f"me:{KEY}@proxy.example:3128"
    found = findings(desk)
    assert "through the proxy http://[password]@proxy.example:3128" in found["network"]["text"]
    desk.environ["SSL_CERT_FILE"] = "/nowhere.pem"
    assert findings(desk, exit_code=1)["network"]["text"] == "SSL_CERT_FILE is not a file"


def test_a_configuration_that_cannot_be_used_is_a_fault(desk):
    desk.environ["POEFLOW_CONFIG"] = "/nowhere/config.toml"
    desk.write("poeflow.toml", "[limits]\nmax_request = 3\n")
    found = findings(desk, exit_code=1)
    assert found["configuration"]["level"] == "fault"
    assert "poeflow.toml:2:1: " in found["project"]["text"]
