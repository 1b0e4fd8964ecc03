"""A project in a folder of its own: its files, the command line in it, and flows to run there."""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from measuring import Usage, megabytes_in, usage_of

HEAD = "poeflow: 1\nlimits: {concurrency: %d}\ndefaults: {model: GPT-5.2}\nsteps:\n"
LOOP = """
  say:
    for_each: {file: rows.csv, key: item.id}
    prompt: "say {{ item.word }}"
"""
FLOW = "a.yaml"


class Project:
    """Runs `poeflow` with an environment that has nothing of this process's settings."""

    def __init__(self, folder: Path, poeflow: Path, address: str) -> None:
        self.folder, self._poeflow, self._address = folder, poeflow, address
        self.write("poeflow.toml", "")
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "POE_API_KEY": "some-key-12345",
            "POE_BASE_URL": f"{address}/v1",
        }

    def copied_to(self, folder: Path) -> "Project":
        shutil.copytree(self.folder, folder)
        return Project(folder, self._poeflow, self._address)

    def write(self, name: str, lines: str | Iterable[str]) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            file.writelines([lines] if isinstance(lines, str) else lines)
        return path

    def configure(self, line: str) -> None:
        """Make a line the user's own configuration, which is not of the project."""
        path = self.folder.with_suffix(".toml")
        path.write_text(line, encoding="utf-8")
        self.environ["POEFLOW_CONFIG"] = str(path)

    def usage(self, *arguments: str, codes: Iterable[int] = (0,)) -> Usage:
        command = [self._poeflow, *arguments]
        return usage_of(command, cwd=self.folder, environ=self.environ, codes=codes)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._poeflow, *arguments],
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def state(self) -> float:
        """Return the megabytes that poeflow left for itself."""
        return megabytes_in(self.folder / ".poeflow")

    def write_rows(self, count: int, width: int, more: str = "") -> None:
        """Write a flow with a loop over a table, so many at a time."""
        self.write(FLOW, HEAD % width + LOOP + more)
        self.write("rows.csv", _table(count))

    def write_steps(self, count: int, width: int, *, files: bool) -> None:
        """Write a flow of steps that need nothing of each other; they may save a file each."""
        output = ", output: {save: out/%d.md}" if files else ""
        steps = (
            f'  s{n}: {{prompt: "step {n}"{output % n if files else ""}}}\n' for n in range(count)
        )
        self.write(FLOW, [HEAD % width, *steps])


def _table(count: int) -> Iterable[str]:
    yield "id,word\n"
    for number in range(count):
        yield f"{number},word {number}\n"
