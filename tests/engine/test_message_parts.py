"""A found file becomes the documented part, and no secret leaves the machine in one."""

import base64
import hashlib
import json
from urllib.parse import quote

import pytest

from poeflow.client.messages import DataUrl, FileData, FilePart, ImagePart, ImageUrl
from poeflow.engine.message_parts import Loaded, load
from poeflow.project.attachment_files import AttachmentSource, Found, find
from poeflow.project.project import FileProblem, Project
from poeflow.redact import Keyring, Secret

PNG = b"\x89PNG\r\n\x1a\n\0picture"


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path.resolve())


NO_KEYS = Keyring()


def loaded(project, path, data, *, forbidden=NO_KEYS, **source):
    project.path_of(f"//{path}").write_bytes(data)
    wanted = AttachmentSource(path=f"//{path}", **source)
    (found,) = find(project, wanted, relative_to="//flow.yaml")
    return load(project, found, forbidden=forbidden)


def problem(*arguments, **named):
    with pytest.raises(FileProblem) as caught:
        loaded(*arguments, **named)
    return str(caught.value)


def image(data, media_type):
    return ImagePart(image_url=ImageUrl(url=DataUrl(media_type=media_type, data=data)))


def file(name, data, media_type):
    url = DataUrl(media_type=media_type, data=data)
    return FilePart(file=FileData(filename=name, file_data=url))


def test_a_picture(project):
    assert loaded(project, "logo.png", PNG) == Loaded(
        part=image(PNG, "image/png"),
        name="logo.png",
        media_type="image/png",
        sha256=hashlib.sha256(PNG).hexdigest(),
        size=len(PNG),
    )


def test_everything_else_is_a_file(project):
    assert loaded(project, "notes.md", b"# hi\r\n") == Loaded(
        part=file("notes.md", b"# hi\r\n", "text/markdown"),
        name="notes.md",
        media_type="text/markdown",
        sha256=hashlib.sha256(b"# hi\r\n").hexdigest(),
        size=6,
    )


def test_a_picture_as_a_file(project):
    assert loaded(project, "a.png", PNG, as_="file").part == file("a.png", PNG, "image/png")


def test_a_text_as_a_picture(project):
    assert problem(project, "a.svg", b"<svg/>", as_="image") == (
        "//a.svg is text/plain and no image; attach it as: file"
    )


def test_a_wrong_name_is_a_warning(project):
    result = loaded(project, "a.png", b"\xff\xd8\xff\xe0\0")
    assert result.part == image(b"\xff\xd8\xff\xe0\0", "image/jpeg")
    assert result.warning == (
        "a.png is named like image/png but holds image/jpeg; it is sent as image/jpeg"
    )


def test_a_given_type_wins_without_a_warning(project):
    result = loaded(project, "a.png", b"\xff\xd8\xff\xe0\0", media_type="image/jpg")
    assert (result.media_type, result.warning) == ("image/jpeg", "")


def test_a_given_name_is_the_name_that_is_sent(project):
    assert loaded(project, "tone.wav", b"RIFF\0\0\0\0WAVE", name="doorbell.wav").part == file(
        "doorbell.wav", b"RIFF\0\0\0\0WAVE", "audio/wav"
    )


def test_names_are_made_harmless(project):
    name = 'a\r\nb"c\\d/e\u202ef\x85g\u2028h é.txt'
    assert loaded(project, "x.txt", b"x", name=name).name == "a__b_c_d_e_f_g_h é.txt"


def test_a_linked_image(project):
    url = "https://example.org/a.png"
    found = Found(url=url, as_="image")
    assert load(project, found, forbidden=Keyring(Secret("k" * 20))) == Loaded(
        part=ImagePart(image_url=ImageUrl(url=url)), name=url
    )


def test_a_file_emptied_meanwhile(project):
    project.path_of("//a.txt").touch()
    with pytest.raises(FileProblem, match=r"^//a\.txt is empty;"):
        load(project, Found(path="//a.txt", size=3), forbidden=Keyring())


