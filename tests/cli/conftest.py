"""A project folder, and `poeflow` as its users start it: a real process in it."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from poeflow.simulator.server import Simulator
from tests.cli.clones import SCRIPT, Origin

KEY = "canary-key-0123456789"


@dataclass
class Desk:
    """A folder with flows. `run` starts the program there and gives what it left."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "poeflow.cli.start", *arguments]

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.env(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def env(self) -> dict[str, str]:
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("POE", "HTTP", "NO_"))}
        return {**keep, "HOME": str(self.folder / "home"), "CI": "1", **self.environ}

    def files(self) -> list[str]:
        found = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*"))
        return sorted(name for name in found if (self.folder / name).is_file())


@pytest.fixture
def desk(tmp_path):
    (tmp_path / "poeflow.toml").touch()
    (tmp_path / "home").mkdir()
    return Desk(tmp_path)


@pytest.fixture
def simulator():
    with Simulator(key_required=True) as running:
        yield running


@pytest.fixture
def online(desk, simulator):
    """The desk, with a key and a base URL that leads to the simulator."""
    desk.environ |= {"POE_API_KEY": KEY, "POE_BASE_URL": simulator.base_url}
    return desk


@pytest.fixture
def origin(desk, tmp_path_factory):
    """Make a repository whose flow was run with a model that answers otherwise each time."""
    script = desk.write("home/answers.yaml", SCRIPT)
    with Simulator(script=script) as running:
        desk.environ |= {"POE_API_KEY": KEY, "POE_BASE_URL": running.base_url}
        folder = tmp_path_factory.mktemp("clones")
        yield lambda flow: Origin(desk, running, folder, flow)
