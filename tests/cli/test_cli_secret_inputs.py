"""Secret inputs on the command line: from the environment or a file, and never in what is shown."""

import json
import os
import subprocess
import sys

import pytest

SECRET = "customer-secret-4711"
FLOW = """\
poeflow: 1
inputs: {token: {secret: true}}
defaults: {model: GPT-5.2}
steps:
  ask: {prompt: "Use {{ inputs.token }}"}
  echo: {prompt: "{{ steps.ask.text }} {{ read('missing-' ~ inputs.token) }}", if: "false"}
"""


@pytest.fixture
def desk(tmp_path):
    """Return a function that runs poeflow in a project, offline, without anybody's settings."""
    (tmp_path / "a.yaml").write_text(FLOW)
    (tmp_path / "keys.txt").write_text(f"POEFLOW_SECRET_TOKEN={SECRET}\n")

    def run(*arguments, **environ):
        done = subprocess.run(
            [sys.executable, "-m", "poeflow.cli.start", *arguments],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                "HOME": str(tmp_path / "home"),
                **environ,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_file_gives_it_to_run_plan_and_status(desk):
    for command in ("run", "plan", "status"):
        code, shown = desk(command, "a.yaml", "--offline", "--env-file", "keys.txt")
        assert code == 0, shown
        assert SECRET not in shown
    assert "fresh" in shown


@pytest.mark.parametrize(
    "command",
    [
        ("run", "a.yaml", "--offline"),
        ("run", "a.yaml", "--offline", "--output", "json"),
        ("run", "a.yaml", "--offline", "--output", "jsonl"),
        ("plan", "a.yaml", "--offline", "--render", "ask"),
    ],
)
def test_no_output_shows_it(desk, command):
    code, shown = desk(*command, POEFLOW_SECRET_TOKEN=SECRET)
    assert code == 0, shown
    assert SECRET not in shown


def test_looking_back_without_the_secret_shows_none(desk, tmp_path):
    assert desk("run", "a.yaml", "--offline", POEFLOW_SECRET_TOKEN=SECRET)[0] == 0
    for command in (("show", "last/ask"), ("history",), ("report", "last", "--html", "r.html")):
        code, shown = desk(*command)
        assert (code, SECRET in shown) == (0, False), (command, shown)
    page = (tmp_path / "r.html").read_text()
    assert "[secret token:" in page
    assert SECRET not in page


def test_a_value_on_the_command_line_is_refused_without_showing_it(desk):
    code, shown = desk("run", "a.yaml", "--offline", "--input", f"token={SECRET}")
    assert code == 2
    assert "set POEFLOW_SECRET_TOKEN" in shown
    assert SECRET not in shown


def test_a_program_that_poeflow_starts_does_not_see_it(desk, tmp_path):
    (tmp_path / "b.yaml").write_text(
        "poeflow: 1\ninputs: {token: {secret: true}}\nsteps:\n"
        '  a: {command: [env], stdin: "{{ inputs.token }}", env: [HOME]}\n'
        '  b: {command: [cat], stdin: "{{ inputs.token }}"}\n'
        'outputs: {a: "{{ steps.a.text }}", b: "{{ steps.b.text }}"}\n'
    )
    command = ("run", "b.yaml", "--offline", "--allow-tools", "--output", "json")
    code, shown = desk(*command, POEFLOW_SECRET_TOKEN=SECRET)
    assert code == 0, shown
    assert SECRET not in shown
    assert "[secret token:" in json.dumps(shown)
