"""Everything that poeflow must be fast at, beside what else does it, as one table.

`python tests/benchmarks [--rows flood,cold] [--rounds 3] [--quick]`: see README.md.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from environments import programs
from figures import Measurement, middle
from rows import ASKED_FOR, LONG, ROWS, Bench, Row
from servers import served
from table import head, lines_of

QUICK = 0.01


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def options(arguments: list[str]) -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    usual = ",".join(name for name in ROWS if name not in ASKED_FOR)
    asked.add_argument("--rows", default=usual, help=f"default: {usual}; million, too")
    asked.add_argument("--rounds", type=int, default=3, help="of which the medians are shown")
    asked.add_argument("--quick", action="store_true", help="a hundredth of the work, unjudged")
    asked.add_argument("--poeflow", type=Path, help="a command to measure, instead of the wheel")
    asked.add_argument("--no-peers", action="store_true", help="poeflow alone")
    asked.add_argument("--environments", type=Path, help="a folder that keeps what is installed")
    asked.add_argument("--server", help="a faster server, with the same knobs")
    given = asked.parse_args(arguments)
    given.rows = given.rows.split(",")
    if unknown := sorted(set(given.rows) - ROWS.keys()):
        asked.error(f"no such row: {', '.join(unknown)}")
    return given


def main(arguments: list[str]) -> None:
    given = options(arguments)
    with bench_of(given) as bench:
        tell(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
        tell(head())
        for name in given.rows:
            rounds = 1 if name in LONG or given.quick else given.rounds
            for found in measurements(ROWS[name], bench, rounds):
                for line in lines_of(found, judged=not given.quick):
                    tell(line)


def measurements(row: Row, bench: Bench, rounds: int) -> Iterable[Measurement]:
    """Return what a row measures: as it comes, or the medians of several rounds."""
    return row(bench) if rounds == 1 else middle([[*row(bench)] for _ in range(rounds)])


@contextmanager
def bench_of(given: argparse.Namespace) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="poeflow-bench-") as name, served(given.server) as own:
        folder = Path(name)
        installed = programs(given.environments or folder, given.poeflow, peers=not given.no_peers)
        yield Bench(installed, own, folder, QUICK if given.quick else 1.0)


if __name__ == "__main__":
    main(sys.argv[1:])
