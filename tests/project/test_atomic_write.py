"""A file is replaced whole or not at all, and what a kill leaves is used up."""

import asyncio
import os
import stat
import subprocess
import sys
import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.project.atomic_write import draft, holds, sync_folder


def write(path, *pieces, mode=0o644):
    write_all(path, pieces, mode=mode)


def write_all(path, pieces, *, mode):
    with draft(path, mode=mode) as file:
        for piece in pieces:
            file.write(piece)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_pieces_become_the_file(tmp_path):
    write(tmp_path / "a", b"one ", b"two")
    assert (tmp_path / "a").read_bytes() == b"one two"
    assert names(tmp_path) == ["a"]


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_whatever_was_there_before(tmp_path_factory, old, new):
    path = tmp_path_factory.mktemp("drafts") / "a"
    path.write_bytes(old)
    write(path, new)
    assert path.read_bytes() == new


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_the_mode_is_the_one_asked_for_whatever_the_umask(tmp_path, mode):
    before = os.umask(0o077)
    try:
        write(tmp_path / "a", b"x", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_until_it_is_complete_the_old_file_stands_and_the_draft_is_private(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    with draft(path, mode=0o644) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        (name,) = set(names(tmp_path)) - {"a"}
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, asyncio.CancelledError])
def test_a_failure_leaves_the_old_file_only(tmp_path, error):
    path = tmp_path / "a"
    path.write_bytes(b"old")

    def broken():
        yield b"half"
        raise error

    with pytest.raises(error):
        write_all(path, broken(), mode=0o644)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_equal_content_leaves_the_file_alone(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"same")
    os.utime(path, ns=(1, 1))
    inode = path.stat().st_ino
    write(path, b"sa", b"me")
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (inode, 1)
    assert names(tmp_path) == ["a"]


def test_equal_content_behind_a_link_replaces_the_link(tmp_path):
    (tmp_path / "four").write_bytes(b"same")
    (tmp_path / "a").symlink_to("four")  # as long as the content
    write(tmp_path / "a", b"same")
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "four").read_bytes() == b"same"


def test_a_folder_in_its_place_is_an_error_and_leaves_no_draft(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(IsADirectoryError):
        write(tmp_path / "a", b"x")
    assert names(tmp_path) == ["a"]


def test_a_killed_writer_blocks_nobody_and_its_draft_is_used_up(tmp_path):
    script = """
        import os, sys
        from pathlib import Path
        from poeflow.project.atomic_write import draft
        with draft(Path(sys.argv[1]), mode=0o644) as file:
            file.write(b"much more than what comes after")
            file.flush()
            os.kill(os.getpid(), 9)
    """
    path = tmp_path / "a"
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    assert subprocess.run(command, check=False).returncode == -9
    (left,) = names(tmp_path)
    assert left != "a"
    write(path, b"short")
    assert path.read_bytes() == b"short"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    ("data", "is_held"), [(b"same", True), (b"Same", False), (b"same ", False), (b"", False)]
)
def test_holds_compares_bytes(tmp_path, data, is_held):
    (tmp_path / "a").write_bytes(b"same")
    assert holds(tmp_path / "a", data) is is_held


@pytest.mark.parametrize(
    ("pieces", "is_held"),
    [
        ([b"sa", b"", b"me"], True),
        ([b"sa"], False),
        ([b"same", b"so"], False),
        ([b"sa", b"nd"], False),
    ],
)
def test_holds_compares_pieces_to_the_end_of_both(tmp_path, pieces, is_held):
    (tmp_path / "a").write_bytes(b"same")
    assert holds(tmp_path / "a", pieces) is is_held


def test_holds_compares_what_is_longer_than_it_reads_at_once(tmp_path):
    data = bytes(range(256)) * 8192
    (tmp_path / "a").write_bytes(data)
    assert holds(tmp_path / "a", data)
    assert not holds(tmp_path / "a", data[:-1] + b"x")


def test_holds_follows_no_link_and_asks_no_folder(tmp_path):
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "link").symlink_to("a")
    assert not holds(tmp_path / "link", b"same")
    assert not holds(tmp_path, b"")
    assert not holds(tmp_path / "gone", b"")


def test_a_folder_that_is_not_there_cannot_be_made_durable(tmp_path):
    sync_folder(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "gone")