GITHUB = "ghp_" + "a1B2" * 9
PRIVATE = "-----BEGIN {}PRIVATE KEY{}-----"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (PRIVATE.format("", ""), "a private key"),
        (PRIVATE.format("RSA ", ""), "a private key"),
        (PRIVATE.format("OPENSSH ", ""), "a private key"),
        (PRIVATE.format("PGP ", " BLOCK"), "a private key"),
        (f"token={GITHUB}\n", "a GitHub token"),
        (f"x{GITHUB.replace('ghp', 'ghs')}", "a GitHub token"),
        ("github_pat_" + "A1_b" * 20, "a GitHub token"),
        ("id: AKIA" + "A1B2" * 4, "an AWS access key"),
        ("id: ASIA" + "A1B2" * 4, "an AWS access key"),
        ("t=glpat-" + "a1B2_" * 4, "a GitLab token"),
        ("xoxb-1234567890-abc", "a Slack token"),
        ("k: AIza" + "a1B2_" * 7, "a Google API key"),
        ("sk_live_" + "a1B2" * 6, "a Stripe key"),
        ("sk-ant-" + "a1B2_" * 4, "an API key of another service"),
        ("sk-proj-" + "a1B2_" * 4, "an API key of another service"),
        ("key is sesame-12345!", "your API key"),
    ],
)
@pytest.mark.parametrize("name", ["a.txt", "a.pdf", "a.bin"])
def test_secrets_stay_at_home(project, text, what, name):
    begin = {"a.txt": b"", "a.pdf": b"%PDF-1.4\n", "a.bin": b"\0\xff"}[name]
    data = begin + text.encode()
    assert problem(project, name, data, forbidden=Keyring(Secret("sesame-12345"))) == (
        f"//{name} holds {what}; remove it, or do not attach the file"
    )


def test_a_picture_is_looked_through_for_the_key_only(project):
    assert (
        loaded(project, "a.png", PNG + GITHUB.encode(), forbidden=Keyring()).size == len(PNG) + 40
    )
    assert "holds your API key" in problem(
        project, "a.png", PNG + b"sesame-12345", forbidden=Keyring(Secret("sesame-12345"))
    )


@pytest.mark.parametrize(
    "text", [GITHUB[:-1], GITHUB + "x", "AKIA" + "A" * 15, "AKIA" + "A" * 17, "PUBLIC KEY-----"]
)
def test_what_only_resembles_a_secret_is_sent(project, text):
    keys = Keyring(Secret("sesame-12345"))
    assert loaded(project, "a.txt", text.encode(), forbidden=keys).size == len(text)


@pytest.mark.parametrize(
    "spell",
    [
        base64.b64encode,
        lambda key: base64.b64encode(b"x" + key),
        lambda key: base64.b64encode(b"xy" + key + b"z"),
        lambda key: base64.encodebytes(b"x" * 40 + key),
        lambda key: base64.encodebytes(b"x" * 50 + key).replace(b"\n", b"\r\n"),
        lambda key: key.decode().encode("utf-16"),
        lambda key: key.decode().encode("utf-16-be"),
        lambda key: base64.b64encode(key.decode().encode("utf-16-be")),
        lambda key: json.dumps(f"{key.decode()}").encode(),
        lambda key: quote(key.decode(), safe="").encode(),
    ],
)
def test_the_key_in_other_spellings(project, spell):
    key = b"sesame-12345/+open"
    data = b"a: " + spell(key) + b" b\n"
    assert problem(project, "a.txt", data, forbidden=Keyring(Secret(key.decode()))) == (
        "//a.txt holds your API key; remove it, or do not attach the file"
    )


def test_the_key_is_in_no_message(project):
    assert "sesame" not in problem(
        project, "a.txt", b"sesame-12345", forbidden=Keyring(Secret("sesame-12345"))
    )


def test_bytes_are_kept_once_and_not_encoded_yet(project):
    part = loaded(project, "logo.png", PNG).part
    assert isinstance(part, ImagePart)
    assert isinstance(part.image_url.url, DataUrl)
    assert len(part.image_url.url) == len("data:image/png;base64,") + 24
