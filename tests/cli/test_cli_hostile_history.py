"""Commands in a project whose history names a file of the user's: that file stays."""

import os
import signal
import struct
import subprocess
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  draft: {prompt: on otters}
"""
READERS = (
    ("history",),
    ("history", "--search", "otters"),
    ("show", "last"),
    ("diff",),
    ("report", "last", "--html", "page.html"),
)
WRITERS = (("run", "a.yaml"), ("run", "a.yaml", "--offline"), ("history", "--keep", "0"))


@pytest.fixture
def victim(tmp_path_factory):
    path = tmp_path_factory.mktemp("home") / "precious.txt"
    path.write_text("precious")
    return path


@pytest.fixture
def hostile(online, victim):
    """A project with a run in its history, and beside that a journal that names `victim`."""
    online.write("a.yaml", FLOW)
    assert online.run("run", "a.yaml").returncode == 0
    hot_journal(online.folder / ".poeflow" / "poeflow.db", victim)
    return online


def hot_journal(path: Path, names_file: Path) -> None:
    """Write the journal of a transaction over several databases, which names the file of all."""
    magic = bytes.fromhex("d9d505f920a163d7")
    magic = bytes.fromhex("d9d505f920a163d7")
    size = struct.unpack(">H", path.read_bytes()[16:18])[0]
    pages = path.stat().st_size // size
    header = magic + struct.pack(">5I", 0, 0, pages, 512, size)
    name = os.fsencode(names_file)
    end = struct.pack(">I", 0x40000000 // size + 1) + name
    end += struct.pack(">2I", len(name), sum(name)) + magic
    path.with_name(path.name + "-journal").write_bytes(header.ljust(512, b"\0") + end)


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_looking_says_a_line_and_touches_nothing(hostile, victim, command):
    done = hostile.run(*command)
    assert (victim.read_text(), done.returncode) == ("precious", 8)
    assert done.stderr.startswith("error: the store cannot be read: its journal names another")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", WRITERS, ids=" ".join)
def test_writing_sets_it_aside_and_goes_on(hostile, victim, command):
    done = hostile.run(*command)
    assert (victim.read_text(), done.returncode) == ("precious", 0), done.stderr
    assert "its journal names another file); it was renamed to poeflow.damaged-1.db" in done.stderr


def test_pages_touch_nothing(hostile, victim):
    command = hostile.command("view", "--port", "0", "--no-browser")
    with subprocess.Popen(
        command, cwd=hostile.folder, env=hostile.env(), stdout=subprocess.PIPE, text=True
    ) as serving:
        try:
            address = next(word for word in serving.stdout.readline().split() if "http" in word)
            with pytest.raises(HTTPError):
                urlopen(address, timeout=8)
        finally:
            serving.send_signal(signal.SIGINT)
    assert victim.read_text() == "precious"
