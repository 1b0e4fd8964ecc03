"""`python -m poeflow` does what the script does, and runs nothing of the working folder."""

import os
import subprocess
import sys

import pytest


def module(folder, *arguments):
    command = [sys.executable, "-m", "poeflow", *arguments]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


def test_it_is_the_script(tmp_path):
    (tmp_path / "a.yaml").write_text("poeflow: 1\nsteps: {a: {render: hi}}\n")
    assert module(tmp_path, "--version").stdout.startswith("poeflow ")
    done = module(tmp_path, "check", "a.yaml")
    assert (done.returncode, done.stdout + done.stderr) == (0, "1 flow ok\n")
    assert module(tmp_path, "check", "b.yaml").returncode == 2


@pytest.mark.parametrize("name", ["click", "json", "yaml", "signal"])
def test_no_module_of_the_working_folder_is_imported(tmp_path, name):
    (tmp_path / f"{name}.py").write_text("raise SystemExit('taken over')\n")
    (tmp_path / "a.yaml").write_text("poeflow: 1\nsteps: {a: {render: hi}}\n")
    assert module(tmp_path, "check", "a.yaml").returncode == 0


CALLED = """\
import atexit, threading, time

def write_later():
    time.sleep(0.3)
    print("from a thread", file=open("thread.txt", "w"))

def count():
    threading.Thread(target=write_later, daemon=False).start()
    atexit.register(lambda: print("at the end", file=open("end.txt", "w")))
    atexit.register(lambda: print("said at the end"))
    return 1
"""


def test_what_a_function_of_the_project_left_for_the_end_happens(tmp_path):
    (tmp_path / "called.py").write_text(CALLED)
    (tmp_path / "a.yaml").write_text("poeflow: 1\nsteps: {a: {call: 'called:count', reads: []}}\n")
    done = module(tmp_path, "run", "a.yaml", "--allow-tools", "--offline")
    assert (done.returncode, done.stdout) == (0, "1\nsaid at the end\n"), done.stderr
    assert (tmp_path / "thread.txt").read_text() == "from a thread\n"
    assert (tmp_path / "end.txt").read_text() == "at the end\n"


def test_what_a_function_of_the_project_wrote_is_in_its_file(tmp_path):
    (tmp_path / "called.py").write_text(
        "log = open('log.txt', 'w')\ndef count():\n    log.write('counted')\n    return 1\n"
    )
    (tmp_path / "a.yaml").write_text("poeflow: 1\nsteps: {a: {call: 'called:count', reads: []}}\n")
    done = module(tmp_path, "run", "a.yaml", "--allow-tools", "--offline")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert (tmp_path / "log.txt").read_text() == "counted"


def test_a_function_that_ends_the_program_fails_its_step(tmp_path):
    (tmp_path / "called.py").write_text("import sys\ndef stop(): sys.exit('no such text')\n")
    (tmp_path / "a.yaml").write_text("poeflow: 1\nsteps: {a: {call: 'called:stop', reads: []}}\n")
    done = module(tmp_path, "run", "a.yaml", "--allow-tools", "--offline")
    assert done.returncode == 1
    assert "called:stop failed: SystemExit: no such text" in done.stderr


EMBEDDING = """\
import sys
log = open("log.txt", "w")
log.write("logged")
from poeflow.cli.start import {name} as run
sys.argv[1:] = ["check", "a.yaml"]
try:
    run()
except SystemExit as end:
    print(end.code)
sys.exit(5)
"""


@pytest.mark.parametrize(("name", "code", "logged"), [("main", 5, "logged"), ("script", 0, "")])
def test_only_the_script_ends_at_once(tmp_path, name, code, logged):
    """Another program may run the command line, go on, and end with a code of its own."""
    (tmp_path / "a.yaml").write_text("poeflow: 1\nsteps: {a: {render: hi}}\n")
    command = [sys.executable, "-c", EMBEDDING.format(name=name)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "0\n"), done.stderr
    assert (tmp_path / "log.txt").read_text() == logged
