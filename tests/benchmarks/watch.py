"""From saving a file to the request that follows, in a watch session with 200 watched files.

`python tests/benchmarks/watch.py` prints a line for a flow of as many steps as files, and one for
a single step that reads them all; `--files` and `--saves` choose.
"""

import argparse
import statistics
import sys
import time

from runs import HEAD, Bench, tell

from poeflow.simulator.server import Simulator

PAUSE = 0.2


class Session:
    """`poeflow watch` in a project with `count` data files."""

    def __init__(self, flow: str, simulator: Simulator, count: int) -> None:
        self._bench, self._simulator = Bench(flow, simulator), simulator
        self._files = [self._bench.folder / "data" / f"{n}.md" for n in range(count)]
        self._files[0].parent.mkdir()
        for number, file in enumerate(self._files):
            file.write_text(f"text {number}")

    def latencies(self, saves: int) -> list[float]:
        """Return the seconds from each of so many saves to the request that came of it."""
        process = self._bench.start("watch", "a.yaml", "--max-requests", "100000")
        try:
            self._await_quiet()
            return [self._latency(number) for number in range(saves)]
        finally:
            process.terminate()
            process.wait()

    def _await_quiet(self) -> None:
        """Wait until requests have come, and no more come for a while."""
        count, since = 0, time.monotonic()
        while not count or time.monotonic() - since < 1:
            if len(self._simulator.requests) != count:
                count, since = len(self._simulator.requests), time.monotonic()
            time.sleep(0.01)

    def _latency(self, number: int) -> float:
        before = len(self._simulator.requests)
        time.sleep(PAUSE)
        began = time.perf_counter()
        self._files[number % len(self._files)].write_text(f"other text, {number}")
        while len(self._simulator.requests) == before:
            time.sleep(0.0005)
        return time.perf_counter() - began


def measure(name: str, steps: str, files: int, saves: int) -> None:
    with Simulator() as simulator:
        found = Session(HEAD + steps, simulator, files).latencies(saves)
    tell(
        f"{name}, {saves} saves: median {statistics.median(found):.3f} s,"
        f" least {min(found):.3f} s, most {max(found):.3f} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--saves", type=int, default=20)
    chosen = parser.parse_args()
    each = "".join(f"  s{n}: {{prompt: {{file: data/{n}.md}}}}\n" for n in range(chosen.files))
    all_ = """  all: {prompt: "{% for one in glob('data/*.md') %}{{ read(one) }} {% endfor %}"}\n"""
    measure(f"{chosen.files} steps with a file each", f"steps:\n{each}", chosen.files, chosen.saves)
    measure(f"a step with {chosen.files} files", f"steps:\n{all_}", chosen.files, chosen.saves)


if __name__ == "__main__":
    sys.exit(main())
