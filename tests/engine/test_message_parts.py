"""A found file becomes the documented part, and no secret leaves the machine in one."""

import base64
import hashlib
import json
import os
import tracemalloc
from urllib.parse import quote

import pytest

from poeflow.client.messages import (
    ChatRequest,
    FileData,
    FilePart,
    ImagePart,
    ImageUrl,
    Message,
    TextPart,
)
from poeflow.client.sync import PoeClient
from poeflow.engine.asking.message_parts import AttachmentReader, HashedUrl, LoadedPart
from poeflow.project.attachment_files import AttachmentSource, Found, find
from poeflow.project.pinned_file import PIECE
from poeflow.project.project import FileProblem, Project
from poeflow.project.read_log import ReadLog
from poeflow.redact import Keyring, Secret
from poeflow.simulator.server import Simulator

PNG = b"\x89PNG\r\n\x1a\n\0picture"


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path.resolve())


NO_KEYS = Keyring()


def loaded(project, path, data, *, forbidden=NO_KEYS, **source):
    project.path_of(f"//{path}").write_bytes(data)
    wanted = AttachmentSource(path=f"//{path}", **source)
    (found,) = find(project, wanted, relative_to="//flow.yaml")
    return AttachmentReader(project, forbidden=forbidden).load(found)


def problem(*arguments, **named):
    with pytest.raises(FileProblem) as caught:
        loaded(*arguments, **named)
    return str(caught.value)


def hashed(data, media_type):
    digest = hashlib.sha256(data).hexdigest()
    return HashedUrl(media_type=media_type, data=data, sha256=digest)


def image(data, media_type):
    return ImagePart(image_url=ImageUrl(url=hashed(data, media_type)))


def file(name, data, media_type):
    return FilePart(file=FileData(filename=name, file_data=hashed(data, media_type)))


def test_a_picture(project):
    assert loaded(project, "logo.png", PNG) == LoadedPart(part=image(PNG, "image/png"))


def test_a_text_may_be_part_of_the_message_itself(project):
    told = loaded(project, "notes.md", b"\xef\xbb\xbf# hi\r\n", as_="text")
    assert told == LoadedPart(part=TextPart(text='<file name="notes.md">\n# hi\n</file>'))
    told = loaded(project, "b.py", b"x = 1", as_="text", name='a".py')
    assert told == LoadedPart(part=TextPart(text='<file name="a_.py">\nx = 1\n</file>'))


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.txt", b"caf\xe9\n", "//a.txt is not UTF-8 text (line 1); save it as UTF-8"),
        ("a.txt", b"a\0b", "//a.txt holds a NUL byte, so it is not a text; save it as UTF-8"),
        ("a.png", PNG, "//a.png is image/png and no text; "),
        ("a.txt", b"-----BEGIN PRIVATE KEY-----", "//a.txt holds a private key"),
    ],
)
def test_what_cannot_be_text_is_refused(project, name, data, reason):
    told = problem(project, name, data, as_="text")
    assert told.startswith(reason)


