"""The media type of a file, by its content and then its name, as the API documents them."""

import codecs
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final

_SIGNATURES: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"ID3", "audio/mp3"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b", "application/gzip"),
)
_PDF: Final = b"%PDF-"
_RIFF: Final = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
_FTYP: Final = {
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heic",
}
_ZIPPED: Final = {
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".epub": "application/epub+zip",
}
_KINDS: Final = {
    "application/zip": _ZIPPED,
    "audio/ogg": {".ogv": "video/ogg"},
    "video/mp4": {".m4a": "audio/mp4"},
    "video/webm": {".mkv": "video/x-matroska", ".weba": "audio/webm"},
}
_TEXT: Final = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".md": "text/markdown",
    ".xml": "text/xml",
    ".yaml": "text/yaml",
    ".yml": "text/yaml",
}
"""Markup that a viewer would run (SVG, HTML) is not included: it is sent as plain text."""
_BINARY: Final = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".pdf": "application/pdf",
    ".wav": "audio/wav",
    ".mp3": "audio/mp3",
    ".m4a": "audio/mp4",
    ".ogg": "audio/ogg",
    ".flac": "audio/flac",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
    ".webm": "video/webm",
    ".mkv": "video/x-matroska",
    ".zip": "application/zip",
    ".gz": "application/gzip",
    **_ZIPPED,
}
_OTHER_NAMES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "audio/mpeg": "audio/mp3",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "image/svg+xml": "text/plain",
    "text/html": "text/plain",
    "application/xhtml+xml": "text/plain",
}
UNKNOWN: Final = "application/octet-stream"
TEXT: Final = "text/plain"
_PIECE: Final = 1024 * 1024
_EBML_HEAD: Final = 64


def media_type_of(name: str, data: bytes) -> str:
    """Return what `media_type_in` does for the content `data`."""
    return media_type_in(name, (data,))


def media_type_in(name: str, pieces: Iterable[bytes]) -> str:
    """Return the media type of a file called `name` with a content in pieces, the first not short.

    The content decides; the name only chooses among the remaining types (of text, of zip). Every
    binary format here but PDF has bytes that are not in text, so a text that begins like an image
    is still text.
    """
    suffix = PurePosixPath(name).suffix.lower()
    head = next(iter(pieces), b"")
    if head.startswith(_PDF):
        return "application/pdf"
    if _is_text(pieces):
        return _TEXT.get(suffix, TEXT)
    found = _by_content(head)
    return _KINDS.get(found, {}).get(suffix, found)


def mismatch(name: str, media_type: str) -> str:
    """Return a message if the name suggests another type than the content, else an empty text."""
    suffix = PurePosixPath(name).suffix.lower()
    promised = _BINARY.get(suffix) or _TEXT.get(suffix) or (TEXT if suffix == ".txt" else None)
    if promised is None or promised == media_type:
        return ""
    return f"{name} is named like {promised} but holds {media_type}; it is sent as {media_type}"


def binary_type(name: str) -> str:
    """Return the media type that a name suggests if it is none of text, else an empty text."""
    return _BINARY.get(PurePosixPath(name).suffix.lower(), "")


def normal(media_type: str) -> str:
    """Return the registered or documented name of a media type with other common names.

    The API's page shows `audio/mp3`. `image/jpg` is not registered. Markup is sent as plain text.
    """
    return _OTHER_NAMES.get(media_type.lower(), media_type.lower())


def _by_content(data: bytes) -> str:
    for signature, media_type in _SIGNATURES:
        if data.startswith(signature):
            return media_type
    if data[:4] == b"RIFF":
        return _RIFF.get(data[8:12], UNKNOWN)
    if data[4:8] == b"ftyp":
        return _FTYP.get(data[8:12], "video/mp4")
    if data[:4] == b"\x1aE\xdf\xa3":
        return "video/x-matroska" if b"matroska" in data[:_EBML_HEAD] else "video/webm"
    return "audio/mp3" if _is_mpeg_audio(data) else UNKNOWN


def _is_mpeg_audio(data: bytes) -> bool:
    """Return whether data begins with an MPEG layer III frame: sync bits, version and rates."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE6 != 0xE2:
        return False
    return data[1] & 0x18 != 0x08 and data[2] & 0xF0 != 0xF0 and data[2] & 0x0C != 0x0C


def _is_text(pieces: Iterable[bytes]) -> bool:
    """Return whether data is UTF-8 without NUL, checked in pieces to save memory."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for piece in pieces:
            if b"\0" in piece:
                return False
            for start in range(0, len(piece), _PIECE):
                decoder.decode(piece[start : start + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True
