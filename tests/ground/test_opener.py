"""A file is opened step by step, through no link, and read once, up to a limit."""

import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

from poeflow.opener import (
    NotTextError,
    UnusableFileError,
    head,
    open_straight,
    opened,
    read_beneath,
    read_followed,
    read_named,
    read_plain,
    regular,
    text_of,
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/a/b/file.txt").write_text("inside")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file.txt").write_text("outside")
    return tmp_path


def content(root, *parts):
    with opened(root, parts) as handle:
        return os.read(handle, 100).decode()


def open_below(folder) -> list[Path]:
    """Return what is open at or below `folder` in this process."""
    targets = []
    for handle in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            targets.append(handle.readlink())
    return [target for target in targets if target.is_relative_to(folder)]


def test_leads_to_the_file(folder):
    assert content(folder / "root", "a", "b", "file.txt") == "inside"


def test_leads_to_a_folder_and_to_the_root_itself(folder):
    for parts in ((), ("a",)):
        with opened(folder / "root", parts) as handle:
            assert stat.S_ISDIR(os.fstat(handle).st_mode)


def test_the_root_may_be_a_link(folder):
    (folder / "link").symlink_to(folder / "root")
    assert content(folder / "link", "a", "b", "file.txt") == "inside"


@pytest.mark.parametrize("target", ["../outside", "a"])
def test_a_link_on_the_way_is_not_followed(folder, target):
    (folder / "root/way").symlink_to(target)
    with pytest.raises(NotADirectoryError):
        content(folder / "root", "way", "file.txt")


@pytest.mark.parametrize("target", ["../outside/file.txt", "a/b/file.txt", "nowhere"])
def test_a_link_at_the_end_is_not_followed(folder, target):
    (folder / "root/end").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        content(folder / "root", "end")


@pytest.mark.timeout(10)
def test_a_pipe_without_a_writer_is_not_waited_for(folder):
    os.mkfifo(folder / "root/pipe")
    with pytest.raises(OSError, match="is not a regular file"):
        content(folder / "root", "pipe")


def test_a_device_is_not_even_opened():
    with pytest.raises(OSError, match="is not a regular file"), opened(Path("/dev"), ("null",)):
        pass


def test_what_is_not_there_is_an_error(folder):
    for root, parts in ((folder / "gone", ()), (folder / "root", ("gone",))):
        with pytest.raises(FileNotFoundError):
            content(root, *parts)
    with pytest.raises(NotADirectoryError):
        content(folder / "root", "a", "b", "file.txt", "below")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_nothing_stays_open_and_nothing_is_inherited(folder):
    with opened(folder / "root", ("a", "b", "file.txt")) as handle:
        assert not os.get_inheritable(handle)
        assert open_below(folder) == [folder / "root/a/b/file.txt"]
    for parts in (("gone",), ("a", "gone"), ("a", "b", "file.txt", "below")):
        with contextlib.suppress(OSError):
            content(folder / "root", *parts)
    with contextlib.suppress(KeyError), opened(folder / "root", ("a",)):
        raise KeyError
    with contextlib.suppress(OSError), regular(folder / "root", ("a",)):
        raise AssertionError("a folder is no regular file")
    assert open_below(folder) == []


def test_a_folder_renamed_meanwhile_changes_nothing(folder):
    with opened(folder / "root", ("a", "b", "file.txt")) as handle:
        (folder / "root/a").rename(folder / "root/moved")
        (folder / "root/a").symlink_to("../outside")
        assert os.read(handle, 100) == b"inside"


def straight(path):
    handle, status = open_straight(str(path))
    try:
        return os.read(handle, status.st_size)
    finally:
        os.close(handle)


def test_a_file_is_opened_by_its_whole_path(folder):
    assert straight(folder / "root/a/b/file.txt") == b"inside"
    with pytest.raises(FileNotFoundError):
        straight(folder / "root/gone/file.txt")


