"""The benchmarks work; what they measure is asserted nowhere."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent
POEFLOW = Path(sys.executable).with_name("poeflow")
pytestmark = pytest.mark.slow


def benchmark(*arguments: str) -> list[str]:
    command = [sys.executable, *arguments, "--poeflow", str(POEFLOW)]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_rows_that_are_chosen_are_printed_beside_their_peers():
    lines = benchmark(".", "--quick", "--no-peers", "--rows", "large,burst")
    assert [line[:32].rstrip() for line in lines[2:]] == [
        "answer of 0.2 MiB",
        "5 rows, 50 at a time, 50 ms",
        "    beside: own client",
    ]
    assert all(line.count(" s ") == 2 and " MB" in line for line in lines[2:])


def test_no_answer_is_asked_for_again_after_kills():
    lines = benchmark("runs.py", "--rows", "60", "--width", "20", "--kills", "2")
    assert "  answered and asked again: 0" in lines
    assert "  torn files: 0" in lines
    assert "  files at the end: 60, and 0 unfinished ones" in lines
    assert "  --locked passes, 0 requests;" in lines
