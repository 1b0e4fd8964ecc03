"""Output files hold the text in UTF-8, with LF and one final newline."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.digest import sha256_of
from poeflow.project import output_files
from poeflow.project.output_files import OutputFiles, file_bytes, text_digest
from poeflow.project.project import Project


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("a", b"a\n"),
        ("a\n", b"a\n"),
        ("a\n\n\n", b"a\n"),
        ("a\r\nb\rc", b"a\nb\nc\n"),
        ("", b"\n"),
        ("  a  \n", b"  a  \n"),
        ("é☃", "é☃\n".encode()),
        ("a\u2028b", "a\u2028b\n".encode()),
        ("half \ud800", b"half ?\n"),
    ],
)
def test_the_bytes_of_a_text(text, data):
    assert file_bytes(text) == data


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_every_text_ends_in_one_newline_and_stays_as_it_is_when_written_again(text):
    data = file_bytes(text)
    assert data.endswith(b"\n")
    assert not data.endswith(b"\n\n")
    assert b"\r" not in data
    assert file_bytes(data.decode()) == data


def test_nothing_is_where_no_path_leads_and_a_broken_link_is_something(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "broken").symlink_to("gone")
    files = OutputFiles(Project(tmp_path), {}, lambda _path: frozenset())
    looks = {
        name: files.look(f"//{name}")
        for name in ("file", "gone", "gone/a", "file/a", "round/a", "a\0b", "round", "broken")
    }
    assert looks == dict.fromkeys(looks, "missing") | dict.fromkeys(
        ("file", "round", "broken"), "foreign"
    )


PIECES = (b"a", b"b ", b" ", b"\t", b"\r", b"\n", b"\r\n", b"\x0b", b"\xa0")


@given(st.lists(st.sampled_from(PIECES)))
def test_the_digest_of_a_text_is_that_of_its_lines_however_long_it_is(pieces):
    data = b"".join(pieces)
    unified = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = [line.rstrip() for line in unified.split(b"\n")]
    expected = sha256_of(b"\n".join(lines).rstrip() + b"\n")
    with pytest.MonkeyPatch.context() as patch:
        for size in (1, 3, 1000):
            patch.setattr(output_files, "_BLOCK", size)
            assert text_digest(data) == expected


def test_the_digest_of_a_long_text_needs_no_copy_of_it():
    data = b"some words of a line  \n" * 500_000
    tracemalloc.start()
    try:
        text_digest(data)
        assert tracemalloc.get_traced_memory()[1] < len(data)
    finally:
        tracemalloc.stop()
