"""The recipes of CONTRIBUTING are true: each is done in a copy of the house, and holds there.

With one of its files left out it does not, nor with what a command writes left as it was: nobody
can forget a place.
"""

import os
import re
import shutil
import subprocess
import sys

import pytest
from additions import ADDITIONS, Addition
from house_source import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # pytest itself, several times
COPIED = (
    "poeflow",
    "schemas",
    "flows",
    "man",
    "tests/house",
    "tests/docs",
    "tests/flowfile",
    ".github/docs",
)
FILES = ("README.md", "pyproject.toml", "tests/conftest.py")
LIST = re.compile(r"^- \[`(.+?)`\]\((.+?)\): .+$", re.MULTILINE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the house, to be left as it was."""
    folder = tmp_path_factory.mktemp("house")
    for name in COPIED:
        shutil.copytree(ROOT / name, folder / name)
    for name in FILES:
        shutil.copy2(ROOT / name, folder / name)
    return folder


def edited(text, edits):
    for place, new in edits:
        assert place in text, f"no place for {new!r}: {place!r} is not there any more"
        text = text.replace(place, new + place)
    return text


def tried(copy, addition, *, without=None, is_written=True):
    """Make an addition in the copy, run the tests that hold it together, and take it back."""
    touched = (*addition.edits, *addition.written)
    before = {name: (copy / name).read_text("utf-8") for name in touched}
    own = copy / "tests/house/test_addition.py"
    own.write_text(addition.own_test, "utf-8")
    try:
        for name, edits in addition.edits.items():
            if name != without:
                (copy / name).write_text(edited(before[name], edits), "utf-8")
        if is_written:
            run_pytest(copy, "--rewrite-cases", addition.writer)
        return run_pytest(copy, "-x", "tests/house/test_addition.py", *addition.tests)
    finally:
        own.unlink()
        for name, text in before.items():
            (copy / name).write_text(text, "utf-8")


def run_pytest(copy, *arguments):
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-p", "no:randomly"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        cwd=copy,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(copy),
            "PYTHONPATH": str(copy),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def section(addition: Addition):
    page = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")
    return page.partition(f"### {addition.title}\n")[2].partition("\n#")[0]


@pytest.mark.parametrize("addition", ADDITIONS, ids=lambda addition: addition.title)
def test_contributors_read_which_files_an_addition_touches(addition):
    text = section(addition)
    listed = LIST.findall(text)
    assert [name for name, _ in listed] == list(addition.edits)
    assert [link for _, link in listed] == [f"../{name}" for name in addition.edits]
    assert all((ROOT / name).is_file() for name in addition.edits)
    files = "1 file" if len(addition.edits) == 1 else f"{len(addition.edits)} files"
    assert text.strip().startswith(f"{files} by hand; the goal is {addition.goal}.")
    links = " and ".join(f"[`{name}`](../{name})" for name in addition.written)
    folder = addition.writer.rpartition("/")[0]
    assert f"`pytest --rewrite-cases {folder}` writes {links}." in " ".join(text.split())


@pytest.mark.parametrize("addition", ADDITIONS, ids=lambda addition: addition.title)
def test_an_addition_holds_when_all_its_files_are_touched(copy, addition):
    done = tried(copy, addition)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("addition", "name"),
    [pytest.param(one, name, id=f"{one.title}: {name}") for one in ADDITIONS for name in one.edits],
)
def test_a_file_that_was_forgotten_is_found(copy, addition, name):
    done = tried(copy, addition, without=name)
    assert done.returncode == 1, done.stdout + done.stderr
    assert " failed" in done.stdout


@pytest.mark.parametrize("addition", ADDITIONS, ids=lambda addition: addition.title)
def test_what_was_not_written_anew_is_found(copy, addition):
    done = tried(copy, addition, is_written=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert " failed" in done.stdout