def test_everything_else_is_a_file(project):
    assert loaded(project, "notes.md", b"# hi\r\n") == LoadedPart(
        part=file("notes.md", b"# hi\r\n", "text/markdown")
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
    assert result == LoadedPart(part=image(b"\xff\xd8\xff\xe0\0", "image/jpeg"))


def test_a_given_name_is_the_name_that_is_sent(project):
    assert loaded(project, "tone.wav", b"RIFF\0\0\0\0WAVE", name="doorbell.wav").part == file(
        "doorbell.wav", b"RIFF\0\0\0\0WAVE", "audio/wav"
    )


def test_names_are_made_harmless(project):
    name = 'a\r\nb"c\\d/e\u202ef\x85g\u2028h é.txt'
    sent = "a__b_c_d_e_f_g_h é.txt"
    assert loaded(project, "x.txt", b"x", name=name).part == file(sent, b"x", "text/plain")


def test_a_linked_image(project):
    url = "https://example.org/a.png"
    found = Found(url=url, as_="image")
    reader = AttachmentReader(project, forbidden=Keyring(Secret("k" * 20)))
    assert reader.load(found) == LoadedPart(part=ImagePart(image_url=ImageUrl(url=url)))


def test_a_file_emptied_meanwhile(project):
    project.path_of("//a.txt").touch()
    with pytest.raises(FileProblem, match=r"^//a\.txt is empty;"):
        AttachmentReader(project, forbidden=Keyring()).load(Found(path="//a.txt", size=3))


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
    data = PNG + GITHUB.encode()
    found = loaded(project, "a.png", data, forbidden=Keyring())
    assert found.part == image(data, "image/png")
    assert "holds your API key" in problem(
        project, "a.png", PNG + b"sesame-12345", forbidden=Keyring(Secret("sesame-12345"))
    )


@pytest.mark.parametrize(
    "text", [GITHUB[:-1], GITHUB + "x", "AKIA" + "A" * 15, "AKIA" + "A" * 17, "PUBLIC KEY-----"]
)
def test_what_only_resembles_a_secret_is_sent(project, text):
    keys = Keyring(Secret("sesame-12345"))
    sent = loaded(project, "a.txt", text.encode(), forbidden=keys).part
    assert sent == file("a.txt", text.encode(), "text/plain")


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
    assert isinstance(part.image_url.url, HashedUrl)
    assert len(part.image_url.url) == len("data:image/png;base64,") + 24


class CountedReads(ReadLog):
    """A log that also counts what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.paths: list[str] = []

    def read(self, path, status, data) -> None:
        super().read(path, status, data)
        self.paths.append(path.name)


def test_a_file_is_read_once_as_long_as_it_does_not_change(tmp_path):
    log = CountedReads()
    project = Project(tmp_path.resolve(), log=log)
    (tmp_path / "a.txt").write_text("one")
    reader = AttachmentReader(project, forbidden=NO_KEYS)
    found = Found(path="//a.txt", size=3)
    assert reader.digest("//a.txt") == hashlib.sha256(b"one").hexdigest()
    assert reader.load(found) == reader.load(found)
    assert reader.load(found).part == file("a.txt", b"one", "text/plain")
    assert log.paths == ["a.txt"]
    (tmp_path / "a.txt").write_text("another")
    assert reader.load(found).part == file("a.txt", b"another", "text/plain")
    assert reader.digest("//a.txt") == hashlib.sha256(b"another").hexdigest()
    assert log.paths == ["a.txt", "a.txt"]


LARGE = 1024 * 1024 + 1


def url_of(project, data, name="a.bin", **source):
    return loaded(project, name, data, **source).part.file.file_data


def test_a_large_file_is_read_again_to_be_sent(tmp_path):
    log = CountedReads()
    project = Project(tmp_path.resolve(), log=log)
    data = os.urandom(LARGE + 1)
    (tmp_path / "a.bin").write_bytes(data)
    reader, found = AttachmentReader(project, forbidden=NO_KEYS), Found(path="//a.bin", size=9)
    tracemalloc.start()
    try:
        first, second = (reader.load(found).part.file.file_data for _ in range(2))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    whole = hashed(data, "application/octet-stream")
    for url in (first, second):
        assert b"".join(url.pieces()) == b"".join(whole.pieces())
        assert (len(url), url.sha256, url.media_type) == (
            len(whole),
            whole.sha256,
            whole.media_type,
        )
    assert log.paths == ["a.bin"]
    assert most < LARGE
    (tmp_path / "a.bin").write_bytes(os.urandom(LARGE + 1))
    with pytest.raises(FileProblem, match="changed while it was read"):
        list(first.pieces())
    assert reader.load(found).part.file.file_data.sha256 != whole.sha256


@pytest.mark.parametrize("at", [PIECE - 3, PIECE - 20, 5 * PIECE - 30, LARGE])
def test_a_secret_is_found_where_a_large_file_is_cut(project, at):
    forbidden = Keyring(Secret("sesame-12345/+open"))
    key = base64.encodebytes(b"x" * 40 + b"sesame-12345/+open").rstrip()
    for text, what in ((key, "your API key"), (GITHUB.encode(), "a GitHub token")):
        data = b"\xff" * at + text + b"\xff" * (LARGE - at)
        assert f"holds {what};" in problem(project, "a.bin", data, forbidden=forbidden)


@pytest.mark.parametrize("at", [PIECE - 40, PIECE - 41])
def test_what_only_resembles_a_secret_where_a_large_file_is_cut(project, at):
    data = b"\xff" * at + GITHUB.encode() + b"x" + b"\xff" * LARGE
    assert len(url_of(project, data)) > LARGE


@pytest.mark.parametrize(
    ("last", "media_type"),
    [(b"\n", "text/markdown"), (b"\xc3", "application/octet-stream"), (b"\0", None)],
)
def test_all_of_a_large_file_decides_its_media_type(project, last, media_type):
    data = "é\n".encode() * (LARGE // 3) + last * 3
    found = url_of(project, data, "a.md").media_type
    assert found == (media_type or "application/octet-stream")


def test_a_large_text_may_be_part_of_the_message_itself(project):
    told = loaded(project, "a.md", b"words\n" * LARGE, as_="text").part
    assert told == TextPart(text='<file name="a.md">\n' + "words\n" * LARGE + "</file>")


def test_a_large_file_that_changes_is_not_sent(project):
    url = url_of(project, os.urandom(3 * LARGE))
    part = FilePart(file=FileData(filename="a", file_data=url))
    request = ChatRequest(model="GPT-5.2", messages=(Message(role="user", content=(part,)),))
    data = project.path_of("//a.bin").read_bytes()
    with Simulator() as simulator:
        project.path_of("//a.bin").write_bytes(data[:-1] + b"x")
        with (
            PoeClient(api_key="some-key-12345", base_url=simulator.base_url) as client,
            pytest.raises(FileProblem, match="changed while it was read"),
        ):
            client.ask(request)
        assert not simulator.requests
