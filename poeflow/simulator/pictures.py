"""A small real picture: an indexed PNG of coloured fields."""

import struct
import zlib
from typing import Final

_FIELDS: Final = 8
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def png(colours: bytes, width: int, height: int) -> bytes:
    """Return a PNG of that many pixels; the first 24 bytes of `colours` are its palette."""
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
    """Return one line of pixels behind its filter byte, which says that nothing is filtered."""
    return b"\0" + bytes((column * _FIELDS // width + shift) % _FIELDS for column in range(width))


def _chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)
