"""The command `poeflow view` as a process."""

import http.client
import os
import re
import signal
import subprocess
import sys
from urllib.parse import urlsplit

import pytest
from view_runs import asked, keep, run_record
from view_served import ask

from poeflow.records import RunEnd
from poeflow.store.history import History

COMMAND = [sys.executable, "-m", "poeflow.cli.start", "view"]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "poeflow.toml").touch()
    (tmp_path / ".poeflow").mkdir()
    return tmp_path


def start(folder, *arguments: str, **environ: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], "BROWSER": "false", **environ},
    )


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_until_it_is_interrupted(folder, number, code):
    with History(folder / ".poeflow/poeflow.db", warn=pytest.fail) as history:
        answer = asked("draft", "my key is key-12345678 ok")
        spelled = "".join(f"&#{ord(one)};" for one in "key-12345678")
        coded = asked("coded", f"# Mine\n\nit is {spelled} too")
        keep(history, run_record(), [answer, coded], RunEnd(exit_code=0, seconds=1.0))
    with start(folder, POE_API_KEY="key-12345678") as process:
        assert process.stdout
        line = process.stdout.readline()
        assert re.fullmatch(r"listening http://127\.0\.0\.1:\d+/[\w-]{32}/\n", line)
        address = line.split()[1]
        assert '<span class="badge ok">ok</span>' in ask(address).text
        assert "my key is [key] ok" in ask(f"{address}runs/1/1").text
        assert "it is [key] too" in ask(f"{address}runs/1/2").text
        process.send_signal(number)
        said, complained = process.communicate(timeout=20)
    assert (process.returncode, said) == (code, "")
    assert complained.strip() == ("interrupted" if code == 130 else "")


@pytest.mark.slow
def test_an_open_page_does_not_keep_it_alive(folder):
    with start(folder, "--no-browser") as process:
        assert process.stdout
        address = process.stdout.readline().split()[1]
        parts = urlsplit(address)
        reader = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
        reader.request("GET", f"{parts.path}events")
        answer = reader.getresponse()
        assert answer.readline() == b"retry: 2000\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=20)
        assert b"data: 0" in answer.read()
        reader.close()
    assert process.returncode == 130


def test_a_port_that_is_taken_is_told(folder):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with start(folder, "--port", str(port)) as process:
            said, complained = process.communicate(timeout=20)
    assert (process.returncode, said) == (2, "")
    assert complained == (
        f"error: port {port} cannot be used: address already in use\n"
        "  take another --port, or 0 for a free one\n"
    )


@pytest.mark.parametrize("name", ["starlette", "uvicorn"])
def test_without_the_extra_it_says_what_to_install(folder, name):
    script = (
        f"import sys; sys.modules[{name!r}] = None; sys.argv = ['poeflow', 'view']; "
        "from poeflow.cli.start import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        2, "", "error: the pages need starlette and uvicorn\n  pip install 'poeflow[ui]'\n",
    )  # fmt: skip


@pytest.mark.slow
def test_a_terminal_gets_a_browser_with_an_address_that_serves_once(folder):
    import pexpect

    script = '#!/bin/sh\nenv > given; echo "$1" > opened.tmp; mv opened.tmp opened\n'
    (folder / "opener").write_text(script)
    (folder / "opener").chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "BROWSER": f"{folder}/opener", "TERM": "xterm"}
    environ["POE_API_KEY"] = "canary-key-0123456789"
    child = pexpect.spawn(COMMAND[0], COMMAND[1:], cwd=folder, env=environ, encoding="utf-8")
    child.expect(r"listening (http://\S+)")
    address = child.match[1]
    while not (folder / "opened").exists():
        os.sched_yield()
    opened = (folder / "opened").read_text().strip()
    given = (folder / "given").read_text()
    assert ("TERM=xterm" in given, "POE_API_KEY" in given) == (True, False)
    assert opened.partition("/open/")[0] == address.rpartition("/")[0].rpartition("/")[0]
    assert ask(opened).headers["location"] == "/" + address.split("/", 3)[3]
    assert ask(opened).status == 404
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
