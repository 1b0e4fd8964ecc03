"""What a command takes: its time, the processor's, its peak of memory; and what stays in a folder.

The peak is of its own process. The system counts what this process uses when it starts one as that
one's, so nothing large is held here.
"""

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Seconds by the clock and of the processor, and megabytes."""

    wall: float
    cpu: float
    peak: float


def usage_of(
    command: Sequence[str | Path], *, cwd: Path, environ: Mapping[str, str], codes: Iterable[int]
) -> Usage:
    """Run a command to its end; any exit code but those given ends the benchmark."""
    with tempfile.TemporaryFile() as words:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=cwd, env=environ, stdout=subprocess.DEVNULL, stderr=words
        )
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in codes:
            words.seek(0)
            last = words.read().decode(errors="replace")[-2000:]
            raise SystemExit(f"{' '.join(map(str, command))}: exit {process.returncode}\n{last}")
    return Usage(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000)


def megabytes_in(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def median_of(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return each figure's median over the rounds, but the most of what is a peak."""
    return {
        name: (max if name == "peak" else statistics.median)(found[name] for found in figures)
        for name in figures[0]
    }
