"""Tab completion in real shells on a pseudo-terminal: flows, steps, inputs, runs, bots."""

import os
import re
import shutil
import sys

import pexpect
import pytest

FLOW = """\
poeflow: 1
inputs: {topic: {default: otters, description: What about.}, tone: {default: dry}}
defaults: {model: GPT-5.2}
steps:
  draft: {render: "on {{ inputs.topic }}"}
  each: {for_each: ["m:free", "b"], render: "{{ item }}"}
"""
MODELS = '{"data": [{"id": "Claude-Sonnet-4.5"}, {"id": "GPT-5.2"}]}'
STARTS = {
    "bash": (["--norc", "--noprofile", "-i"], 'eval "$(poeflow completion bash)"'),
    "zsh": (["-f", "-i"], 'eval "$(poeflow completion zsh)"'),
    "fish": (["--no-config", "-i"], "poeflow completion fish | source"),
}


class Shell:
    """A shell with our completion. `completed` gives the line that a Tab makes of what is typed."""

    def __init__(self, desk, name: str) -> None:
        bin_ = desk.folder / "bin"
        bin_.mkdir(exist_ok=True)
        script = f'#!/bin/sh\nexec {sys.executable} -m poeflow.cli.main "$@"\n'
        (bin_ / "poeflow").write_text(script)
        (bin_ / "poeflow").chmod(0o755)
        (bin_ / "shown").write_text('#!/bin/sh\nprintf "<%s>" "$*" | tr " " "_"; echo\n')
        (bin_ / "shown").chmod(0o755)
        env = {**desk.env(), "PATH": f"{bin_}:{os.environ['PATH']}", "TERM": "dumb"}
        options, start = STARTS[name]
        self.child = pexpect.spawn(
            name, options, cwd=desk.folder, env=env, encoding="utf-8", timeout=20,
            dimensions=(24, 200),
        )  # fmt: skip
        self.child.sendline(start)
        self.child.sendline("echo rea''dy")
        self.child.expect("ready\r?\n")

    def completed(self, typed: str) -> str:
        """Return the arguments that are there after a Tab, joined by underscores."""
        self.child.send(f"{typed}\t")
        self.child.send("\x01shown \x05\r")  # to the beginning of the line, and to its end
        self.child.expect(r"<([^<>]*)>\r?\n")
        return self.child.match[1].replace("poeflow_", "", 1)


@pytest.fixture
def project(desk):
    desk.write("flows/example.yaml", FLOW)
    desk.write("flows/other.txt", "no flow")
    assert desk.run("run", "flows/example.yaml").returncode == 0
    desk.write(".poeflow/models.json", MODELS)
    return desk


@pytest.fixture(params=[name for name in STARTS if shutil.which(name)])
def shell(request, project):
    """Each shell that is here; `.ci/run` installs all of them."""
    started = Shell(project, request.param)
    yield started
    started.child.close(force=True)


def test_what_is_typed_is_completed(shell):
    for typed, completed in (
        ("poeflow his", "history"),
        ("poeflow run flo", "run_flows/"),
        ("poeflow run flows/ex", "run_flows/example.yaml"),
        ("poeflow watch flows/ex", "watch_flows/example.yaml"),
        ("poeflow run flows/example.yaml:dr", "run_flows/example.yaml:draft"),
        ("poeflow run flows/example.yaml:each@m", "run_flows/example.yaml:each@m:free"),
        ("poeflow run flows/example.yaml --input top", "run_flows/example.yaml_--input_topic="),
        ("poeflow run flows/example.yaml --offl", "run_flows/example.yaml_--offline"),
        ("poeflow show 1/dr", "show_1/draft"),
        ("poeflow models Cla", "models_Claude-Sonnet-4.5"),
        ("poeflow plan flows/example.yaml --render dr", "plan_flows/example.yaml_--render_draft"),
    ):
        assert shell.completed(typed).rstrip("_") == completed
    assert not re.search("Traceback|command not found", shell.child.before)
