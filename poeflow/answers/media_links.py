"""Media in an answer: their addresses, and the names of their files.

The client fetches them, the engine writes them.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from poeflow.digest import Json, decode_json, hash_prefix, sha256_of
from poeflow.errors import StepError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.project.media_types import media_type_of

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
"""The types that are saved. SVG and HTML are not, as they can contain scripts."""
_NAME_LENGTH: Final = 16
_MEDIA_NAME: Final = lazy_pattern(rf"[0-9a-f]{{{_NAME_LENGTH}}}\.[a-z0-9]+")
_MARKS: Final = lazy_pattern(
    r"!\[|(?P<lead>\]\(\s*<?|<)?(?P<url>https?://(?=[a-z0-9\[])|(?<!\w)data:(?=[a-z]+/))"
    r"|\n[ \t\r]*\n",
    re.ASCII | re.IGNORECASE,
)
"""The beginning of an image, an address with the text before it, or an empty line."""
_PIECE: Final = lazy_pattern(
    r"(?:[A-Za-z0-9\-._~:/?#@!$*+=%]|\\[_*&~=#+-])+|(?P<bracket>[()\[\]])"
    r"|&(?:amp|#0*38|#x0*26);|(?P<mark>['&,;])"
)
_ESCAPED: Final = lazy_pattern(r"\\([_*&~=#+-])")
_AMPERSAND: Final = lazy_pattern(r"&(?:amp|#0*38|#x0*26);", re.IGNORECASE)
_STOP: Final = lazy_pattern(
    r"&(?:quot|apos|lt|gt|nbsp|#0*(?:34|39|60|62)|#x0*(?:22|27|3c|3e));|[,;](?=https?://|data:)",
    re.IGNORECASE,
)
"""A quote or bracket as an HTML entity, and separators between two addresses."""
_DATA: Final = lazy_pattern(
    r"data:(?:image|audio|video|application)/[\w.+-]{1,99}(?:;[\w.=+-]{1,99}){0,4};base64,"
    r"(?P<payload>(?:(?:[\w+/%-]{76}|[\w+/%-]{64})[ \t\r]*+\n[ \t]*+)*+[\w+/%-]*+=*+)",
    re.ASCII | re.IGNORECASE,
)
"""A file in the address itself (RFC 2397), in one line or in those that base64 is wrapped to."""
_SHORTEST: Final = 24
"""No picture, film or sound has less base64; an example of such an address has."""
_DATA_HEAD: Final = "data:"
_MIB: Final = 1024 * 1024
_OPENING: Final = {")": "(", "]": "["}
_PUNCTUATION: Final = ".,:;!?'*_~"
_LONGEST: Final = 4_096


def urls_in(text: str) -> tuple[str, ...]:
    """Return the http(s) and `data:` addresses an answer holds, in order, each once.

    They are in Markdown images and links, in HTML, in the text, or under `url` in a JSON answer
    (`{"url": ..., "mimeType": ...}`). Addresses in the alternative text of an image are left out:
    bots write the prompt there, unescaped. `&amp;` is `&` in an address. Whether an address may be
    fetched is not checked. Takes linear time for any text.
    """
    return tuple(dict.fromkeys(_in_document(text) or _in_prose(text)))


def file_in(url: str, *, limit: int) -> bytes | None:
    """Return the file that a `data:` address holds, of at most `limit` bytes; None for others.

    Raises `StepError` if it is larger, or not base64.
    """
    if not url.startswith(_DATA_HEAD):
        return None
    payload = unquote(url.partition(",")[2])
    if len(payload) * 3 // 4 > limit:
        message = f"a file in the answer is larger than {limit / _MIB:g} MiB"
        raise StepError(message, hint="ask the bot for less")
    plain = "".join(payload.split()).replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        message = "a file in the answer is cut off, or is not base64"
        raise StepError(message, hint="ask again with --failed") from None


def media_kind_of(data: bytes) -> tuple[str, str] | None:
    """Return a file's media type and extension by its content, None if it is never saved."""
    media_type = media_type_of("", data)
    extension = _EXTENSIONS.get(media_type)
    return (media_type, extension) if extension is not None else None


