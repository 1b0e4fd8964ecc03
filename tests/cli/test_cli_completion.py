"""Tab completion in real shells on a pseudo-terminal: flows, steps, inputs, runs, bots.

And setting a shell up for it, and undoing that.
"""

import os
import re
import shutil
import sys

import pexpect
import pytest

FLOW = """\
poeflow: 1
inputs:
  topic: {default: otters, description: What about.}
  tone: {default: dry, enum: [dry, "very warm"]}
  long: {type: boolean, default: false}
models: {writer: {model: GPT-5.2}}
defaults: {model: GPT-5.2}
steps:
  draft: {render: "on {{ inputs.topic }}"}
  each: {for_each: ["m:free", "b"], render: "{{ item }}"}
"""
MODELS = '{"data": [{"id": "Claude-Sonnet-4.5"}, {"id": "GPT-5.2"}]}'
STARTED = {
    "bash": ["--noprofile", "-i"],
    "zsh": ["-d", "-i"],
    "fish": ["-i"],
}
"""How a shell is started so that it reads the user's file, and none of the machine's."""
STARTS = {
    "bash": (["--norc", "--noprofile", "-i"], 'eval "$(poeflow completion bash)"'),
    "zsh": (["-f", "-i"], 'eval "$(poeflow completion zsh)"'),
    "fish": (["--no-config", "-i"], "poeflow completion fish | source"),
}


class Shell:
    """A shell with our completion. `completed` gives the line that a Tab makes of what is typed."""

    def __init__(self, desk, name: str, *, is_set_up: bool = False) -> None:
        bin_ = desk.folder / "bin"
        bin_.mkdir(exist_ok=True)
        script = f'#!/bin/sh\nexec {sys.executable} -m poeflow.cli.start "$@"\n'
        (bin_ / "poeflow").write_text(script)
        (bin_ / "poeflow").chmod(0o755)
        (bin_ / "shown").write_text('#!/bin/sh\nprintf "<%s>" "$*" | tr " " "_"; echo\n')
        (bin_ / "shown").chmod(0o755)
        env = {**desk.env(), "PATH": f"{bin_}:{os.environ['PATH']}", "TERM": "dumb"}
        options, start = (STARTED[name], "") if is_set_up else STARTS[name]
        self.child = pexpect.spawn(
            name, options, cwd=desk.folder, env=env, encoding="utf-8", timeout=20,
            dimensions=(24, 200),
        )  # fmt: skip
        if start:
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
        (
            "poeflow run flows/example.yaml --input tone=d",
            "run_flows/example.yaml_--input_tone=dry",
        ),
        (
            "poeflow run flows/example.yaml --input tone=v",
            "run_flows/example.yaml_--input_tone=very_warm",
        ),
        (
            "poeflow run flows/example.yaml --input long=t",
            "run_flows/example.yaml_--input_long=true",
        ),
        ("poeflow run flows/example.yaml --model wri", "run_flows/example.yaml_--model_writer="),
        ("poeflow run flows/example.yaml --offl", "run_flows/example.yaml_--offline"),
        ("poeflow run flows/example.yaml --output g", "run_flows/example.yaml_--output_github"),
        ("poeflow plan flows/example.yaml --output j", "plan_flows/example.yaml_--output_json"),
        ("poeflow diff 1/each@m", "diff_1/each@m:free"),
        ("poeflow completion --inst", "completion_--install"),
        ("poeflow show 1/dr", "show_1/draft"),
        ("poeflow models Cla", "models_Claude-Sonnet-4.5"),
        ("poeflow plan flows/example.yaml --render dr", "plan_flows/example.yaml_--render_draft"),
    ):
        assert shell.completed(typed).rstrip("_") == completed
    assert not re.search("Traceback|command not found", shell.child.before)


def test_bots_without_a_stored_list_are_those_poeflow_comes_with(desk):
    desk.environ |= {
        "_POEFLOW_COMPLETE": "fish_complete",
        "POEFLOW_COMPLETE_LINE": "poeflow models Claude-Son",
    }
    names = desk.run().stdout.split()
    assert names
    assert all(name.startswith("Claude-Son") for name in names)
    desk.environ["POE_BASE_URL"] = "http://127.0.0.1:1/v1"
    assert desk.run().stdout.split() == []


