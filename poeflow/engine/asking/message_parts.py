"""A file of the project becomes a part of a message, unless it holds a secret.

Smaller pictures and chosen pages are made with libraries that are an extra.
"""

import io
import logging
import warnings
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Final

import msgspec

from poeflow.client.messages import (
    Content,
    DataUrl,
    FileData,
    FilePart,
    ImagePart,
    ImageUrl,
    Part,
    TextPart,
)
from poeflow.digest import sha256_of, sha256_of_json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import NotTextError, text_of
from poeflow.project.attachment_files import MAX_FILE_BYTES, Found, Reduction
from poeflow.project.media_types import media_type_in, media_type_of, mismatch, normal
from poeflow.project.pinned_file import PinnedFile
from poeflow.project.project import FileProblem, Project
from poeflow.redact import Keyring, windows, word_marks

_PATTERNS: Final = (
    (lazy_pattern(rb"PRIVATE KEY(?: BLOCK)?-----"), "a private key"),
    (lazy_pattern(rb"gh[pousr]_[A-Za-z0-9]{36}(?![A-Za-z0-9])"), "a GitHub token"),
    (lazy_pattern(rb"github_pat_[A-Za-z0-9_]{40}"), "a GitHub token"),
    (lazy_pattern(rb"glpat-[A-Za-z0-9_-]{20}"), "a GitLab token"),
    (lazy_pattern(rb"xox[abprs]-[A-Za-z0-9-]{10}"), "a Slack token"),
    (lazy_pattern(rb"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"), "a Google API key"),
    (lazy_pattern(rb"sk_live_[A-Za-z0-9]{24}"), "a Stripe key"),
    (lazy_pattern(rb"sk-(?:ant|proj)-[A-Za-z0-9_-]{20}"), "an API key of another service"),
    (lazy_pattern(rb"AKIA[0-9A-Z]{16}(?![0-9A-Z])"), "an AWS access key"),
    (lazy_pattern(rb"ASIA[0-9A-Z]{16}(?![0-9A-Z])"), "an AWS access key"),
)
"""Each begins with fixed bytes, which `re` looks for at the speed of memory: 20 MB in 50 ms."""
_WORD: Final = b"w" * 15
"""What is in the words of all that these find but a private key."""
_LONGEST: Final = 64
"""More bytes than any of the patterns needs, and one after it."""
_COMPRESSED: Final = ("image/", "audio/", "video/")
_LARGE: Final = 1024 * 1024
"""Bytes of a file above which they are not held in memory."""
MAX_HELD: Final = 64 * 1024 * 1024
_KEPT_FORMATS: Final = frozenset({"JPEG", "PNG", "WEBP"})
"""Formats in which a picture is written again; others become PNG."""
_QUALITY: Final = 90
_INSTALL: Final = "install poeflow[images]"


def _secret_in(data: Content, media_type: str, forbidden: Keyring) -> str:
    """Return the name of a secret in `data`, or an empty text. `forbidden` are API keys.

    Pictures, sound and film are searched for API keys only: they have no text.
    """
    patterns = () if media_type.startswith(_COMPRESSED) else _PATTERNS
    found = dict.fromkeys((name for _, name in patterns), False)
    may_be_key, window = False, b""
    for window in windows(_pieces_of(data), max(_LONGEST, forbidden.overlap)):
        words = word_marks(window)
        may_be_key = may_be_key or forbidden.may_be_in(window, words)
        for pattern, name in patterns if _WORD in words else patterns[:1]:
            match = None if found[name] else pattern.search(window)
            found[name] |= match is not None and match.end() < len(window)
    if may_be_key and forbidden.is_in(_whole(data)):
        return "your API key"
    last = window[-_LONGEST:]  # what ends with the file
    return next((name for pattern, name in patterns if found[name] or pattern.search(last)), "")


def _pieces_of(data: Content) -> Iterable[bytes]:
    return (data,) if isinstance(data, bytes) else data


def _whole(data: Content) -> bytes:
    return b"".join(_pieces_of(data))


_UNSAFE_IN_NAMES: Final = lazy_pattern(
    r'[\x00-\x1f\x7f-\x9f"\\/\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]'
)


class HashedUrl(DataUrl, frozen=True, kw_only=True):
    """The bytes of a file whose sha256 is known already."""

    sha256: str


class LoadedPart(msgspec.Struct, frozen=True, kw_only=True):
    """A message part. `warning` is set if a file's content does not match its name."""

    part: Part
    warning: str = ""


