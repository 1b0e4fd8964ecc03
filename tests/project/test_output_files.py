"""Output files hold the text in UTF-8, with LF and one final newline."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.project.output_files import file_bytes


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
