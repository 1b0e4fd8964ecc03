"""The manual pages are shown by `man` without a complaint, and are those of this version."""

import subprocess
from pathlib import Path

import pytest

from poeflow import __version__

FOLDER = Path(__file__).parents[2] / "man"
PAGES = sorted(path.name for path in FOLDER.iterdir())


def shown(name: str) -> str:
    """Return what `man` shows; `.ci/run` installs it where it is missing."""
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-P", "cat", "-l", str(FOLDER / name)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "100"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", PAGES)
def test_man_shows_it(name):
    text = " ".join(shown(name).split())
    assert f" NAME {name.removesuffix('.1')} - " in text
    assert f" poeflow {__version__} " in text


def test_examples_are_shown_as_they_are_typed():
    example = "poeflow doctor --output json | jq '.findings[] | select(.level != \"ok\")'"
    assert example in shown("poeflow-doctor.1")
