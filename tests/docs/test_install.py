"""The packages: a wheel built from the sdist, installed and used outside the checkout.

Nothing is fetched: what poeflow depends on is borrowed from the environment the tests run in.
"""

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from functools import partial
from pathlib import Path

import pytest

from poeflow import __version__

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
    assert run(program, tmp_path, "--version").stdout == f"poeflow {__version__}\n"
    assert run(program, tmp_path, "init", "a.yaml").returncode == 0
    assert run(program, tmp_path, "check", "a.yaml").stderr == "1 flow ok\n"
    done = run(program, tmp_path, "run", "a.yaml", "--offline")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / ".poeflow/offline/out/a.md").read_text()


def test_the_wheel_brings_its_schemas_and_types(program):
    package = next(program.parents[1].glob("lib/python3*/site-packages/poeflow"))
    assert sorted(path.name for path in (package / "schemas").iterdir()) == [
        "cassette.schema.json",
        "catalogue.json",
        "diff.schema.json",
        "events.schema.json",
        "flow.schema.json",
        "lock.schema.json",
        "project.schema.json",
        "simulator-script.schema.json",
    ]
    assert sorted(path.name for path in (package / "action").glob("*.*")) == [
        "action.py",
        "action.yml",
        "workflow.yml",
    ]
    assert (package / "py.typed").exists()


def test_the_manual_pages_come_with_it(program):
    pages = program.parents[1] / "share/man/man1"
    assert sorted(path.name for path in pages.iterdir()) == sorted(
        path.name for path in (ROOT / "man").iterdir()
    )


def test_two_builds_are_the_same_bytes(tmp_path):
    """Neither the time, nor the folder, nor the rights of files are in a package."""
    made = []
    copy_tree(tmp_path / "checkout")  # once: the checkout may change meanwhile
    for number, mask in enumerate((0o022, 0o077)):
        source = tmp_path / f"copy-{number}" / "poeflow"
        shutil.copytree(tmp_path / "checkout", source)
        for path in source.rglob("*"):
            path.chmod(
                0o777 & ~mask if path.is_dir() or os.access(path, os.X_OK) else 0o666 & ~mask
            )
            os.utime(path, (1_000_000_000 + number, 1_000_000_000 + number))
        build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
        subprocess.run(
            build, cwd=source, check=True, capture_output=True, preexec_fn=partial(os.umask, mask)
        )
        made.append(
            {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in (source / "dist").iterdir()
            }
        )
    first, second = made
    assert sorted(first) == [
        f"poeflow-{__version__}-py3-none-any.whl",
        f"poeflow-{__version__}.tar.gz",
    ]
    assert first == second


def copy_tree(target: Path) -> None:
    """Copy what git has of the checkout, or would have: nothing that tests left there."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout.decode()
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, target / name)
            shutil.copymode(ROOT / name, target / name)


def test_the_version_is_that_of_the_changelog():
    headings = [
        line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line[:3] == "## "
    ]
    assert headings[0].split()[1].rstrip(",") == __version__


def test_uvx_and_pipx_run_it(program, tmp_path):
    """Both find the program by the name of the package; what it depends on is stood in for."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (built,) = (program.parents[2] / "dist").glob("*.whl")
    shutil.copy(built, wheels)
    for requirement in importlib.metadata.requires("poeflow") or []:
        if "extra ==" not in requirement:
            name = re.split(r"[^A-Za-z0-9._-]", requirement)[0]
            stand_in(wheels, name, importlib.metadata.version(name))
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "UV_CACHE_DIR": str(tmp_path / "cache"),
        "PIPX_HOME": str(tmp_path / "pipx"),
        "PIPX_BIN_DIR": str(tmp_path / "bin"),
        "PIPX_MAN_DIR": str(tmp_path / "man"),
    }

    def done(*command: str, **also: str) -> str:
        found = subprocess.run(
            command,
            cwd=tmp_path,
            env={**environ, **also},
            check=False,
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stdout + found.stderr
        return found.stdout

    python = Path(sys.executable).parent
    offline = ["--no-index", "--offline", "--find-links", str(wheels), "--python", sys.executable]
    assert done(f"{python}/uvx", *offline, "poeflow", "--version") == f"poeflow {__version__}\n"
    pip = f"--pip-args=--no-index --offline --find-links {wheels}"
    done(f"{python}/pipx", "install", "--backend", "uv", pip, "poeflow")
    assert (
        done(f"{tmp_path}/bin/poeflow", "--version", PYTHONPATH=SITE) == f"poeflow {__version__}\n"
    )
    assert (tmp_path / "man/man1/poeflow-run.1").exists()


def stand_in(folder: Path, name: str, version: str) -> None:
    """Write a wheel of that name and version which has nothing in it."""
    plain = re.sub(r"[-_.]+", "_", name)
    info = f"{plain}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{plain}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        tags = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tags)
        names = ("METADATA", "WHEEL", "RECORD")
        wheel.writestr(f"{info}/RECORD", "".join(f"{info}/{one},,\n" for one in names))


def docker() -> str:
    """Return why no image can be built here, an empty text if one can."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    done = subprocess.run(["docker", "info"], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else "no docker daemon is running"


@pytest.mark.timeout(900)
@pytest.mark.skipif(docker() != "", reason=docker())
def test_the_image_is_built_and_runs_a_flow(tmp_path):
    name = f"poeflow-test-{os.getpid()}"
    subprocess.run(["docker", "build", "-q", "-t", name, str(ROOT)], check=True)
    try:
        (tmp_path / "poeflow.toml").touch()
        shared = ["-v", f"{tmp_path}:/project", "--user", f"{os.getuid()}:{os.getgid()}"]
        started = ["docker", "run", "--rm", "--network", "none", *shared, name]
        for command in (["init", "a.yaml"], ["run", "a.yaml", "--offline"]):
            subprocess.run([*started, *command], check=True)
        assert (tmp_path / ".poeflow/offline/out/a.md").exists()
    finally:
        subprocess.run(["docker", "image", "rm", "-f", name], check=True, capture_output=True)


def test_all_that_the_image_is_made_of_is_there():
    """Without docker at hand at least the names hold."""
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    kept = (ROOT / ".dockerignore").read_text().splitlines()
    assert names == {line[1:] for line in kept if line.startswith("!")}
    assert all((ROOT / name).exists() for name in names)
