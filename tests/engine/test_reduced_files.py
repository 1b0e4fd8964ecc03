"""Smaller pictures and chosen pages: what is sent, and that it is asked for once."""

import io
import sys

import pytest
from PIL import Image
from pypdf import PdfReader, PdfWriter

from poeflow.digest import sha256_of, sha256_of_json
from poeflow.engine.asking.message_parts import AttachmentReader, reduced
from poeflow.project.attachment_files import AttachmentSource, Reduction, find
from poeflow.project.project import FileProblem, Project
from poeflow.redact import Keyring

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\nsteps:\n"

VAST = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200002710000027100802000000352cf5700000000049444154"
)
"""The head of a picture with 10,000 pixels a side, and nothing else."""


def picture(width: int, height: int, form: str = "PNG") -> bytes:
    made = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(made, form)
    return made.getvalue()


def pdf(pages: int) -> bytes:
    writer, made = PdfWriter(), io.BytesIO()
    for number in range(1, pages + 1):
        writer.add_blank_page(width=number, height=100)
    writer.write(made)
    return made.getvalue()


def widths(data: bytes) -> list[int]:
    return [int(page.mediabox.width) for page in PdfReader(io.BytesIO(data)).pages]


@pytest.mark.parametrize(
    ("form", "sent"), [("PNG", "PNG"), ("JPEG", "JPEG"), ("WEBP", "WEBP"), ("BMP", "PNG")]
)
def test_the_longer_side_of_a_picture_is_reduced(form, sent):
    data = reduced("//a", picture(400, 100, form), Reduction(resize=64))
    with Image.open(io.BytesIO(data)) as found:
        assert (found.size, found.format) == ((64, 16), sent)


def test_a_picture_that_is_small_enough_stays_as_it_is():
    data = picture(64, 20, "BMP")
    assert reduced("//a", data, Reduction(resize=64)) == data


@pytest.mark.parametrize(
    ("written", "sent"), [("2", [2]), ("1-3", [1, 2, 3]), ("4-", [4, 5]), ("5, 1-2", [5, 1, 2])]
)
def test_chosen_pages_are_sent(written, sent):
    assert widths(reduced("//a", pdf(5), Reduction(pages=written))) == sent


@pytest.mark.parametrize(
    ("data", "reduction", "reason"),
    [
        (pdf(2), Reduction(pages="3"), "//a has 2 pages, so there is no 3"),
        (pdf(1), Reduction(pages="1-2"), "//a has 1 page, so there is no 1-2"),
        (pdf(3), Reduction(pages="3-2"), "//a has 3 pages, so there is no 3-2"),
        (b"%PDF-1.7\nrubbish", Reduction(pages="1"), "//a cannot be read as a PDF: "),
        (VAST, Reduction(resize=64), "//a cannot be read as a picture: Image size"),
        (
            b"\x89PNG\r\n\x1a\nrubbish",
            Reduction(resize=64),
            "//a cannot be read as a picture: it is damaged",
        ),
    ],
)
def test_what_cannot_be_reduced_is_refused(data, reduction, reason):
    with pytest.raises(FileProblem) as caught:
        reduced("//a", data, reduction)
    assert str(caught.value).startswith(reason)


def test_a_part_counts_by_its_file_and_what_of_it_is_sent(tmp_path):
    """And so not by the bytes that one version of a library writes."""
    data = picture(400, 100)
    (tmp_path / "a.png").write_bytes(data)
    project, reduction = Project(tmp_path.resolve()), Reduction(resize=64)
    source = AttachmentSource(path="//a.png", reduction=reduction)
    (found,) = find(project, source, relative_to="//flow.yaml")
    url = AttachmentReader(project, forbidden=Keyring()).load(found).part.image_url.url
    assert url.data == reduced("//a.png", data, reduction)
    assert url.sha256 == sha256_of_json([sha256_of(data), {"resize": 64, "pages": None}])


def test_another_size_is_asked_for_and_the_same_is_not(bench):
    bench.write("a.png", picture(400, 100))
    bench.write("b.pdf", pdf(5))
    text = HEAD + (
        "  see: {prompt: x, attachments: [{path: a.png, resize: 64}, {path: b.pdf, pages: 1-2}]}\n"
    )
    bench.run(text)
    bench.run(text)
    assert len(bench.simulator.requests) == 1
    assert bench.states(text) == {"see": ("fresh", ())}
    assert bench.states(text.replace("64", "65"))["see"][0] == "stale"
    bench.run(text.replace("1-2", "1"))
    assert len(bench.simulator.requests) == 2


@pytest.mark.parametrize(
    ("library", "reduction", "reason"),
    [
        ("PIL", Reduction(resize=64), "//a: resize needs pillow; install poeflow[images]"),
        ("pypdf", Reduction(pages="1"), "//a: pages need pypdf; install poeflow[images]"),
    ],
)
def test_both_need_an_extra(monkeypatch, library, reduction, reason):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(FileProblem) as caught:
        reduced("//a", b"x", reduction)
    assert str(caught.value) == reason
