"""The way of a prompt from the command line to the wire is as CONTRIBUTING tells it, and short."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from house_source import ROOT

FLOW = "poeflow: 1\nsteps:\n  hello: {model: Claude-Haiku-4.5, prompt: Say hello.}\n"
LENGTHS = {
    "frames before the client": 14,
    "files before the client": 10,
    "frames before the wire": 23,
    "files before the wire": 13,
}
"""How long the line is: a number may shrink, never grow. The goal was 16 frames in 10 files."""
STOP = re.compile(r"^( *)(\d+\.|-) \[`(.+?)`\]\((.+?)\) `(.+?)`: .+$", re.MULTILINE)


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A run of one step against the simulator: its frames at the first byte, and what it called."""
    folder = tmp_path_factory.mktemp("line")
    (folder / "flow.yaml").write_text(FLOW, "utf-8")
    trace = Path(__file__).with_name("line_trace.py")
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    subprocess.run(
        [sys.executable, str(trace), "line.json", "run", "flow.yaml", "--offline"],
        cwd=folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    )
    return json.loads((folder / "line.json").read_text("utf-8"))


def files(chain):
    return {stop.partition(":")[0] for stop in chain}


def before_the_client(chain):
    return chain[: next(i for i, stop in enumerate(chain) if stop.startswith("poeflow/client/"))]


def listed():
    """Return the stops that CONTRIBUTING lists: is it a frame, where it links to, its name."""
    page = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")
    section = page.partition("## The line of one prompt\n")[2].partition("\n## ")[0]
    stops = STOP.findall(section)
    assert len(stops) == len(re.findall(r"^ *(?:\d+\.|-) ", section, re.MULTILINE))
    return [
        (mark != "-", link, f"poeflow/{file}: {function}")
        for _, mark, file, link, function in stops
    ]


def out_of_order(wanted, found):
    rest = iter(found)
    return [stop for stop in wanted if stop not in rest]


def test_the_line_becomes_shorter(line):
    chain = line["chain"]
    client = before_the_client(chain)
    lengths = (len(client), len(files(client)), len(chain), len(files(chain)))
    assert dict(zip(LENGTHS, lengths, strict=True)) == LENGTHS


def test_contributors_read_the_same_numbers():
    page = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")
    frames, many, *_ = LENGTHS.values()
    assert f"Before the client it is {frames} frames in {many} files." in " ".join(page.split())


def test_the_stops_that_are_listed_are_on_the_line_in_that_order(line):
    stops = listed()
    assert out_of_order([name for is_frame, _, name in stops if is_frame], line["chain"]) == []
    assert out_of_order([name for _, _, name in stops], line["calls"]) == []


def test_the_files_that_are_listed_are_there():
    for _, link, name in listed():
        assert (ROOT / ".github" / link).resolve() == ROOT / name.partition(":")[0]
        assert (ROOT / ".github" / link).is_file()


def test_a_stop_out_of_order_is_found():
    assert out_of_order(["a", "c"], ["a", "b", "c"]) == []
    assert out_of_order(["c", "a"], ["a", "b", "c"]) == ["a"]
