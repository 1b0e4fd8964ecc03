"""Runs commands in a folder where something else stands in a file's place, with little memory.

Started by `test_cli_traps.py` with a folder, and a JSON list of [place, kinds, commands] on stdin;
prints a JSON line for each command.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import socket
import sys
from pathlib import Path

from poeflow.cli.exit_codes import command_end
from poeflow.cli.main import poeflow

MEMORY = 1024**3
HUGE = 3 * 1024**3


def trap(kind: str, path: Path, outside: Path) -> None:
    """Put something that is not the file meant in its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    match kind:
        case "zero":
            path.symlink_to("/dev/zero")
        case "environ":
            path.symlink_to("/proc/self/environ")
        case "outside":
            path.symlink_to(outside)
        case "loop":
            path.symlink_to(path.name)
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "huge":
            with path.open("wb") as file:
                file.truncate(HUGE)
        case "socket":
            here = Path.cwd()
            os.chdir(path.parent)  # the name of a socket is short
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(path.name)
            os.chdir(here)
        case _:
            path.write_bytes(DAMAGE[kind])


DAMAGE = {
    "latin": b'{"poeflow_lock": 1, "inputs": "\xff", "instances": {}}\n',
    "nul": b"\0" * 100,
    "surrogate": b'{"poeflow_lock": 1, "inputs": "\\ud800", "instances": {"\\udfff": {}}}\n',
    "number": b'{"poeflow_lock": ' + b"9" * 10_000 + b"}\n",
    "deep": b'{"poeflow_lock": 1, "inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
    "deeper": b"[" * 100_000,
    "utf16": "poeflow: 1\nsteps: {}\n".encode("utf-16"),
    "empty": b"",
}


def outcome(arguments: list[str]) -> tuple[int, str]:
    """Run a command as the shell would; return its exit code and all it said."""
    sys.argv = ["poeflow", *arguments]
    said = io.StringIO()
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        command_end() as end,
    ):
        end.result = poeflow.main(prog_name="poeflow", standalone_mode=False, obj=end.keys)
    return end.exit_code, said.getvalue()


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    folder = Path(sys.argv[1])
    place, kinds, commands = json.load(sys.stdin)
    os.chdir(folder)
    for kind in kinds:
        trap(kind, folder / place, folder.parent / "outside.txt")
        for command in commands:
            code, said = outcome(command)
            sys.stdout.write(json.dumps([kind, command, code, said]) + "\n")


if __name__ == "__main__":
    main()
