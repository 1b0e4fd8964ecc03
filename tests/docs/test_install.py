"""The packages: a wheel built from the sdist, installed and used outside the checkout.

Nothing is fetched: what poeflow depends on is borrowed from the environment the tests run in.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SITE = sysconfig.get_paths()["purelib"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The installed `poeflow` of an environment that holds nothing else of ours."""
    folder = tmp_path_factory.mktemp("install")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "env")], check=True)
    python = folder / "env/bin/python"
    install = [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    return folder / "env/bin/poeflow"


def run(program: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": SITE}
    return subprocess.run(
        [program, *arguments], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )


def test_the_installed_program_makes_checks_and_runs_a_flow(program, tmp_path):
    assert run(program, tmp_path, "--version").stdout == "poeflow 0.1.0\n"
    assert run(program, tmp_path, "init", "a.yaml").returncode == 0
    assert run(program, tmp_path, "check", "a.yaml").stderr == "1 flow ok\n"
    done = run(program, tmp_path, "run", "a.yaml", "--offline")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / ".poeflow/offline/out/a.md").read_text()


def test_the_wheel_brings_its_schemas_and_types(program):
    package = next(program.parents[1].glob("lib/python3*/site-packages/poeflow"))
    assert sorted(path.name for path in (package / "schemas").iterdir()) == [
        "catalogue.json",
        "flow.schema.json",
        "lock.schema.json",
        "project.schema.json",
        "simulator-script.schema.json",
    ]
    assert (package / "py.typed").exists()
