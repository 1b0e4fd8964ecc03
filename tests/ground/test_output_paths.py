"""Outputs go to safe names, and never over what steers other programs."""

import pytest

from poeflow.files import FileProblem
from poeflow.output_paths import check_output_path


def problem_of(path):
    with pytest.raises(FileProblem) as caught:
        check_output_path(path)
    return str(caught.value)


@pytest.mark.parametrize("path", ["//out/notes.md", "//o.u-t/ü ber.md", "//console.md"])
def test_ordinary(path):
    check_output_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "//.git/hooks/pre-commit",
        "//.GitHub/workflows/x.yml",
        "//.gitlab-ci.yml",
        "//a/.git/x",
        "//.circleci/config.yml",
        "//.pre-commit-config.yaml",
        "//.poeflow/x",
        "//a.lock.json",
        "//flows/A.LOCK.JSON",
        "//.gitattributes",
    ],
)
def test_protected(path):
    assert "is never written by poeflow; save to another path" in problem_of(path)


@pytest.mark.parametrize(
    "path",
    [
        "//a/CON",
        "//nul.md",
        "//com1.txt",
        "//con .md",
        "//x.",
        "//x ",
        "// x",
        "//a:b",
        "//a\nb",
        "//a\x7fb",
        "//a\u202eb",
        "//.g\u200cit/x",
        "//" + "ü" * 128,
        '//a"b',
        "//a\\b",
        "//a?",
    ],
)
def test_unsafe(path):
    assert "is not a safe file name" in problem_of(path)


def test_empty():
    assert problem_of("//") == ("the output path names no file; for example out/notes.md")


def test_a_name_is_measured_as_it_is_on_disk():
    check_output_path(f"//{'é' * 127}a")
    assert problem_of(f"//{'é' * 128}").startswith(f'//{"é" * 128}: "é')
