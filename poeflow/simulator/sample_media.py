"""Small real images, audio and videos for the simulator's answers.

A file is computed from its address, so nothing has to be stored.
"""

import array
import math
import struct
import sys
import zlib
from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from poeflow.digest import Json, sha256_of
from poeflow.lazy_pattern import lazy_pattern

_FIELDS: Final = 8
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def png(colours: bytes, width: int, height: int) -> bytes:
    """Return a PNG of the given size; the first 24 bytes of `colours` are its palette."""
    palette = colours[: 3 * _FIELDS]
    rows = [_row(shift, width) for shift in range(_FIELDS)]
    pixels = b"".join(rows[line * _FIELDS // height] for line in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return b"".join(
        (
            _SIGNATURE,
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", palette),
            _chunk(b"IDAT", zlib.compress(pixels)),
            _chunk(b"IEND", b""),
        )
    )


def _row(shift: int, width: int) -> bytes:
    """Return one line of pixels after its filter byte for no filter."""
    return b"\0" + bytes((column * _FIELDS // width + shift) % _FIELDS for column in range(width))


def _chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


_RATE: Final = 8_000
_LOUDNESS: Final = 8_000
_UNIT: Final = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
"""The identity transformation in MP4."""
_UNDETERMINED_LANGUAGE: Final = 0x55C4


def wav(pitch: int, seconds: float) -> bytes:
    """Return a sine tone of `pitch` hertz: 16 bit, one channel."""
    step = 2 * math.pi * pitch / _RATE
    count = int(_RATE * seconds)
    samples = array.array("h", (int(_LOUDNESS * math.sin(step * n)) for n in range(count)))
    if sys.byteorder == "big":
        samples.byteswap()
    data = samples.tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, _RATE, _RATE * 2, 2, 16)
    rest = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(rest)) + rest


class _Film(msgspec.Struct, frozen=True, kw_only=True):
    """A video of one frame of `size` bytes and `length` milliseconds."""

    size: int
    width: int
    height: int
    length: int


def mp4(frame: bytes, width: int, height: int, seconds: int) -> bytes:
    """Return a video that shows `frame`, a PNG, for some seconds."""
    film = _Film(size=len(frame), width=width, height=height, length=seconds * 1000)
    kind = _box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2mp41")
    movie = _movie(film, at=0)
    movie = _movie(film, at=len(kind) + len(movie) + 8)
    return kind + movie + _box(b"mdat", frame)


def _movie(film: _Film, *, at: int) -> bytes:
    """Return the box that describes a video whose frame begins at `at`."""
    width, height, length = film.width, film.height, film.length
    head = struct.pack(">5IiHHQ", 0, 0, 0, 1000, length, 0x10000, 0x100, 0, 0)
    track = struct.pack(">6IQHHHH", 7, 0, 0, 1, 0, length, 0, 0, 0, 0, 0)
    language = struct.pack(">5IHH", 0, 0, 0, 1000, length, _UNDETERMINED_LANGUAGE, 0)
    handler = struct.pack(">II4s12s", 0, 0, b"vide", b"") + b"poeflow\0"
    video = _box(b"vmhd", struct.pack(">IQ", 1, 0))
    reference = _box(b"dref", struct.pack(">II", 0, 1), _box(b"url ", struct.pack(">I", 1)))
    table = _samples(film, at)
    return _box(
        b"moov",
        _box(b"mvhd", head, _UNIT, struct.pack(">6II", *(0,) * 6, 2)),
        _box(
            b"trak",
            _box(b"tkhd", track, _UNIT, struct.pack(">II", width << 16, height << 16)),
            _box(
                b"mdia",
                _box(b"mdhd", language),
                _box(b"hdlr", handler),
                _box(b"minf", video, _box(b"dinf", reference), table),
            ),
        ),
    )


def _samples(film: _Film, at: int) -> bytes:
    """Return the sample table: one PNG and its duration."""
    entry = struct.pack(">6xH16xHHIII", 1, film.width, film.height, 72 << 16, 72 << 16, 0)
    entry += struct.pack(">H32sHh", 1, b"\x03png", 24, -1)
    return _box(
        b"stbl",
        _box(b"stsd", struct.pack(">II", 0, 1), _box(b"png ", entry)),
        _box(b"stts", struct.pack(">IIII", 0, 1, 1, film.length)),
        _box(b"stsc", struct.pack(">IIIII", 0, 1, 1, 1, 1)),
        _box(b"stsz", struct.pack(">IIII", 0, 0, 1, film.size)),
        _box(b"stco", struct.pack(">III", 0, 1, at)),
    )


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", len(body) + 8) + name + body


MediaKind = Literal["image", "video", "audio"]
MAX_SIDE: Final = 4_096
_USUAL_SIDE: Final = 1_024
_FILM_SIZE: Final = (320, 180)
_PATH: Final = lazy_pattern(r"/base/(image|video|audio)/([0-9a-f]{64})")
_RATIO: Final = lazy_pattern(r"(\d{1,4})[:x](\d{1,4})")
_ALT_LENGTH: Final = 200


class Media(msgspec.Struct, frozen=True, kw_only=True):
    media_type: str
    data: bytes


def media_address(kind: MediaKind, seed: str, origin: str, custom: Mapping[str, Json]) -> str:
    """Return the address of the media for `seed`; that of an image includes its size."""
    url = f"{origin}/base/{kind}/{sha256_of(f'{kind}:{seed}'.encode())}"
    if kind != "image":
        return url
    width, height = _size(custom)
    return f"{url}?w={width}&h={height}"


def media_content(kind: MediaKind, url: str, prompt: str) -> str:
    """Return the content of the answer: an address, for images after a Markdown image."""
    if kind != "image":
        return url
    alt = " ".join(prompt.split())[:_ALT_LENGTH]
    return f"![{alt}.png]({url})\n\n{url}"


def media_at(path: str, query: Mapping[str, str]) -> Media | None:
    """Return the file at an address of this server, None if there is none."""
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    colours = bytes.fromhex(match[2])
    match match[1]:
        case "image":
            width, height = (_side(query.get(name)) for name in ("w", "h"))
            return Media(media_type="image/png", data=png(colours, width, height))
        case "video":
            data = mp4(png(colours, *_FILM_SIZE), *_FILM_SIZE, 2)
            return Media(media_type="video/mp4", data=data)
        case _:
            return Media(media_type="audio/wav", data=wav(220 + colours[0] * 2, 0.5))


def _size(custom: Mapping[str, Json]) -> tuple[int, int]:
    """Return width and height by the bot's parameters, which have different names."""
    for name in ("size", "aspect_ratio", "aspect"):
        match = _RATIO.fullmatch(str(custom.get(name, "")))
        if match is None:
            continue
        width, height = max(int(match[1]), 1), max(int(match[2]), 1)
        if name == "size":
            return min(width, MAX_SIDE), min(height, MAX_SIDE)
        longer = max(width, height)
        return width * _USUAL_SIDE // longer, height * _USUAL_SIDE // longer
    return _USUAL_SIDE, _USUAL_SIDE


def _side(text: str | None) -> int:
    is_number = text is not None and text.isdecimal() and len(text) < 6
    return min(max(int(text), 1), MAX_SIDE) if is_number and text else _USUAL_SIDE
