"""Runs that are killed again and again at random moments: nothing answered is asked again.

`python tests/benchmarks/runs.py` prints what was found; `--rows`, `--width` and `--kills` choose.
After each kill the answers on disk are read from a copy of the project, so that the next run meets
what the kill left.
"""

import argparse
import contextlib
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench_server import repeated
from environments import programs
from measuring import megabytes_in
from projects import FLOW, Project
from servers import Server, served

SAVES = '    output: {save: "out/{{ key }}.txt"}\n'
ANSWER_LENGTH = 3_000
LATENCY_MS = 100
STARTING_SECONDS = 0.6
"""What a run takes before its first request, about: one kill in five comes in that time."""


class Kill(NamedTuple):
    """What was found after a kill: prompts of that run, and those with an answer on disk."""

    asked: Counter[str]
    stored: frozenset[str]
    torn: tuple[str, ...]


def killed(project: Project, server: Server, width: int, dice: random.Random, most: float) -> Kill:
    """Start a run, kill it at a random moment and look at what it left."""
    server.control(latency_ms=LATENCY_MS, spread=1, echo=ANSWER_LENGTH)
    process = project.start("run", FLOW, "--concurrency", str(width))
    if dice.random() < 0.2:
        wait(process, dice.uniform(0, STARTING_SECONDS))
    else:
        while process.poll() is None and not server.stats()["chat"]:
            time.sleep(0.005)
        wait(process, dice.uniform(0, most))
    process.kill()
    process.wait()
    time.sleep(0.02)  # for the server to read what was sent
    asked = Counter(server.get("/asked"))
    return Kill(asked, stored(project), tuple(torn(project)))


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)


def stored(project: Project) -> frozenset[str]:
    """Return the prompts whose answers can be read from the store of a copy."""
    with tempfile.TemporaryDirectory(prefix="poeflow-bench-") as name:
        copy = project.copied_to(Path(name) / "copy")
        if not (copy.folder / ".poeflow" / "poeflow.db").exists():
            return frozenset()
        with contextlib.closing(
            sqlite3.connect(copy.folder / ".poeflow" / "poeflow.db")
        ) as database:
            (found,) = database.execute("PRAGMA integrity_check").fetchone()
            assert found == "ok", found
        copy.usage("cache", "export", "answers.jsonl")
        with (copy.folder / "answers.jsonl").open(encoding="utf-8") as lines:
            answers = [json.loads(line) for line in lines]
    for answer in answers:
        text = answer["answer"]["choices"][0]["message"]["content"]
        assert text == repeated(prompt_of(answer), ANSWER_LENGTH), answer["fingerprint"]
    return frozenset(map(prompt_of, answers))


def prompt_of(answer: dict) -> str:
    return answer["request"]["body"]["messages"][-1]["content"]


def torn(project: Project) -> list[str]:
    """Return the output files that do not hold all of their answer, and files of no answer."""
    return [
        path.name
        for path in (project.folder / "out").glob("*")
        if path.suffix == ".txt"
        and path.read_text("utf-8").rstrip("\n") != repeated(f"say word {path.stem}", ANSWER_LENGTH)
    ]


def drafts(project: Project) -> list[str]:
    """Return the files that were not finished and are still there."""
    return [path.name for path in (project.folder / "out").glob("*") if path.suffix != ".txt"]


def report(kills: Sequence[Kill]) -> list[str]:
    """Return what the kills show, in words."""
    again = in_flight = most = 0
    known: frozenset[str] = frozenset()
    sent: Counter[str] = Counter()
    for kill in kills:
        again += sum(kill.asked[prompt] for prompt in known)
        sent += kill.asked
        known = kill.stored
        in_flight += len(kill.asked.keys() - known)
        most = max(most, len(kill.asked.keys() - known))
    return [
        f"{sent.total():,} requests for {len(known):,} answers",
        f"in flight when killed: {in_flight:,}, at most {most} at once",
        f"repeated: {sent.total() - len(sent):,}",
        f"answered and asked again: {again}",
        f"torn files: {sum(len(kill.torn) for kill in kills)}",
    ]


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def measure(project: Project, server: Server, given: argparse.Namespace) -> None:
    project.write_rows(given.rows, given.width, SAVES)
    dice = random.Random(given.seed)
    kills = [killed(project, server, given.width, dice, given.most) for _ in range(given.kills)]
    under_way = sum(bool(kill.asked.keys() - kill.stored) for kill in kills)
    server.control(latency_ms=0, echo=ANSWER_LENGTH)
    project.usage("run", FLOW)
    kills.append(Kill(Counter(server.get("/asked")), stored(project), tuple(torn(project))))
    server.control(latency_ms=0, echo=ANSWER_LENGTH)
    project.usage("run", FLOW, "--locked")
    tell(f"{given.rows:,} rows, {given.width} at a time, {given.kills} kills,")
    tell(f"  {under_way} of them with requests in flight")
    for line in report(kills):
        tell(f"  {line}")
    files = len(list((project.folder / "out").glob("*.txt")))
    tell(f"  files at the end: {files:,}, and {len(drafts(project))} unfinished ones")
    tell(f"  --locked passes, {len(server.get('/asked'))} requests;")
    tell(f"  state: {megabytes_in(project.folder / '.poeflow'):.1f} MB")


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--rows", type=int, default=1_000)
    asked.add_argument("--width", type=int, default=50)
    asked.add_argument("--kills", type=int, default=50)
    asked.add_argument("--most", type=float, default=0.14, help="seconds of asking before a kill")
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--poeflow", type=Path, help="a command to run, instead of the wheel")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory(prefix="poeflow-bench-") as name, served() as server:
        command = programs(Path(name), given.poeflow, peers=False).poeflow
        measure(Project(Path(name) / "project", command, server.address), server, given)


if __name__ == "__main__":
    main()
