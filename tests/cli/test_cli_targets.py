"""Patterns of the command line mean what the standard library's do, and links never go round."""

import glob
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poeflow.cli.targets import below, is_flow, matching
from poeflow.errors import UsageError

NAMES = st.sampled_from(["a", "b", "ab", ".a", "a.yaml", "b.yaml", ".c.yaml", "[x]"])
PARTS = st.sampled_from(["*", "**", "?", "a", "a*", ".*", "*.yaml", "[ab]", "[!a]*", "..", "a**"])
TREE = st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12)
PATTERN = st.lists(PARTS, min_size=1, max_size=4)


def grown(root, tree):
    for parts in tree:
        path = root.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError:  # a file where a folder is needed
            continue


def elsewhere(pattern):
    """Return what the standard library finds; before Python 3.12 it names missing folders, too."""
    found = glob.glob(pattern, recursive=True)  # noqa: PTH207 - what is compared with
    return {Path(one) for one in found if os.path.lexists(one)}


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(TREE, PATTERN, st.booleans())
def test_a_pattern_means_what_it_means_elsewhere(tmp_path_factory, tree, parts, is_absolute):
    root = tmp_path_factory.mktemp("tree") / "d/d/d/d"  # as deep as a pattern climbs
    root.mkdir(parents=True)
    grown(root, tree)
    pattern = os.path.join(glob.escape(str(root)), *parts)  # noqa: PTH118 - a pattern, no path
    if is_absolute:
        expected = elsewhere(pattern)
        found = matching(pattern)
    else:
        pattern = "/".join(parts)
        here = Path.cwd()
        os.chdir(root)
        try:
            expected = elsewhere(pattern)
            found = matching(pattern)
        finally:
            os.chdir(here)
    assert [one for one in found if one != Path()] == sorted(expected - {Path()})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("poeflow: 1\nsteps: {}\n", True),
        ("# a flow\n\n  # of mine\r\n\npoeflow : 1\n", True),
        ("poeflow:\n", True),
        ("poeflow: 1\nsteps: [\n", True),
        ("\ufeffpoeflow: 1\n", True),
        ("steps: {}\npoeflow: 1\n", True),
        ("poeflow:1\n", False),
        ("poeflow: 1", True),
        ("  poeflow: 1\n", True),
        ("a: |\n  poeflow: 1\n", False),
        ("poeflow_s: 1\n", False),
        ("# poeflow: 1\na: 1\n", False),
    ],
)
def test_a_flow_is_known_by_its_key(tmp_path, text, expected):
    (tmp_path / "a.yaml").write_text(text, newline="")
    assert is_flow(tmp_path / "a.yaml") is expected


def test_nothing_is_found_in_a_folder_that_is_not_there(tmp_path):
    (tmp_path / "a").touch()
    (tmp_path / "b").mkdir()
    for pattern in ("*/none/**", "none/**", "a/**", "*/a/**/*"):
        assert matching(f"{tmp_path}/{pattern}") == []


def test_links_that_go_round_are_not_entered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows/deep").mkdir(parents=True)
    for name in ("flows/a.yaml", "flows/deep/b.yaml"):
        (tmp_path / name).touch()
    for name in "xyz":
        (tmp_path / "flows" / name).symlink_to(".")
    expected = [Path("flows/a.yaml"), Path("flows/deep/b.yaml")]
    assert matching("flows/**/*.yaml") == expected
    assert below(Path("flows")) == expected
    assert matching("flows/x/*.yaml") == [Path("flows/x/a.yaml")]


def test_what_is_looked_at_is_counted(tmp_path):
    for name in "xy":
        (tmp_path / name).symlink_to(".")
    with pytest.raises(UsageError, match="over 1,000 files to look at"):
        matching(f"{tmp_path}/" + "*/" * 38 + "*.yaml", most=1000)
    for name in range(11):
        (tmp_path / f"{name}").touch()
    with pytest.raises(UsageError, match="over 10 files to look at"):
        below(tmp_path, most=10)
