"""What a file is follows from its content, and the name chooses only what content leaves open."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.project.media_types import media_type_of, mismatch, normal

FTYP = b"\0\0\0\x20ftyp"
ASSETS = Path(__file__).parents[2] / "flows" / "assets"
WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


@pytest.mark.parametrize(
    ("name", "data", "media_type"),
    [
        ("x", b"\x89PNG\r\n\x1a\n\0", "image/png"),
        ("x", b"\xff\xd8\xff\xe0", "image/jpeg"),
        ("x", b"GIF89a\x01\0", "image/gif"),
        ("x", b"GIF87a\x01\0", "image/gif"),
        ("x", b"RIFF\x24\0\0\0WEBPVP8 ", "image/webp"),
        ("x", b"RIFF\x24\0\0\0WAVEfmt ", "audio/wav"),
        ("x", b"RIFF\x24\0\0\0AVI LIST", "video/x-msvideo"),
        ("x", b"RIFF\x24\0\0\0abcd", "application/octet-stream"),
        ("x", b"BM\x36\0\0\0\0\0\0\0", "image/bmp"),
        ("x", b"II*\0\x08\0", "image/tiff"),
        ("x", b"MM\0*\0\x08", "image/tiff"),
        ("x", b"%PDF-1.7\n%\xe2\xe3", "application/pdf"),
        ("x.txt", b"%PDF-1.4 all in ASCII", "application/pdf"),
        ("x", b"ID3\x04\0\0", "audio/mp3"),
        ("x", b"\xff\xfb\x90\x64\0", "audio/mp3"),
        ("x", b"\xff\xf3\x84\xc4", "audio/mp3"),
        ("x", b"\xff\xfe\x41\x00", "application/octet-stream"),
        ("x", b"\xff\xfb\xf0\x00", "application/octet-stream"),
        ("x", b"\xff", "application/octet-stream"),
        ("x", b"OggS\0\x02", "audio/ogg"),
        ("x.ogv", b"OggS\0\x02", "video/ogg"),
        ("x", b"fLaC\0\0\0\x22", "audio/flac"),
        ("x", FTYP + b"isom\0\0", "video/mp4"),
        ("x", FTYP + b"qt  \0\0", "video/quicktime"),
        ("x", FTYP + b"M4A \0\0", "audio/mp4"),
        ("x.m4a", FTYP + b"isom\0\0", "audio/mp4"),
        ("x", FTYP + b"avif\0\0", "image/avif"),
        ("x", FTYP + b"avis\0\0", "image/avif"),
        ("x", FTYP + b"heic\0\0", "image/heic"),
        ("x", b"\x1aE\xdf\xa3\x9f\x42", "video/webm"),
        ("x", b"\x1aE\xdf\xa3\x93\x42\x82\x88matroska", "video/x-matroska"),
        ("x.webm", b"\x1aE\xdf\xa3\x8f\x42\x82\x84webm", "video/webm"),
        ("x.mkv", b"\x1aE\xdf\xa3\x9f\x42", "video/x-matroska"),
        ("x.DOCX", b"PK\x03\x04\x14\0", WORD),
        ("x.zip", b"PK\x03\x04\x14\0", "application/zip"),
        ("x.png", b"PK\x03\x04\x14\0", "application/zip"),
        ("x.gz", b"\x1f\x8b\x08\0", "application/gzip"),
        ("x.csv", b"a,b\n", "text/csv"),
        ("x.json", b"{}", "application/json"),
        ("README.MD", b"# x", "text/markdown"),
        ("x.yml", b"a: b", "text/yaml"),
        ("x.py", "drôle = 1".encode(), "text/plain"),
        ("x.svg", b"<svg onload='x'>", "text/plain"),
        ("x.html", b"<script>", "text/plain"),
        ("x.txt", b"BMW builds cars", "text/plain"),
        ("x.txt", b"ID3 tags, OggS and fLaC", "text/plain"),
        ("x.txt", b"OggS is a magic", "text/plain"),
        ("x.txt", "\ufeffwith BOM".encode(), "text/plain"),
        ("x.txt", b"caf\xe9", "application/octet-stream"),
        ("x.txt", b"a\0b", "application/octet-stream"),
        ("x.exe", b"MZ\x90\0", "application/octet-stream"),
    ],
)
def test_table(name, data, media_type):
    assert media_type_of(name, data) == media_type


@pytest.mark.parametrize(
    ("name", "media_type"),
    [("logo.png", "image/png"), ("invoice.pdf", "application/pdf"), ("tone.wav", "audio/wav")],
)
def test_real_files(name, media_type):
    assert media_type_of(name, (ASSETS / name).read_bytes()) == media_type
    assert mismatch(name, media_type) == ""


def test_a_long_text_is_read_in_pieces():
    text = "é".encode() * 700_000
    assert media_type_of("x.txt", b"x" + text) == "text/plain"
    assert media_type_of("x.txt", text[:-1]) == "application/octet-stream"
    assert media_type_of("x.txt", text + b"\0") == "application/octet-stream"


@given(st.text(min_size=1).filter(lambda text: "\0" not in text and not text.startswith("%PDF-")))
def test_text_is_text_whatever_it_begins_with(text):
    assert media_type_of("x", text.encode()) == "text/plain"


@given(st.binary(max_size=40), st.sampled_from(["", "x.png", "x.docx", ".", "a/b.mp3"]))
def test_whatever_the_bytes_are_there_is_one_type(data, name):
    kind, slash, rest = media_type_of(name, data).partition("/")
    assert kind in {"image", "audio", "video", "application", "text"}
    assert (slash, bool(rest)) == ("/", True)


def test_a_name_that_promises_something_else():
    assert mismatch("a.png", "image/jpeg") == (
        "a.png is named like image/png but holds image/jpeg; it is sent as image/jpeg"
    )
    assert mismatch("a.json", "application/octet-stream") == (
        "a.json is named like application/json but holds application/octet-stream;"
        " it is sent as application/octet-stream"
    )
    assert [mismatch(*pair) for pair in (("a.jpg", "image/jpeg"), ("a.xyz", "image/png"))] == [
        "",
        "",
    ]


def test_names_people_write_otherwise():
    pairs = {
        "image/jpg": "image/jpeg",
        "IMAGE/PNG": "image/png",
        "audio/mpeg": "audio/mp3",
        "audio/x-wav": "audio/wav",
        "image/svg+xml": "text/plain",
        "text/html": "text/plain",
        "application/x-own": "application/x-own",
    }
    assert {name: normal(name) for name in pairs} == pairs