@pytest.mark.parametrize("target", ["../outside", "a/b"])
def test_a_link_on_a_whole_path_is_not_followed(folder, target):
    (folder / "root/way").symlink_to(target)
    with pytest.raises(NotADirectoryError):
        straight(folder / "root/way/file.txt")
    (folder / "root/end").symlink_to(f"{target}/file.txt")
    with pytest.raises(UnusableFileError, match="is a link"):
        straight(folder / "root/end")
    (folder / "top").symlink_to("root")
    with pytest.raises(NotADirectoryError):
        straight(folder / "top/a/b/file.txt")


@pytest.mark.timeout(10)
def test_neither_a_pipe_nor_a_folder_is_opened_by_its_whole_path(folder):
    os.mkfifo(folder / "root/pipe")
    with pytest.raises(UnusableFileError, match="is not a regular file"):
        straight(folder / "root/pipe")
    with pytest.raises(UnusableFileError, match="is a folder"):
        straight(folder / "root/a")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_a_file_that_is_not_where_its_path_says_is_closed(folder):
    (folder / "root/way").symlink_to("../outside")
    for name in ("root/way/file.txt", "root/a", "root/gone", "root/../outside/file.txt"):
        with contextlib.suppress(OSError):
            straight(folder / name)
    assert open_below(folder) == []


@pytest.mark.skipif(not hasattr(socket, "SOCK_SEQPACKET"), reason="needs reads that end early")
def test_a_beginning_is_read_in_as_many_pieces_as_it_comes():
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with here, there:
        for piece in (b"ab", b"c", b"de"):
            here.send(piece)
        here.shutdown(socket.SHUT_WR)
        assert head(there.fileno(), 5) == b"abcde"
        assert head(there.fileno(), 5) == b""


def test_a_file_is_read_up_to_its_limit(folder):
    path = folder / "outside/file.txt"
    for read in (read_plain, read_followed, read_named):
        assert read(path, limit=7) == b"outside"
        with pytest.raises(UnusableFileError, match="bytes"):
            read(path, limit=6)
    assert read_beneath(folder, ("outside", "file.txt"), limit=7) == b"outside"


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a device without an end")
@pytest.mark.timeout(10)
def test_devices_pipes_folders_and_links_are_told_apart(folder):
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "link").symlink_to("outside/file.txt")
    (folder / "round").symlink_to("round")
    os.mkfifo(folder / "pipe")
    reasons = {"zero": "is a link", "link": "is a link", "round": "is a link"}
    reasons |= {"pipe": "is not a regular file", "outside": "is a folder"}
    for name, reason in reasons.items():
        with pytest.raises(UnusableFileError, match=reason):
            read_plain(folder / name, limit=100)
    assert read_followed(folder / "link", limit=100) == b"outside"
    with pytest.raises(UnusableFileError, match="is not a regular file"):
        read_followed(folder / "zero", limit=100)
    with pytest.raises(OSError, match="symbolic links"):
        read_followed(folder / "round", limit=100)
    with pytest.raises(UnusableFileError, match="holds over 100 bytes"):
        read_named(folder / "zero", limit=100)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux's /proc")
def test_a_file_that_holds_more_than_it_says_is_not_read():
    with pytest.raises(UnusableFileError, match="changed while it was read"):
        read_plain(Path("/proc/self/environ"), limit=10**6)


def test_text_is_utf_8_without_a_mark_and_with_plain_line_ends():
    assert text_of("\ufeffé\r\nb\rc\n".encode()) == "é\nb\nc\n"
    assert text_of(b"") == ""
    for data, told in (
        (b"ab\n\xc3\xa9\xff", ("byte 0xff is not UTF-8", 2, 2)),
        ("a".encode("utf-16"), ("the file is UTF-16", 1, 1)),
    ):
        with pytest.raises(NotTextError) as caught:
            text_of(data)
        assert (caught.value.reason, caught.value.line, caught.value.column) == told