def test_names_with_control_characters_are_left_out(project):
    for name in ("plain", "red\x1b[31m", "two\nlines", "left\u202e"):
        project.write(f"flows/odd/{name}.yaml", FLOW)
    project.environ |= {
        "_POEFLOW_COMPLETE": "bash_complete",
        "POEFLOW_COMPLETE_LINE": "poeflow run flows/odd/",
    }
    assert project.run().stdout == "flows/odd/plain.yaml \n"


FILES = {"bash": ".bashrc", "zsh": ".zshrc", "fish": ".config/fish/completions/poeflow.fish"}


@pytest.mark.parametrize("name", [name for name in STARTS if shutil.which(name)])
def test_an_installed_completion_works_in_a_new_shell(project, name):
    path = project.folder / "home" / FILES[name]
    done = project.run("completion", "--install", name)
    assert (done.returncode, done.stderr) == (0, "it works in every new shell\n")
    assert f" {path}:\n  " in done.stdout
    started = Shell(project, name, is_set_up=True)
    try:
        assert started.completed("poeflow run flows/ex").rstrip("_") == "run_flows/example.yaml"
    finally:
        started.child.close(force=True)
    done = project.run("completion", "--install", name)
    assert done.stdout == f"{path} has it already; nothing was changed\n"
    done = project.run("completion", "--uninstall", name)
    assert done.stdout == f"removed {path}, in which nothing else was\n"
    assert not path.exists()
    done = project.run("completion", "--uninstall", name)
    assert done.stdout == f"{path} has nothing of poeflow; nothing was changed\n"


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_only_the_block_of_a_users_file_is_changed(desk, name):
    path = desk.folder / "home" / FILES[name]
    before = b"alias ll='ls -l'\nPS1='\xff> '\n"
    path.write_bytes(before)
    path.chmod(0o600)
    desk.environ["SHELL"] = f"/usr/bin/{name}"
    assert desk.run("completion", "--install").returncode == 0
    after = path.read_bytes()
    assert after.startswith(before + b"# >>> poeflow completion >>>\n")
    path.write_bytes(after.replace(b"eval", b"eval old") + b"echo later\n")
    assert desk.run("completion", "--install").returncode == 0
    assert path.read_bytes() == after + b"echo later\n"
    done = desk.run("completion", "--uninstall")
    assert done.stdout == f"removed the block from {path}\n"
    assert path.read_bytes() == before + b"echo later\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_users_file_that_is_a_link_stays_one(desk):
    target = desk.write("dotfiles/bashrc", "echo hi")
    path = desk.folder / "home/.bashrc"
    path.symlink_to(target)
    assert desk.run("completion", "--install", "bash").returncode == 0
    assert path.is_symlink()
    assert target.read_text().startswith("echo hi\n# >>> poeflow")
    assert desk.run("completion", "--uninstall", "bash").returncode == 0
    assert (path.is_symlink(), target.read_text()) == (True, "echo hi\n")


@pytest.mark.parametrize("option", ["--install", "--uninstall"])
def test_what_is_not_poeflows_is_left_alone(desk, option):
    half = "# >>> poeflow completion >>>\necho mine\n"
    path = desk.write("home/.bashrc", half)
    done = desk.run("completion", option, "bash")
    assert (done.returncode, "has no other mark to it" in done.stderr) == (2, True)
    assert path.read_text() == half
    path = desk.write(f"home/{FILES['fish']}", "echo mine\n")
    done = desk.run("completion", option, "fish")
    assert (done.returncode, "was not written by poeflow" in done.stderr) == (2, True)
    assert path.read_text() == "echo mine\n"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"SHELL": "/bin/tcsh"}, "error: SHELL is tcsh, which has no completion\n"),
        ({"SHELL": ""}, "error: SHELL is not set\n"),
        ({"SHELL": "/bin/bash", "HOME": ""}, "error: HOME is not set\n"),
    ],
)
def test_a_shell_that_is_not_known(desk, environ, message):
    desk.environ |= environ
    done = desk.run("completion", "--install")
    assert (done.returncode, done.stderr.startswith(message)) == (2, True), done.stderr


def test_without_a_shell_none_is_printed(desk):
    done = desk.run("completion")
    assert (done.returncode, done.stderr.splitlines()[0]) == (
        2,
        "error: name a shell: bash, zsh, fish",
    )
