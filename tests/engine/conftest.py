"""A project with one flow, run in process against a simulator on a real socket."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from poeflow.clock import SystemClock
from poeflow.engine.results import Outcome
from poeflow.events import Event
from poeflow.operations.accept import Taken, accept
from poeflow.operations.check import checkup
from poeflow.operations.proof import proof_of
from poeflow.operations.run import run_checked
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import statuses_of
from poeflow.project.project import Project
from poeflow.records import InstanceStatus
from poeflow.simulator.server import Simulator


class FastClock(SystemClock):
    """A clock of whose minutes each takes 0.6 seconds."""

    def monotonic(self) -> float:
        return super().monotonic() * 100

    async def asleep(self, seconds: float) -> None:
        await super().asleep(seconds / 100)


@dataclass
class Bench:
    folder: Path
    simulator: Simulator
    events: list[Event] = field(default_factory=list)

    def write(self, name: str, text: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)

    def run(self, flow: str, **options) -> Outcome:
        """Write `flow` as a.yaml and run it; events of the run are kept."""
        self.write("a.yaml", flow)
        self.events.clear()
        environ = {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": self.simulator.base_url}
        given = {"environ": environ, "folder": self.folder, "listen": self.events.append}
        found = checkup(Project(self.folder), "//a.yaml", "a.yaml")
        return asyncio.run(run_checked(found, RunOptions(**(given | options))))

    def states(self, flow: str, **options) -> dict[str, tuple[str, tuple[str, ...]]]:
        """Write `flow` as a.yaml and return how its instances stand, with the reasons."""
        return {f.id: (f.state, f.reasons) for f in self.statuses(flow, **options)}

    def statuses(self, flow: str, **options) -> tuple[InstanceStatus, ...]:
        """Write `flow` as a.yaml and return all that is known of its instances."""
        self.write("a.yaml", flow)
        given = {"environ": {"POE_BASE_URL": self.simulator.base_url}, "folder": self.folder}
        found = checkup(Project(self.folder), "//a.yaml", "a.yaml")
        return statuses_of(found, RunOptions(**(given | options)))

    def locked(self, **options) -> list[str]:
        """Return why a.yaml is not proven current."""
        given = {"environ": {"POE_BASE_URL": self.simulator.base_url}, "folder": self.folder}
        found = checkup(Project(self.folder), "//a.yaml", "a.yaml")
        return proof_of(found, RunOptions(**(given | options))).reasons

    def accept(self, flow: str, *paths: str, drop: bool = False) -> Taken:
        """Write `flow` as a.yaml and take its files as they are, all or those at `paths`."""
        self.write("a.yaml", flow)
        given = {"environ": {"POE_BASE_URL": self.simulator.base_url}, "folder": self.folder}
        found = checkup(Project(self.folder), "//a.yaml", "a.yaml")
        places = [self.folder / path for path in paths]
        return asyncio.run(accept(found, RunOptions(**given), places, drop=drop))

    def forget_answers(self) -> None:
        """Leave what a clean clone has: no cache and no ledger."""
        shutil.rmtree(self.folder / ".poeflow")

    def prompts(self) -> list[str]:
        """Return the last message of every request that came in."""
        return [request.json["messages"][-1]["content"] for request in self.simulator.requests]

    def kinds(self) -> list[tuple[str, str | None]]:
        """Return what happened to which step, without the text that arrived."""
        told = [
            (type(event).__name__, getattr(event, "step", None))
            for event in self.events
            if type(event).__name__ != "TextArrived"
        ]
        return told[1:-1]


@pytest.fixture
def bench(tmp_path):
    with Simulator() as simulator:
        yield Bench(tmp_path, simulator)


@pytest.fixture
def fast_clock():
    return FastClock()


@pytest.fixture
def scripted(bench, tmp_path):
    """Return a function that has the simulator follow rules from then on."""
    with contextlib.ExitStack() as stack:

        def follow(rules: str, **options) -> None:
            script = tmp_path / "rules.yaml"
            script.write_text("simulator: 1\nrules:\n" + textwrap.dedent(rules))
            bench.simulator = stack.enter_context(Simulator(script=script, **options))

        yield follow


@pytest.fixture
def git(bench):
    """Return a function that runs git in the project, a repository without anybody's settings."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(bench.folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@example.com",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.com",
    }

    def run(*arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=bench.folder, env=environ, check=True)

    run("init", "-q", "-b", "main")
    return run