def file_name(data: bytes) -> str:
    """Return the name of a saved file: 16 hex digits of its SHA-256, and the extension.

    Equal files have equal names. Raises `StepError` unless its content is a picture, film, sound or
    PDF; SVG and HTML are refused, as they can contain scripts.
    """
    kind = media_kind_of(data)
    if kind is None:
        message = f"the file the bot returned is {_described(data)}, which is not saved"
        raise StepError(message, hint="pictures, films, sounds and PDF are; ask the bot for one")
    return sha256_of(data)[:_NAME_LENGTH] + kind[1]


def is_media_name(path: str) -> bool:
    """Whether a path ends in a name made by `file_name`."""
    return _MEDIA_NAME.fullmatch(path.rpartition("/")[2]) is not None


def edited_media(files: Mapping[str, str]) -> tuple[dict[str, str], ...]:
    """Return those of an instance's files that are media but not as drawn, if there are any.

    `files` are short hashes by path. The name of such a file is that of other content: it was
    edited and accepted.
    """
    found = {
        path: digest
        for path, digest in files.items()
        if is_media_name(path) and path[path.rfind(".") :] in _EXTENSIONS.values()
        if not path.rpartition("/")[2].startswith(hash_prefix(digest)[:_NAME_LENGTH])
    }
    return (found,) if found else ()


def _in_document(text: str) -> list[str]:
    """Return the addresses under `url` and `b64_json` in a text if it is JSON."""
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
                found += _address(members.get("url")) + _encoded(members.get("b64_json"))
                waiting += reversed(members.values())
    return found


def _encoded(value: Json) -> list[str]:
    """Return base64 from an image API as a `data:` address."""
    text = f"data:application/octet-stream;base64,{value}" if isinstance(value, str) else ""
    return _address(text)


def _address(value: Json) -> list[str]:
    """Return a text that is one address and nothing else, as a list."""
    url = value.strip() if isinstance(value, str) else ""
    begins = _MARKS.match(url)
    if begins is None or begins["url"] is None:
        return []
    if _is_data(begins):
        found = _DATA.fullmatch(url)
        whole = None if found is None else _whole(found)
        return [] if whole is None else [whole]
    is_address = _end(url, 0) == len(url) <= _LONGEST
    return [_AMPERSAND.sub("&", url)] if is_address else []


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
        url, at = _marked(text, mark)
        if (mark["lead"] or "").startswith("]("):
            in_alt = None
        if url is None:
            continue
        if in_alt is None:
            yield url
        else:
            in_alt.append(url)
    yield from in_alt or ()


def _marked(text: str, mark: re.Match[str]) -> tuple[str | None, int]:
    """Return the address that begins at a mark, or None, and the offset after it."""
    start = mark.start("url")
    if _is_data(mark):
        found = _DATA.match(text, start)
        return (None, mark.end()) if found is None else (_whole(found), found.end())
    end = _end(text, start, is_quoted=text[start - 1 : start] == "'")
    url = text[start:end]
    is_led = mark["lead"] and _STOP.match(text, end) is None
    url = url if is_led else url.rstrip(_PUNCTUATION)
    url = _AMPERSAND.sub("&", _ESCAPED.sub(r"\1", url))
    return (url if len(url) <= _LONGEST else None), end


def _is_data(mark: re.Match[str]) -> bool:
    return (mark["url"] or "").lower() == _DATA_HEAD


def _whole(found: re.Match[str]) -> str | None:
    """Return a `data:` address on one line, None if it is too short to hold a file."""
    if len(found["payload"]) < _SHORTEST:
        return None
    return _DATA_HEAD + "".join(found[0][len(_DATA_HEAD) :].split())


def _end(text: str, start: int, *, is_quoted: bool = False) -> int:
    """Return the offset after the address at `start`; if it `is_quoted`, a single quote ends it.

    It may have pairs of brackets; a bracket that closes an earlier one is not part of it.
    """
    at, opened = start, list[str]()
    while (piece := _PIECE.match(text, at)) is not None:
        bracket = piece["bracket"]
        if bracket in ("(", "["):
            opened.append(bracket)
        elif bracket is not None and (not opened or opened.pop() != _OPENING[bracket]):
            break
        if piece["mark"] and (_STOP.match(text, at) or (is_quoted and piece["mark"] == "'")):
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
