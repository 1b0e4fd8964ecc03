"""What a bot drew, filmed or spoke: the addresses in its answer, and the names its files get.

Fetching is the client's, writing the engine's.
"""

import re
from collections.abc import Iterator
from typing import Final

from poeflow.digest import Json, decode_json, sha256_of
from poeflow.errors import StepError
from poeflow.media_types import media_type_of

_EXTENSIONS: Final = {
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/gif": ".gif",
    "image/webp": ".webp",
    "image/avif": ".avif",
    "video/mp4": ".mp4",
    "video/webm": ".webm",
    "video/quicktime": ".mov",
    "audio/mp3": ".mp3",
    "audio/wav": ".wav",
    "audio/ogg": ".ogg",
    "audio/flac": ".flac",
    "audio/mp4": ".m4a",
    "application/pdf": ".pdf",
}
"""Every kind that is saved. SVG and HTML are not among them: they can hold script."""
_NAME_LENGTH: Final = 16
_MEDIA_NAME: Final = re.compile(rf"[0-9a-f]{{{_NAME_LENGTH}}}\.[a-z0-9]+")
_MARKS: Final = re.compile(
    r"!\[|(?P<lead>\]\(\s*<?|<)?(?P<url>https?://(?=[a-z0-9\[]))|\n[ \t\r]*\n",
    re.ASCII | re.IGNORECASE,
)
"""Where an image begins, an address (and what leads to it), and an empty line."""
_PIECE: Final = re.compile(r"[A-Za-z0-9\-._~:/?#@!$&'*+,;=%]+|(?P<bracket>[()\[\]])")
_OPENING: Final = {")": "(", "]": "["}
_PUNCTUATION: Final = ".,:;!?'*_~"
_LONGEST: Final = 4_096


def urls_in(text: str) -> tuple[str, ...]:
    """Return the http(s) addresses an answer holds, in order, each once.

    They stand in Markdown images and links, bare in the text, or as `url` in an answer that is
    JSON (`{"url": ..., "mimeType": ...}`). What an image's alternative text holds is left out:
    bots write the prompt there, unescaped. Whether an address may be fetched is not judged.
    Takes linear time, whatever the text.
    """
    return tuple(dict.fromkeys(_in_document(text) or _in_prose(text)))


def kind_of(data: bytes) -> tuple[str, str] | None:
    """Return a file's media type and extension by its content, None where it is never saved."""
    media_type = media_type_of("", data)
    extension = _EXTENSIONS.get(media_type)
    return (media_type, extension) if extension is not None else None


def file_name(data: bytes) -> str:
    """Return the name a file is saved under: 16 hex digits of its SHA-256, and the extension.

    Equal files get equal names. Raises `StepError` for what is neither picture, film, sound nor
    PDF by its content; SVG and HTML are refused as they can hold script.
    """
    kind = kind_of(data)
    if kind is None:
        message = f"the file the bot returned is {_described(data)}, which is not saved"
        raise StepError(message, hint="pictures, films, sounds and PDF are; ask the bot for one")
    return sha256_of(data)[:_NAME_LENGTH] + kind[1]


def is_media_name(path: str) -> bool:
    """Tell whether a path ends in a name that `file_name` gives."""
    return _MEDIA_NAME.fullmatch(path.rpartition("/")[2]) is not None


def _in_document(text: str) -> list[str]:
    """Return what stands under `url` in a text that is JSON; nothing where it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return []
    try:
        waiting = [decode_json(text.encode("utf-8", "surrogatepass"))]
    except (ValueError, RecursionError):
        return []
    found: list[str] = []
    while waiting:
        match waiting.pop():
            case list() as items:
                waiting += reversed(items)
            case dict() as members:
                found += _address(members.get("url"))
                waiting += reversed(members.values())
    return found


def _address(value: Json) -> list[str]:
    """Return a text that is one address and nothing else, as a list."""
    url = value.strip() if isinstance(value, str) else ""
    begins = _MARKS.match(url)
    is_address = begins is not None and begins["url"] is not None and _end(url, 0) == len(url)
    return [url] if is_address and len(url) <= _LONGEST else []


def _in_prose(text: str) -> Iterator[str]:
    """Yield addresses from a text, in one pass from mark to mark."""
    at = 0
    in_alt: list[str] | None = None  # since an image began: what belongs to its text, or does not
    while (mark := _MARKS.search(text, at)) is not None:
        at = mark.end()
        if mark["url"] is None:
            yield from in_alt or ()
            in_alt = [] if mark[0] == "![" else None
            continue
        start = mark.start("url")
        at = _end(text, start)
        url = text[start:at]
        is_target = (mark["lead"] or "").startswith("](")
        url = url if mark["lead"] else url.rstrip(_PUNCTUATION)
        if is_target:
            in_alt = None
        if len(url) > _LONGEST:
            continue
        if in_alt is None:
            yield url
        else:
            in_alt.append(url)
    yield from in_alt or ()


def _end(text: str, start: int) -> int:
    """Return where the address that begins at `start` ends.

    It may hold brackets in pairs: one that closes what was opened before it is not its own.
    """
    at, opened = start, list[str]()
    while (piece := _PIECE.match(text, at)) is not None:
        bracket = piece["bracket"]
        if bracket in ("(", "["):
            opened.append(bracket)
        elif bracket is not None and (not opened or opened.pop() != _OPENING[bracket]):
            break
        at = piece.end()
    return at


def _described(data: bytes) -> str:
    if not data:
        return "empty"
    beginning = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    media_type = media_type_of("", data)
    if media_type != "text/plain":
        return "of no known kind" if media_type.endswith("octet-stream") else media_type
    if b"<svg" in beginning:
        return "SVG, which can hold script"
    return "a web page" if beginning.startswith(b"<") else "text"
