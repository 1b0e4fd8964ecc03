"""Media are found in answers however bots write them, and named by what they hold."""

import base64
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.answers.media_links import file_in, file_name, media_kind_of, urls_in
from poeflow.errors import StepError
from poeflow.simulator.sample_media import media_address, media_at, media_content

ASSETS = Path(__file__).parents[2] / "flows" / "assets"
IMAGE = "https://pfst.cf2.poecdn.net/base/image/0f?w=1024&h=1024"
FILM = "https://pfst.cf2.poecdn.net/base/video/1e"
PNG = (ASSETS / "logo.png").read_bytes()
CODE = base64.b64encode(PNG).decode()
DATA = f"data:image/png;base64,{CODE}"
WRAPPED = "data:image/png;base64," + base64.encodebytes(PNG).decode().rstrip()
SIGNED = "https://a.example/b.png?w=1&h=2"
FTYP = b"\0\0\0\x20ftyp"


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        (f"![an otter.png]({IMAGE})\n\n{IMAGE}", [IMAGE]),
        (f"![otter_image_1]({IMAGE})\n\n\n{IMAGE}", [IMAGE]),
        (FILM, [FILM]),
        (f"  {FILM}\n", [FILM]),
        (f"![a]b (c) [d](e).png]({IMAGE})", [IMAGE]),
        (f"![a\nb.png]({IMAGE})![c]({FILM})", [IMAGE, FILM]),
        (f"![a]({IMAGE} 'a title')", [IMAGE]),
        (f"![a](<{IMAGE}>)", [IMAGE]),
        (f"![a]( {IMAGE} )", [IMAGE]),
        (f"Here: [film]({FILM}), and a picture: {IMAGE}.", [FILM, IMAGE]),
        (f"**{FILM}**, _{IMAGE}_", [FILM, IMAGE]),
        (f"(see {FILM})", [FILM]),
        (f"<{FILM}>; '{IMAGE}'!", [FILM, IMAGE]),
        (f'<img src="{IMAGE}">', [IMAGE]),
        (f"[{FILM}]({FILM})", [FILM]),
        (f"| {FILM}|{IMAGE}|", [FILM, IMAGE]),
        (f"影片：{FILM}，谢谢", [FILM]),
        ("https://a.example/b_(c)/[d].png)", ["https://a.example/b_(c)/[d].png"]),
        ("[a](https://a.example/b_(c).png)", ["https://a.example/b_(c).png"]),
        ("[a](https://a.example/b.)", ["https://a.example/b."]),
        ("HTTP://A.example:8080/x", ["HTTP://A.example:8080/x"]),
        ("https://[2001:db8::1]/x", ["https://[2001:db8::1]/x"]),
        ("https://a.example/x(y]z", ["https://a.example/x(y"]),
        ("http:// https:///x https://. ftp://a.example/x data:image/png;base64,AA", []),
        ("httpſ://a.example/x", []),
        ("", []),
        ("A picture of an otter.", []),
    ],
)
def test_addresses_are_found_in_prose(text, urls):
    assert urls_in(text) == tuple(urls)


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        ('<img src="https://a.example/b.png?w=1&amp;h=2">', [SIGNED]),
        ("![a](https://a.example/b.png?w=1&#38;h=2)", [SIGNED]),
        ("https://a.example/b.png?w=1&#x26;h=2.", [SIGNED]),
        ('{"url": "https://a.example/b.png?w=1&amp;h=2"}', [SIGNED]),
        (f"&lt;img src=&quot;{SIGNED}&quot;/&gt;", [SIGNED]),
        (f"&lt;img src=&#39;{SIGNED}&#39;&gt;", [SIGNED]),
        ("https://a.example/?a=1&copy=2", ["https://a.example/?a=1&copy=2"]),
        (f"<img src='{SIGNED}'/>", [SIGNED]),
        (f"['{FILM}','{SIGNED}']", [FILM, SIGNED]),
        (f"{FILM},{SIGNED};{IMAGE}", [FILM, SIGNED, IMAGE]),
        (f"<{FILM},{SIGNED}>", [FILM, SIGNED]),
        (
            "https://a.example/?of=https://b.example/,c",
            ["https://a.example/?of=https://b.example/,c"],
        ),
        (r"[a](https://a.example/a\_b\*c.png)", ["https://a.example/a_b*c.png"]),
        (f'![a]({FILM} "it\'s")\n![b]({IMAGE})', [FILM, IMAGE]),
    ],
)
def test_addresses_are_read_out_of_markup(text, urls):
    assert urls_in(text) == tuple(urls)


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        (DATA, [DATA]),
        (f"![a]({DATA})", [DATA]),
        (f'![a]({DATA} "title") and ![b]({IMAGE})', [DATA, IMAGE]),
        (f"<img src='{DATA}'/>", [DATA]),
        (f"Here:\n\n{DATA}\nIt is done.", [DATA]),
        (f"![a]({WRAPPED})", [DATA]),
        (f"DATA:image/png;charset=x;BASE64,{CODE}", [f"data:image/png;charset=x;BASE64,{CODE}"]),
        (f"{DATA},{DATA}", [DATA]),
        (f'{{"url": "{DATA}"}}', [DATA]),
        (f'{{"image_url": {{"url": "{DATA}"}}}}', [DATA]),
        (
            f'{{"data": [{{"b64_json": "{CODE}"}}]}}',
            [f"data:application/octet-stream;base64,{CODE}"],
        ),
        (f"![as data:image/png;base64,{CODE} it is.png]({IMAGE})", [IMAGE]),
        (f"metadata:image/png;base64,{CODE}", []),
        (f"data:text/html;base64,{CODE}", []),
        ("Write data:image/png;base64,AAAA first.", []),
        ('{"url": "data:image/png;base64,é"}', []),
        ("data:image/svg+xml;utf8,<svg onload='x'>", []),
    ],
)
def test_a_file_in_the_answer_itself_is_found(text, urls):
    assert urls_in(text) == tuple(urls)


