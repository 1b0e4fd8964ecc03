"""Measures poeflow's client beside its peers, side by side in one run, and prints ratios.

`python tests/benchmarks/compare.py [--rows flood,stream] [--peers aiohttp,openai,httpx]
[--rounds 3] [--server URL]`: see README.md.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from servers import served

HERE = Path(__file__).parent
TITLES = {
    "burst": "500 prompts, 50 at a time, 50 ms server, whole process",
    "flood": "5,000 prompts, 200 at a time, 20 ms server, client alone",
    "stream": "one stream of 20,000 chunks",
    "attach": "20 MB attachment, with the peak of memory",
}


class Run(NamedTuple):
    """What one run took; `busy` is processor time."""

    seconds: float
    busy: float
    megabytes: float


def once(row: str, peer: str, url: str) -> Run:
    """Measure one run in a process of its own."""
    command = [sys.executable, str(HERE / "bench_client.py"), row, peer, url]
    began, worked = time.perf_counter(), children()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    whole = time.perf_counter() - began, children() - worked
    seconds, busy, megabytes = map(float, done.stdout.split())
    return Run(*(whole if row == "burst" else (seconds, busy)), megabytes)


def children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def told(row: str, peer: str, runs: list[Run], ours: list[Run]) -> str:
    (seconds, busy), (our_seconds, our_busy) = map(middle, (runs, ours))
    line = f"  {peer:<8} {seconds:8.3f} s {our_seconds / seconds:6.2f} x"
    line += f"   cpu {busy:8.3f} s {our_busy / busy:6.2f} x"
    if row == "stream":
        line += f"   {20_000 / seconds:9,.0f} chunks/s"
    if row == "attach":
        line += f"   {max(run.megabytes for run in runs):6.0f} MB"
    return line


def middle(runs: list[Run]) -> tuple[float, float]:
    return statistics.median(r.seconds for r in runs), statistics.median(r.busy for r in runs)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--rows", default=",".join(TITLES))
    asked.add_argument("--peers", default="aiohttp,openai,httpx")
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--server", help="a server that takes the x-fake header")
    given = asked.parse_args()
    peers = ["poeflow", *filter(None, given.peers.split(","))]
    with served(given.server) as server:
        for row in given.rows.split(","):
            runs: dict[str, list[Run]] = {peer: [] for peer in peers}
            for _ in range(given.rounds):
                for peer in peers:
                    runs[peer].append(once(row, peer, server.address))
            sys.stdout.write(f"{TITLES[row]}\n")
            for peer in peers:
                sys.stdout.write(f"{told(row, peer, runs[peer], runs['poeflow'])}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
