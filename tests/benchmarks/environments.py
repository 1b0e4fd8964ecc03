"""The programs that are measured: poeflow as users install it, and its peers, each in a venv."""

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PEERS = ("aiohttp", "httpx", "check-jsonschema")


class Programs(NamedTuple):
    """The command `poeflow`, and two interpreters: its own, and one that has the peers."""

    poeflow: Path
    python: Path
    peers: Path | None


def programs(folder: Path, poeflow: Path | None, *, peers: bool) -> Programs:
    """Install what is not given into environments in `folder`; peers that are there stay."""
    command = (poeflow or installed(folder)).absolute()
    return Programs(command, command.with_name("python"), with_peers(folder) if peers else None)


def installed(folder: Path) -> Path:
    """Build the wheel of this checkout and install it, with its modules compiled."""
    wheels, python = folder / "wheels", venv(folder / "poeflow")
    do([sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "-w", wheels, ROOT])
    wheel = max(wheels.glob("poeflow-*.whl"), key=lambda path: path.stat().st_mtime)
    do([python, "-m", "pip", "install", "-qq", "--force-reinstall", wheel])
    do([python, "-m", "compileall", "-q", *python.parents[1].glob("lib/*/site-packages")])
    return python.with_name("poeflow")


def with_peers(folder: Path) -> Path:
    python = venv(folder / "peers")
    if not python.with_name("check-jsonschema").exists():
        do([python, "-m", "pip", "install", "-qq", *PEERS])
        do([python, "-m", "compileall", "-q", *python.parents[1].glob("lib/*/site-packages")])
    return python


def venv(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not python.exists():
        do([sys.executable, "-m", "venv", folder])
    return python


def do(command: list[str | Path]) -> None:
    subprocess.run(command, check=True, stdout=sys.stderr)
