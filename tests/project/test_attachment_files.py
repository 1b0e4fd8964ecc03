"""What an attachment means is known, and every mistake said, before anything is sent."""

import os

import pytest

from poeflow.project.attachment_files import (
    MAX_FILE_BYTES,
    AttachmentSource,
    Found,
    check_total,
    find,
)
from poeflow.project.project import FileProblem, Project

FLOW = "//flows/notes.yaml"


@pytest.fixture
def project(tmp_path):
    data = tmp_path / "flows" / "data"
    data.mkdir(parents=True)
    (data / "b.pdf").write_bytes(b"%PDF-b")
    (data / "a.pdf").write_bytes(b"%PDF-1")
    (data / "a[1].png").write_bytes(b"png")
    (tmp_path / "logo.png").write_bytes(b"logo")
    return Project(tmp_path.resolve())


def found(project, **source):
    return find(project, AttachmentSource(**source), relative_to=FLOW)


def problem(project, **source):
    with pytest.raises(FileProblem) as caught:
        found(project, **source)
    return str(caught.value)


def test_a_path_is_relative_to_the_file_that_names_it(project):
    assert found(project, path="data/a.pdf") == (Found(path="//flows/data/a.pdf", size=6),)
    assert found(project, path="//logo.png") == (Found(path="//logo.png", size=4),)


def test_what_is_said_about_it_is_kept(project):
    said = {"as_": "file", "name": "x.bin", "media_type": "application/x"}
    assert found(project, path="../logo.png", **said) == (
        Found(path="//logo.png", size=4, as_="file", name="x.bin", media_type="application/x"),
    )


def test_a_glob_is_sorted(project):
    assert found(project, path="data/*.pdf", as_="file") == (
        Found(path="//flows/data/a.pdf", size=6, as_="file"),
        Found(path="//flows/data/b.pdf", size=6, as_="file"),
    )


def test_a_file_with_brackets_in_its_name_is_that_file(project):
    assert found(project, path="data/a[1].png") == (Found(path="//flows/data/a[1].png", size=3),)


def test_an_empty_glob(project):
    assert problem(project, path="data/*.gif") == (
        "data/*.gif matches no file;"
        " check the pattern; dot files, keys, backups and dependencies are never matched"
    )


def test_a_glob_of_too_many(project):
    for number in range(201):
        project.path_of(f"//flows/{number}.txt").write_bytes(b"x")
    assert problem(project, path="*.txt") == (
        "*.txt matches 201 files; the limit is 200; narrow the pattern"
    )


def test_one_name_for_many_files(project):
    assert problem(project, path="data/*.pdf", name="x.pdf") == (
        "data/*.pdf matches 2 files and all would be called x.pdf; remove name:"
    )
    assert found(project, path="data/a.p*", name="x.pdf")[0].name == "x.pdf"


def test_missing(project):
    assert problem(project, path="data/a.pdff") == (
        '//flows/data/a.pdff does not exist; did you mean "a.pdf"?'
    )


def test_a_folder(project):
    assert problem(project, path="data/") == (
        "//flows/data is a folder; attach its files with data/*"
    )


def test_an_empty_file(project):
    project.path_of("//logo.png").write_bytes(b"")
    assert problem(project, path="//logo.png") == (
        "//logo.png is empty; fill it, or do not attach it"
    )


def test_a_pipe(project):
    os.mkfifo(project.path_of("//pipe"))
    assert problem(project, path="//pipe") == "//pipe is not a regular file; copy it to one"


def test_too_large(project):
    with project.path_of("//logo.png").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    assert problem(project, path="//logo.png") == (
        "//logo.png has 20,971,521 bytes; the limit is 20,971,520;"
        " make it smaller, or link an image with url:"
    )


def test_outside(project):
    assert problem(project, path="../../secret").startswith(
        "../../secret: the path leaves the project; "
    )


def test_a_linked_image_stays_as_it_is(project):
    url = "https://example.org/a%20b.png?x=1&y=@2"
    assert found(project, url=url) == (Found(url=url, as_="image"),)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a.png",
        "file:///etc/passwd",
        "data:image/png;base64,AAAA",
        "https:///a.png",
        "https://user:pass@example.org/a.png",
        "https://user@example.org/a.png",
        "https://[::/a.png",
        "a.png",
        "",
    ],
)
def test_other_addresses_are_refused(project, url):
    assert problem(project, url=url) == (
        f"{url} is not a plain https address; link an image as https://host/path, or attach a file"
    )


@pytest.mark.parametrize("url", ["https://e.org/a b", "https://e.org/\n", "https://e.org/\u202e"])
def test_odd_characters_in_an_address(project, url):
    assert problem(project, url=url) == (
        "an address has white space or control characters; encode them"
    )


def test_only_images_are_linked(project):
    assert problem(project, url="https://example.org/a.pdf", as_="file") == (
        "the API accepts addresses only for images;"
        " download the file into the project and attach its path"
    )


def test_a_step_has_limits():
    mebibyte = 1024 * 1024
    check_total(tuple(Found(path="//x", size=10 * mebibyte) for _ in range(5)))
    with pytest.raises(FileProblem) as caught:
        check_total((*(Found(path="//x", size=10 * mebibyte) for _ in range(5)), Found(size=1)))
    assert str(caught.value) == (
        "the step's attachments have 52,428,801 bytes; the limit is 52,428,800;"
        " attach fewer or smaller files"
    )
    check_total((Found(url="https://example.org"),) * 200)
    with pytest.raises(FileProblem) as caught:
        check_total((Found(url="https://example.org"),) * 201)
    assert str(caught.value) == (
        "the step has 201 attachments; the limit is 200; attach fewer files"
    )