class _File(msgspec.Struct, frozen=True):
    """A file as it was read. `stamp` changes when the file does."""

    stamp: tuple[int, int, int]
    data: Content
    sha256: str
    detected: str
    secret: str

    @property
    def held(self) -> int:
        """How many bytes of it are in memory."""
        return len(self.data) if isinstance(self.data, bytes) else 0


class AttachmentReader:
    """Reads the attachments of one run: each file once, as long as it does not change.

    `forbidden` are the keys that no file may hold. At most `MAX_HELD` bytes stay in memory.
    """

    def __init__(self, project: Project, *, forbidden: Keyring) -> None:
        self._project = project
        self._forbidden = forbidden
        self._held: dict[str, _File] = {}
        self._size = 0
        self._parts: dict[str, bytes] = {}
        self._digests: dict[str, tuple[tuple[int, int, int], str]] = {}

    def digest(self, path: str) -> str:
        """Return the sha256 of a file. Raises `FileProblem`."""
        hashed = self._digests.get(path)
        if hashed is not None and hashed[0] == self._stamp(path):
            return hashed[1]
        return self._file(path).sha256

    def load(self, found: Found) -> LoadedPart:
        """Read a found attachment, or pass an address on unchanged.

        Pictures become `image_url` parts; other files, and all with `as: file`, become `file`
        parts; those with `as: text` become text, between tags with their names. Raises
        `FileProblem` if the file cannot be read any more, is empty, is not a text `as: text`, or
        holds a secret: a private key, an access token, or a forbidden key.
        """
        if found.path is None:
            url = found.url or ""
            return LoadedPart(part=ImagePart(image_url=ImageUrl(url=url)))
        file = self._file(found.path)
        _refuse(found.path, file)
        own_name = PurePosixPath(found.path).name
        media_type = normal(found.media_type or file.detected)
        name = _UNSAFE_IN_NAMES.sub("_", found.name or own_name)
        if found.as_ == "text":
            return LoadedPart(part=_text_part(found.path, name, _whole(file.data)))
        data_url = HashedUrl(media_type=media_type, data=file.data, sha256=file.sha256)
        if found.reduction is not None:
            data_url = self._reduced(found.path, data_url, found.reduction)
        return LoadedPart(
            part=_part(found, name, data_url),
            warning="" if found.media_type else mismatch(own_name, media_type),
        )

    def _reduced(self, path: str, whole: HashedUrl, reduction: Reduction) -> HashedUrl:
        """Return a part of a file. It counts by the file and the part, not by its own bytes.

        So another version of a library, which may write other bytes, asks nothing again.
        """
        about = [whole.sha256, msgspec.structs.asdict(reduction)]
        sha256 = sha256_of_json(about)
        known = self._parts.get(sha256)
        if known is None:
            known = reduced(path, _whole(whole.data), reduction)
            if sum(map(len, self._parts.values())) + len(known) > MAX_HELD:
                self._parts.clear()
            self._parts[sha256] = known
        media_type = normal(media_type_of(PurePosixPath(path).name, known))
        return HashedUrl(media_type=media_type, data=known, sha256=sha256)

    def _file(self, path: str) -> _File:
        """Return a file from memory if it is unchanged, else read it."""
        stamp = self._stamp(path)
        held = self._held.get(path)
        if held is not None and held.stamp == stamp:
            return held
        data = self._content(path, size=stamp[1])
        detected = media_type_in(PurePosixPath(path).name, _pieces_of(data))
        secret = _secret_in(data, detected, self._forbidden)
        digest = sha256_of(data) if isinstance(data, bytes) else data.sha256
        file = _File(stamp, data, digest, detected, secret)
        self._digests[path] = stamp, file.sha256
        self._hold(path, file)
        return file

    def _content(self, path: str, *, size: int) -> bytes | PinnedFile:
        """Return the bytes of a file; those of a large one are read whenever they are needed.

        While git has a merge under way, all are read at once: there may be conflict marks.
        """
        if size > _LARGE and not self._project.is_merging:
            return self._project.pinned(path, limit=MAX_FILE_BYTES)
        return self._project.read_bytes(path, limit=MAX_FILE_BYTES)

    def _hold(self, path: str, file: _File) -> None:
        """Store a file in memory, and drop the oldest ones if there are too many bytes."""
        before = self._held.pop(path, None)
        self._held[path] = file
        self._size += file.held - (0 if before is None else before.held)
        while self._size > MAX_HELD:
            oldest = next(iter(self._held))
            self._size -= self._held.pop(oldest).held

    def _stamp(self, path: str) -> tuple[int, int, int]:
        """Return the facts of a file that change when the file does."""
        try:
            status = self._project.path_of(path).stat()
        except (OSError, ValueError):
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_size, status.st_ino)


