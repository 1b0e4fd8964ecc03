import io
import re
import struct
import wave
import zlib

import httpx
import pytest
from simulator_desk import text_of

IMAGE = re.compile(
    r"!\[(?P<alt>.*)\.png\]\((?P<url>http://sim/base/image/[0-9a-f]{64}\?w=\d+&h=\d+)\)\n\n(?P=url)"
)


@pytest.mark.parametrize(
    ("model", "fields", "size"),
    [
        ("Imagen-4", {}, (1024, 1024)),
        ("Imagen-4", {"aspect_ratio": "16:9"}, (1024, 576)),
        ("DALL-E-3", {"aspect": "4:7"}, (585, 1024)),
        ("FLUX-2-Pro", {}, (1024, 768)),
        ("FLUX-2-Pro", {"extra_body": {"aspect": "9:16"}}, (576, 1024)),
    ],
)
def test_pictures_are_addressed_twice_with_their_size(desk, model, fields, size):
    match = IMAGE.fullmatch(text_of(desk.ask("An otter,\nswimming", model=model, **fields)))
    assert match is not None
    assert match["alt"] == "An otter, swimming"
    path = match["url"].removeprefix("http://sim")
    reply = desk.send("GET", path)
    assert dict(reply.headers)["content-type"] == "image/png"
    assert picture_size(reply.segments[0].data) == size
    assert desk.send("GET", path).segments == reply.segments


def picture_size(data: bytes) -> tuple[int, int]:
    """Read a PNG to the last byte, checksums and pixels included."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, chunks = 8, {}
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        name, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        (checksum,) = struct.unpack(">I", data[at + 8 + size : at + 12 + size])
        assert checksum == zlib.crc32(name + body)
        chunks[name] = body
        at += 12 + size
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    pixels = zlib.decompress(chunks[b"IDAT"])
    assert len(pixels) == (width + 1) * height
    assert max(pixels) < len(chunks[b"PLTE"]) // 3
    return width, height


def test_other_prompts_give_other_pictures(desk):
    texts = [text_of(desk.ask(prompt, model="Imagen-4")) for prompt in ("a", "b")]
    one, other = (desk.send("GET", IMAGE.fullmatch(t)["url"][10:]).segments[0].data for t in texts)
    assert one != other


def test_films_are_a_bare_address_of_an_mp4(desk):
    url = text_of(desk.ask(model="Sora-2"))
    assert re.fullmatch(r"http://sim/base/video/[0-9a-f]{64}", url)
    reply = desk.send("GET", url.removeprefix("http://sim"))
    data = reply.segments[0].data
    assert dict(reply.headers)["content-type"] == "video/mp4"
    boxes = dict(read_boxes(data))
    assert list(boxes) == [b"ftyp", b"moov", b"mdat"]
    media = dict(read_boxes(dict(read_boxes(dict(read_boxes(boxes[b"moov"]))[b"trak"]))[b"mdia"]))
    assert list(media) == [b"mdhd", b"hdlr", b"minf"]
    table = dict(read_boxes(dict(read_boxes(media[b"minf"]))[b"stbl"]))
    (at,) = struct.unpack(">I", table[b"stco"][8:12])
    (size,) = struct.unpack(">I", table[b"stsz"][12:16])
    assert picture_size(data[at : at + size]) == (320, 180)
    assert data[at : at + size] == boxes[b"mdat"]
    assert len(dict(read_boxes(boxes[b"moov"]))[b"mvhd"]) == 100
    assert len(dict(read_boxes(dict(read_boxes(boxes[b"moov"]))[b"trak"]))[b"tkhd"]) == 84
    assert len(media[b"mdhd"]) == 24
    assert len(table[b"stsd"]) == 8 + 86


def read_boxes(data: bytes):
    at = 0
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        assert size >= 8
        assert at + size <= len(data)
        yield name, data[at + 8 : at + size]
        at += size


def test_sounds_are_a_bare_address_of_a_tone(desk):
    url = text_of(desk.ask(model="ElevenLabs-v3"))
    assert re.fullmatch(r"http://sim/base/audio/[0-9a-f]{64}", url)
    reply = desk.send("GET", url.removeprefix("http://sim"))
    assert dict(reply.headers)["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(reply.segments[0].data)) as tone:
        facts = (tone.getnchannels(), tone.getsampwidth(), tone.getframerate(), tone.getnframes())
        samples = tone.readframes(4000)
    assert facts == (1, 2, 8000, 4000)
    assert max(struct.unpack("<4000h", samples)) > 7000


@pytest.mark.parametrize(
    ("query", "size"),
    [
        ("", (1024, 1024)),
        ("?w=7&h=3", (7, 3)),
        ("?w=0&h=99999", (1, 4096)),
        ("?w=x&h=²", (1024, 1024)),
        ("?w=-5", (1024, 1024)),
    ],
)
def test_sizes_from_outside_are_bounded(desk, query, size):
    reply = desk.send("GET", f"/base/image/{'0f' * 32}{query}")
    assert picture_size(reply.segments[0].data) == size


def test_media_are_served_under_the_own_origin(sim):
    body = {"model": "Imagen-4", "messages": [{"role": "user", "content": "otter"}]}
    answer = httpx.post(f"{sim.base_url}/chat/completions", json=body).json()
    url = answer["choices"][0]["message"]["content"].rpartition("\n")[2]
    assert url.startswith(f"{sim.origin}/base/image/")
    assert picture_size(httpx.get(url).content) == (1024, 1024)
