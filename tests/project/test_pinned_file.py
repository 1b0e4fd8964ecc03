"""A large file is read in pieces, and every reading has the bytes of the first."""

import hashlib
import random

import pytest

from poeflow.project.pinned_file import PIECE
from poeflow.project.project import FileProblem, Project
from poeflow.project.read_log import ReadLog

DATA = random.Random(1).randbytes(PIECE * 2 + 1000)
CHANGED = r"^//a\.bin changed while it was read; run again$"


@pytest.fixture
def project(tmp_path):
    (tmp_path / "a.bin").write_bytes(DATA)
    return Project(tmp_path.resolve(), log=ReadLog())


def test_each_reading_has_the_same_bytes(project):
    file = project.pinned("//a.bin", limit=len(DATA))
    assert next(iter(file)) == DATA[:PIECE]
    assert (len(file), file.sha256) == (len(DATA), hashlib.sha256(DATA).hexdigest())
    for _ in range(2):
        assert list(map(len, file)) == [PIECE, PIECE, 1000]
        assert b"".join(file) == DATA
    assert project.log.files[project.root / "a.bin"].digest == file.sha256


@pytest.mark.parametrize(
    ("changed", "good"),
    [
        (b"x" + DATA[1:], 0),
        (DATA[:PIECE] + bytes([DATA[PIECE] ^ 1]) + DATA[PIECE + 1 :], 1),
        (DATA[:-1], 2),
        (DATA + b"x", 2),
        (DATA[: 2 * PIECE], 2),
        (DATA[:100], 0),
        (b"", 0),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_nothing_is_given_of_a_file_that_changed(project, changed, good, begun):
    file = project.pinned("//a.bin", limit=len(DATA) + 1)
    reading = iter(file)
    if begun:
        assert next(reading) == DATA[:PIECE]
    assert len(file) == len(DATA)
    (project.root / "a.bin").write_bytes(changed)
    found = []
    with pytest.raises(FileProblem, match=CHANGED):
        found.extend(file)
    assert b"".join(found) == DATA[: good * PIECE]


def test_a_file_that_grows_while_it_is_first_read(project):
    file = project.pinned("//a.bin", limit=len(DATA))
    reading = iter(file)
    assert next(reading) == DATA[:PIECE]
    with (project.root / "a.bin").open("ab") as more:
        more.write(b"x")
    with pytest.raises(FileProblem, match=CHANGED):
        list(reading)


def test_a_file_that_is_too_large_or_missing(project):
    with pytest.raises(FileProblem, match=r"^//a\.bin has 394,216 bytes; the limit is 10;"):
        len(project.pinned("//a.bin", limit=10))
    file = project.pinned("//a.bin", limit=len(DATA))
    assert len(file) == len(DATA)
    (project.root / "a.bin").unlink()
    with pytest.raises(FileProblem, match=r"a\.bin"):
        list(file)
