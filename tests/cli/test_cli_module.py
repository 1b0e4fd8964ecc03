"""`python -m poeflow` does what the script does, and runs nothing of the working folder."""

import subprocess
import sys

import pytest


def module(folder, *arguments):
    command = [sys.executable, "-m", "poeflow", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


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