@pytest.mark.parametrize(
    "url",
    [
        DATA,
        DATA.rstrip("="),
        DATA.replace("+", "%2B").replace("=", "%3D"),
        DATA.replace("+", "-").replace("/", "_").replace("image_png", "image/png"),
    ],
)
def test_a_file_in_an_address_is_read(url):
    assert file_in(url, limit=len(PNG) + 2) == PNG


def test_an_address_of_a_server_holds_no_file():
    assert file_in(IMAGE, limit=1) is None


@pytest.mark.parametrize(
    ("url", "limit", "told"),
    [
        (
            "data:image/png;base64," + "A" * 1_500_000,
            1024 * 1024,
            "a file in the answer is larger than 1 MiB; ask the bot for less",
        ),
        (
            "data:image/png;base64,AAAAA",
            1024,
            "a file in the answer is cut off, or is not base64; ask again with --failed",
        ),
        (
            "data:image/png;base64,%FFAA",
            1024,
            "a file in the answer is cut off, or is not base64; ask again with --failed",
        ),
    ],
)
def test_a_file_in_an_address_that_is_none_is_told(url, limit, told):
    with pytest.raises(StepError) as caught:
        file_in(url, limit=limit)
    assert str(caught.value) == told


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        (f'{{"url":"{IMAGE}","mimeType":"image/png"}}', [IMAGE]),
        (f' {{"mimeType": "video/mp4", "url": " {FILM} "}}\n', [FILM]),
        ('{"url":"https:\\/\\/a.example\\/b"}', ["https://a.example/b"]),
        (f'[{{"url":"{FILM}"}},{{"url":"{IMAGE}"}},{{"url":"{FILM}"}}]', [FILM, IMAGE]),
        (f'{{"data":[{{"url":"{FILM}"}}],"more":{{"url":"{IMAGE}"}}}}', [FILM, IMAGE]),
        (f'{{"url":"{FILM}","about":"https://a.example/"}}', [FILM]),
        (f'{{"text":"![a]({IMAGE})"}}', [IMAGE]),
        (f'{{"url":"{FILM}"}} and more', [FILM]),
        (f'```json\n{{"url": "{FILM}"}}\n```', [FILM]),
        ('{"url":"file:///etc/passwd","urls":[1,null]}', []),
        ('{"url":["https"]}', []),
    ],
)
def test_addresses_are_found_in_json(text, urls):
    assert urls_in(text) == tuple(urls)


@pytest.mark.parametrize(
    ("text", "urls"),
    [
        (f"![like https://a.example/b.png but blue.png]({IMAGE})\n\n{IMAGE}", [IMAGE]),
        (f"![like https://a.example/b (c)]d.png]({IMAGE})", [IMAGE]),
        (f"Wow![1] {FILM}", [FILM]),
        (f"Wow![1] {FILM}\n \n[a]({IMAGE})", [FILM, IMAGE]),
        (f"Wow![1] {FILM} ![a]({IMAGE})", [FILM, IMAGE]),
        (f"![a]({IMAGE}) {FILM}", [IMAGE, FILM]),
    ],
)
def test_an_image_s_text_is_not_searched(text, urls):
    assert urls_in(text) == tuple(urls)


@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_what_the_simulator_answers_is_found(kind):
    url = media_address(kind, "x", "http://127.0.0.1:8123", {})
    assert urls_in(media_content(kind, url, "A (b) [c] ](d) ![e")) == (url,)


