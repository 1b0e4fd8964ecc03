"""Small real recordings: a tone as WAV, a still picture as MP4."""

import array
import math
import struct
import sys
from typing import Final

import msgspec

_RATE: Final = 8_000
_LOUDNESS: Final = 8_000
_UNIT: Final = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
"""The transformation that changes nothing, as MP4 writes it."""
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
    """A film of one frame of `size` bytes, shown for `length` milliseconds."""

    size: int
    width: int
    height: int
    length: int


def mp4(frame: bytes, width: int, height: int, seconds: int) -> bytes:
    """Return a film that shows `frame`, a PNG, for some seconds."""
    film = _Film(size=len(frame), width=width, height=height, length=seconds * 1000)
    kind = _box(b"ftyp", b"isom", struct.pack(">I", 512), b"isomiso2mp41")
    movie = _movie(film, at=0)
    movie = _movie(film, at=len(kind) + len(movie) + 8)
    return kind + movie + _box(b"mdat", frame)


def _movie(film: _Film, *, at: int) -> bytes:
    """Return the box that describes a film whose frame begins `at`."""
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
    """Return the sample table: one PNG, and how long it is shown."""
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
