"""Parts of attachments: smaller pictures and chosen pages, with libraries that are an extra."""

import io
import logging
import warnings
from collections.abc import Iterator
from typing import Final

from poeflow.project.attachment_files import Reduction
from poeflow.project.project import FileProblem

_KEPT_FORMATS: Final = frozenset({"JPEG", "PNG", "WEBP"})
"""Formats in which a picture is written again; others become PNG."""
_QUALITY: Final = 90
_INSTALL: Final = "install poeflow[images]"


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
