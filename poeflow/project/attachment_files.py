"""Finds the files of an attachment: existing, inside the project, and not too many."""

from typing import Final, Literal, Protocol
from urllib.parse import urlsplit

import msgspec

from poeflow.project.conflicts import MAX_POINTER
from poeflow.project.globs import is_pattern, matches
from poeflow.project.media_types import binary_type
from poeflow.project.private_files import NO_MATCH_HINT
from poeflow.project.project import FileProblem, Project
from poeflow.redact import visible

MAX_FILE_BYTES: Final = 20 * 1024 * 1024
MAX_STEP_BYTES: Final = 50 * 1024 * 1024
MAX_FILES: Final = 200
As = Literal["auto", "image", "file", "text"]


class Reduction(msgspec.Struct, frozen=True, kw_only=True):
    """What of a file is sent: a picture with at most `resize` pixels a side, `pages` of a PDF."""

    resize: int | None = None
    pages: str | None = None


class AttachmentSource(msgspec.Struct, frozen=True, kw_only=True):
    """An attachment as written: a path or glob, or the https address of an image."""

    path: str | None = None
    url: str | None = None
    as_: As = "auto"
    name: str | None = None
    media_type: str | None = None
    reduction: Reduction | None = None


class Entry(Protocol):
    """How an entry of `attachments` says to send what it names."""

    @property
    def as_(self) -> As: ...

    @property
    def media_type(self) -> str | None: ...

    @property
    def resize(self) -> int | None: ...

    @property
    def pages(self) -> int | str | None: ...


def attachment_source(
    entry: Entry, *, path: str | None, url: str | None = None, name: str | None = None
) -> AttachmentSource:
    """Return what an entry attaches, of which path, address and name are rendered."""
    pages = None if entry.pages is None else str(entry.pages)
    is_whole = entry.resize is None and pages is None
    return AttachmentSource(
        path=path,
        url=url,
        as_=entry.as_,
        name=name,
        media_type=entry.media_type,
        reduction=None if is_whole else Reduction(resize=entry.resize, pages=pages),
    )


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One attachment: a canonical path in the project, or an address. `size` is in bytes."""

    path: str | None = None
    url: str | None = None
    size: int = 0
    as_: As = "auto"
    name: str | None = None
    media_type: str | None = None
    reduction: Reduction | None = None


def find(project: Project, source: AttachmentSource, *, relative_to: str) -> tuple[Found, ...]:
    """Return the files of `source`, written in the file `relative_to`; those of a glob are sorted.

    Nothing is read yet. Raises `FileProblem` if a file is missing, a folder, outside or too large.
    """
    if source.url is not None:
        return (_linked(source),)
    if source.path is None:
        raise AssertionError("the schema requires a path or a url")
    canonical = project.canonical(source.path, relative_to=relative_to)
    if not is_pattern(canonical) or project.has(canonical):
        return (_file(project, canonical, source),)
    paths = matches(project, canonical)
    if not paths:
        raise FileProblem(f"{source.path} matches no file", hint=NO_MATCH_HINT)
    if len(paths) > MAX_FILES:
        message = f"{source.path} matches {len(paths)} files; the limit is {MAX_FILES}"
        raise FileProblem(message, hint="narrow the pattern")
    if source.name is not None and len(paths) > 1:
        message = f"{source.path} matches {len(paths)} files and all would be called {source.name}"
        raise FileProblem(message, hint="remove name:")
    return tuple(_file(project, path, source) for path in paths)


def check_total(found: tuple[Found, ...]) -> None:
    """Check the total size and number of a step's attachments. Raises `FileProblem`."""
    total = sum(item.size for item in found)
    if total > MAX_STEP_BYTES:
        message = f"the step's attachments have {total:,} bytes; the limit is {MAX_STEP_BYTES:,}"
        raise FileProblem(message, hint="attach fewer or smaller files")
    if len(found) > MAX_FILES:
        message = f"the step has {len(found)} attachments; the limit is {MAX_FILES}"
        raise FileProblem(message, hint="attach fewer files")


def _linked(source: AttachmentSource) -> Found:
    url = source.url or ""
    if visible(url) != url or any(character.isspace() for character in url):
        raise FileProblem("an address has white space or control characters", hint="encode them")
    if not _is_plain_https(url):
        hint = "link an image as https://host/path, or attach a file"
        raise FileProblem(f"{url} is not a plain https address", hint=hint)
    if source.as_ in ("file", "text"):
        hint = "download the file into the project and attach its path"
        raise FileProblem("the API accepts addresses only for images", hint=hint)
    if source.reduction is not None:
        hint = "download the file into the project and attach its path"
        raise FileProblem("what an address links to is sent by the address alone", hint=hint)
    return Found(url=url, as_="image")


def _is_plain_https(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:  # brackets without an address
        return False
    return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc


def _file(project: Project, canonical: str, source: AttachmentSource) -> Found:
    if project.has(canonical) and project.path_of(canonical).is_dir():
        hint = f"attach its files with {(source.path or '').rstrip('/')}/*"
        raise FileProblem(f"{canonical} is a folder", hint=hint)
    kind = binary_type(canonical)
    _check_reduction(canonical, source.reduction, kind)
    if source.as_ == "text" and kind:
        raise FileProblem(f"{canonical} is {kind} and no text", hint="remove as: text")
    size = project.size_of(canonical)
    if size > MAX_FILE_BYTES:
        message = f"{canonical} has {size:,} bytes; the limit is {MAX_FILE_BYTES:,}"
        raise FileProblem(message, hint="make it smaller, or link an image with url:")
    if size <= MAX_POINTER:
        project.read_bytes(canonical, limit=MAX_FILE_BYTES)  # it may be a pointer of git-lfs
    if size == 0:
        raise FileProblem(f"{canonical} is empty", hint="fill it, or do not attach it")
    return Found(
        path=canonical,
        size=size,
        as_=source.as_,
        name=source.name,
        media_type=source.media_type,
        reduction=source.reduction,
    )


def _check_reduction(canonical: str, reduction: Reduction | None, kind: str) -> None:
    """Check that a file is a picture or PDF by its name. Raises `FileProblem`."""
    if reduction is None:
        return
    if reduction.resize is not None and not kind.startswith("image/"):
        raise FileProblem(f"{canonical} is not a picture", hint="remove resize:")
    if reduction.pages is not None and kind != "application/pdf":
        raise FileProblem(f"{canonical} is not a PDF", hint="remove pages:")