def _refuse(path: str, file: _File) -> None:
    """Raise `FileProblem` if a file is empty, or holds a secret."""
    if not file.data:
        raise FileProblem(f"{path} is empty", hint="fill it, or do not attach it")
    if file.secret:
        message = f"{path} holds {file.secret}"
        raise FileProblem(message, hint="remove it, or do not attach the file")


def _text_part(path: str, name: str, data: bytes) -> TextPart:
    hint = "save it as UTF-8, or remove as: text"
    if b"\0" in data:
        raise FileProblem(f"{path} holds a NUL byte, so it is not a text", hint=hint)
    try:
        text = text_of(data)
    except NotTextError as error:
        raise FileProblem(f"{path} is not UTF-8 text (line {error.line})", hint=hint) from None
    end = "" if text.endswith("\n") else "\n"
    return TextPart(text=f'<file name="{name}">\n{text}{end}</file>')


def _part(found: Found, name: str, url: DataUrl) -> Part:
    is_image = url.media_type.startswith("image/")
    if found.as_ == "image" and not is_image:
        message = f"{found.path} is {url.media_type} and no image"
        raise FileProblem(message, hint="attach it as: file")
    if is_image and found.as_ != "file":
        return ImagePart(image_url=ImageUrl(url=url))
    return FilePart(file=FileData(filename=name, file_data=url))


def reduced(path: str, data: bytes, reduction: Reduction) -> bytes:
    """Return a part of the file at `path`. Raises `FileProblem`."""
    if reduction.resize is not None:
        data = _resized(path, data, reduction.resize)
    if reduction.pages is not None:
        data = _with_pages(path, data, reduction.pages)
    return data


def _resized(path: str, data: bytes, longest: int) -> bytes:
    """Return a picture with at most `longest` pixels a side, unchanged if it is not larger."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise FileProblem(f"{path}: resize needs pillow", hint=_INSTALL) from None
    too_large = (Image.DecompressionBombWarning, Image.DecompressionBombError)
    try:
        with (
            warnings.catch_warnings(action="error", category=too_large[0]),
            Image.open(io.BytesIO(data)) as picture,
        ):
            if max(picture.size) <= longest:
                return data
            form = picture.format if picture.format in _KEPT_FORMATS else "PNG"
            smaller = ImageOps.exif_transpose(picture)
            smaller.thumbnail((longest, longest))
            found = io.BytesIO()
            smaller.save(found, form, quality=_QUALITY)
    except (OSError, ValueError, *too_large) as error:
        is_unknown = isinstance(error, UnidentifiedImageError)
        reason = "it is damaged, or of an unknown kind" if is_unknown else str(error)
        hint = "attach it without resize:, or save it again"
        raise FileProblem(f"{path} cannot be read as a picture: {reason}", hint=hint) from None
    return found.getvalue()


def _with_pages(path: str, data: bytes, written: str) -> bytes:
    """Return a PDF of the pages that are written as `1-3, 7, 9-`."""
    try:
        from pypdf import PdfReader, PdfWriter
        from pypdf.errors import PyPdfError
    except ImportError:
        raise FileProblem(f"{path}: pages need pypdf", hint=_INSTALL) from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it logs what it mends
    writer, found = PdfWriter(), io.BytesIO()
    try:
        reader = PdfReader(io.BytesIO(data))
        for number in _numbers(written, len(reader.pages), path):
            writer.add_page(reader.pages[number - 1])
        writer.write(found)
    except (PyPdfError, OSError, ValueError, KeyError, RecursionError) as error:
        hint = "attach it without pages:, or save it again"
        raise FileProblem(f"{path} cannot be read as a PDF: {error}", hint=hint) from None
    return found.getvalue()


def _numbers(written: str, count: int, path: str) -> Iterator[int]:
    """Yield the numbers of pages, of `count`. Raises `FileProblem` if one is not there."""
    for part in written.split(","):
        first, dash, last = part.strip().partition("-")
        begin = int(first)
        end = int(last) if last else count if dash else begin
        if not begin <= end <= count:
            pages = "1 page" if count == 1 else f"{count} pages"
            raise FileProblem(f"{path} has {pages}, so there is no {part.strip()}", hint="")
        yield from range(begin, end + 1)
