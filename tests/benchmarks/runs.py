"""Whole runs against the simulator: a fan-out of many rows, a fresh rerun, and random kills.

`python tests/benchmarks/runs.py` prints a line for each; `--rows`, `--steps` and `--kills` choose.
"""

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from poeflow.simulator.server import Simulator

HEAD = "poeflow: 1\nlimits: {concurrency: 50}\ndefaults: {model: GPT-5.2}\n"


class Bench:
    """A project in a folder of its own, and the command line in it."""

    def __init__(self, flow: str, simulator: Simulator) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="poeflow-bench-"))
        (self.folder / "poeflow.toml").touch()
        (self.folder / "a.yaml").write_text(flow)
        own = {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": simulator.base_url}
        self.environ = {k: v for k, v in os.environ.items() if k != "CI"} | own

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "poeflow.cli.main", *arguments]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def timed(self, *arguments: str) -> str:
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        code = self.start(*arguments).wait()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        memory = after.ru_maxrss // 1024
        return (
            f"exit {code}, {time.perf_counter() - began:.2f} s, CPU {cpu:.2f} s, peak {memory} MB"
        )


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def fan_out(rows: int) -> None:
    flow = HEAD + (
        "steps:\n  say:\n    for_each: {file: rows.csv, key: item.id}\n"
        '    prompt: "say {{ item.word }}"\n    output: {save: "out/{{ key }}.txt"}\n'
        '  count: {render: "{{ steps.say.all | length }}"}\n'
    )
    with Simulator() as simulator:
        bench = Bench(flow, simulator)
        table = "".join(f"{n},word {n}\n" for n in range(rows))
        (bench.folder / "rows.csv").write_text(f"id,word\n{table}")
        tell(f"{rows:,} rows, first run: {bench.timed('run', 'a.yaml')}")
        tell(f"{rows:,} rows, again: {bench.timed('run', 'a.yaml')}")


def fresh(steps: int) -> None:
    flow = HEAD + "steps:\n"
    for n in range(steps):
        flow += f'  s{n}: {{prompt: "step {n}", output: {{save: out/{n}.md}}}}\n'
    with Simulator() as simulator:
        bench = Bench(flow, simulator)
        bench.timed("run", "a.yaml")
        tell(f"{steps} fresh steps, run: {bench.timed('run', 'a.yaml')}")
        tell(f"{steps} fresh steps, run --locked: {bench.timed('run', 'a.yaml', '--locked')}")
        tell(f"{steps} fresh steps, plan: {bench.timed('plan', 'a.yaml')}")


def kills(steps: int, count: int) -> None:
    flow = HEAD + (
        "steps:\n  chain0: {prompt: begin, output: {save: out/c0.md}}\n"
        + "".join(
            f'  chain{n}: {{prompt: "{n} {{{{ steps.chain{n - 1}.text | length }}}}",'
            f" output: {{save: out/c{n}.md}}}}\n"
            for n in range(1, steps // 2)
        )
        + f"  all: {{for_each: '{{{{ range({steps // 2}) | list }}}}',"
        " prompt: 'item {{ item }}', output: {save: 'out/i{{ key }}.md'}}\n"
    )
    dice = random.Random(1)
    with Simulator(latency=0.02) as simulator:
        bench = Bench(flow, simulator)
        done = 0
        for _ in range(count):
            process = bench.start("run", "a.yaml", "--concurrency", "4")
            try:
                process.wait(timeout=dice.uniform(0.3, 0.8))
                done += 1
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        code = bench.start("run", "a.yaml").wait()
        proven = bench.start("run", "a.yaml", "--locked").wait()
        asked = [request.json["messages"][-1]["content"] for request in simulator.requests]
    tell(
        f"{steps} steps, {count} runs killed at random moments ({done} of them were done before):"
        f" {len(asked)} calls in all for {len(set(asked))} requests, exit {code}, --locked {proven}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--kills", type=int, default=50)
    chosen = parser.parse_args()
    if chosen.steps:
        fresh(chosen.steps)
    if chosen.kills:
        kills(200, chosen.kills)
    if chosen.rows:
        fan_out(chosen.rows)


if __name__ == "__main__":
    main()
