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


def test_objects_are_not_freed_one_by_one_at_the_end(tmp_path):
    (tmp_path / "called.py").write_text(
        "class Freed:\n"
        "    def __del__(self): print('freed')\n"
        "kept = Freed()\n"
        "def count(): return 1\n"
    )
    (tmp_path / "a.yaml").write_text("poeflow: 1\nsteps: {a: {call: 'called:count', reads: []}}\n")
    done = module(tmp_path, "run", "a.yaml", "--allow-tools", "--offline")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