def test_an_address_longer_than_any_is_none():
    assert urls_in(f"https://a.example/{'x' * 4_096} {FILM}") == (FILM,)
    assert urls_in(f'{{"url":"https://a.example/{"x" * 4_096}"}}') == ()


@pytest.mark.parametrize(
    "piece",
    [
        "![",
        "![](",
        "](",
        "] (",
        "https://",
        "https://a)",
        "![https://a",
        "https://a(",
        "https://a[)",
        "\n ",
        "<",
        "[",
        '{"url":',
        "](\t",
        "data:image/png;base64,",
        "data:image/png;base64," + "A" * 76 + "\n",
        "data:image/png;base64," + "A" * 77,
        "https://a&amp;",
        "'https://a,",
        "https://a\\_",
    ],
)
def test_hostile_texts_take_linear_time(piece):
    began = time.process_time()
    urls_in((piece * 1_000_000)[:1_000_000])
    urls_in("![a](" + (piece * 1_000_000)[:1_000_000])
    assert time.process_time() - began < 10


@given(st.text(alphabet="![]()<>{}\"':/.htps a\n\\é", max_size=60))
def test_whatever_the_text_is_addresses_are_pieces_of_it(text):
    found = urls_in(text)
    assert len(set(found)) == len(found)
    assert all(url.startswith(("http://", "https://")) and url in text for url in found)


@given(st.lists(st.sampled_from([IMAGE, FILM, "http://127.0.0.1:8123/base/audio/2d"])))
def test_each_address_is_found_once_in_order(urls):
    assert urls_in("\n\n".join(f"![x]y.png]({url})\n{url}" for url in urls)) == tuple(
        dict.fromkeys(urls)
    )


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n\0", ("image/png", ".png")),
        (b"\xff\xd8\xff\xe0", ("image/jpeg", ".jpg")),
        (b"GIF89a\x01\0", ("image/gif", ".gif")),
        (b"RIFF\x24\0\0\0WEBPVP8 ", ("image/webp", ".webp")),
        (FTYP + b"avif\0\0", ("image/avif", ".avif")),
        (FTYP + b"isom\0\0", ("video/mp4", ".mp4")),
        (b"\x1aE\xdf\xa3\x8f\x42\x82\x84webm", ("video/webm", ".webm")),
        (FTYP + b"qt  \0\0", ("video/quicktime", ".mov")),
        (b"ID3\x04\0\0", ("audio/mp3", ".mp3")),
        (b"\xff\xfb\x90\x64\0", ("audio/mp3", ".mp3")),
        (b"RIFF\x24\0\0\0WAVEfmt ", ("audio/wav", ".wav")),
        (b"OggS\0\x02", ("audio/ogg", ".ogg")),
        (b"fLaC\0\0\0\x22", ("audio/flac", ".flac")),
        (FTYP + b"M4A \0\0", ("audio/mp4", ".m4a")),
        (b"%PDF-1.7\n", ("application/pdf", ".pdf")),
        (b"BM\x36\0\0\0", None),
        (b"PK\x03\x04\x14\0", None),
        (b"MZ\x90\0", None),
        (b"GIF89a/*<script>*/", None),
        (b"", None),
    ],
)
def test_kinds_follow_from_content(data, kind):
    assert media_kind_of(data) == kind


def test_a_name_is_the_content_s_hash_and_kind():
    assert file_name((ASSETS / "logo.png").read_bytes()) == "3f1f330ae379c174.png"
    assert file_name(b"%PDF-") == "38523c087796e5d5.pdf"


@pytest.mark.parametrize(
    ("kind", "extension"), [("image", "png"), ("video", "mp4"), ("audio", "wav")]
)
def test_what_the_simulator_serves_has_a_name(kind, extension):
    media = media_at(media_address(kind, "x", "", {}).partition("?")[0], {"w": "8", "h": "8"})
    assert media_kind_of(media.data) == (media.media_type, f".{extension}")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (b"<svg onload='x'>", "SVG, which can hold script"),
        (b"\xef\xbb\xbf <?xml version='1.0'?>\n<SVG>", "SVG, which can hold script"),
        (b"\n<!doctype html><title>no</title>", "a web page"),
        (b"Your request was refused.", "text"),
        (b"PK\x03\x04\x14\0", "application/zip"),
        (b"MZ\x90\0", "of no known kind"),
    ],
)
def test_what_is_no_media_has_no_name(data, told):
    with pytest.raises(StepError) as caught:
        file_name(data)
    assert str(caught.value) == (
        f"the file the bot returned is {told}, which is not saved;"
        " pictures, films, sounds and PDF are; ask the bot for one"
    )
