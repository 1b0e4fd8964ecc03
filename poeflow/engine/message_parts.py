"""A file of the project becomes a part of a message, unless it holds a secret."""

import re
from pathlib import PurePosixPath
from typing import Final

import msgspec

from poeflow.client.messages import DataUrl, FileData, FilePart, ImagePart, ImageUrl, Part
from poeflow.digest import sha256_of
from poeflow.project.attachment_files import MAX_FILE_BYTES, Found
from poeflow.project.media_types import media_type_of, mismatch, normal
from poeflow.project.project import FileProblem, Project
from poeflow.redact import Keyring

_PATTERNS: Final = (
    (re.compile(rb"PRIVATE KEY(?: BLOCK)?-----"), "a private key"),
    (re.compile(rb"gh[pousr]_[A-Za-z0-9]{36}(?![A-Za-z0-9])"), "a GitHub token"),
    (re.compile(rb"github_pat_[A-Za-z0-9_]{40}"), "a GitHub token"),
    (re.compile(rb"glpat-[A-Za-z0-9_-]{20}"), "a GitLab token"),
    (re.compile(rb"xox[abprs]-[A-Za-z0-9-]{10}"), "a Slack token"),
    (re.compile(rb"AIza[A-Za-z0-9_-]{35}(?![A-Za-z0-9_-])"), "a Google API key"),
    (re.compile(rb"sk_live_[A-Za-z0-9]{24}"), "a Stripe key"),
    (re.compile(rb"sk-(?:ant|proj)-[A-Za-z0-9_-]{20}"), "an API key of another service"),
    (re.compile(rb"AKIA[0-9A-Z]{16}(?![0-9A-Z])"), "an AWS access key"),
    (re.compile(rb"ASIA[0-9A-Z]{16}(?![0-9A-Z])"), "an AWS access key"),
)
"""Each begins with fixed bytes, which `re` looks for at the speed of memory: 20 MB in 50 ms."""
_COMPRESSED: Final = ("image/", "audio/", "video/")


def secret_in(data: bytes, media_type: str, forbidden: Keyring) -> str:
    """Return what secret `data` holds in words, empty for none. `forbidden` are API keys.

    Pictures, sound and film are looked through for API keys only: they hold no text.
    """
    if forbidden.is_in(data):
        return "your API key"
    if media_type.startswith(_COMPRESSED):
        return ""
    return next((name for pattern, name in _PATTERNS if pattern.search(data)), "")


_UNSAFE_IN_NAMES: Final = re.compile(
    r'[\x00-\x1f\x7f-\x9f"\\/\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]'
)


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A message part and what is known of it. `sha256` and `size` are of the bytes that are sent.

    A linked image has only its `part` and `name`, the address. `warning` is what to say about a
    file that is not what its name promises, else empty.
    """

    part: Part
    name: str
    media_type: str = ""
    sha256: str = ""
    size: int = 0
    warning: str = ""


def load(project: Project, found: Found, *, forbidden: Keyring) -> Loaded:
    """Read a found attachment, or hand an address on as it is.

    Pictures become `image_url` parts, everything else and what is attached `as: file` a `file`
    part. Raises `FileProblem` where the file cannot be read any more, is empty, or holds a
    secret: a private key, an access token, or a key in `forbidden`.
    """
    if found.path is None:
        url = found.url or ""
        return Loaded(part=ImagePart(image_url=ImageUrl(url=url)), name=url)
    data = project.read_bytes(found.path, limit=MAX_FILE_BYTES)
    own_name = PurePosixPath(found.path).name
    detected = media_type_of(own_name, data)
    _check(found.path, data, detected, forbidden)
    media_type = normal(found.media_type or detected)
    name = _UNSAFE_IN_NAMES.sub("_", found.name or own_name)
    return Loaded(
        part=_part(found, name, DataUrl(media_type=media_type, data=data)),
        name=name,
        media_type=media_type,
        sha256=sha256_of(data),
        size=len(data),
        warning="" if found.media_type else mismatch(own_name, media_type),
    )


def _check(path: str, data: bytes, media_type: str, forbidden: Keyring) -> None:
    if not data:
        raise FileProblem(f"{path} is empty", hint="fill it, or do not attach it")
    secret = secret_in(data, media_type, forbidden)
    if secret:
        raise FileProblem(f"{path} holds {secret}", hint="remove it, or do not attach the file")


def _part(found: Found, name: str, url: DataUrl) -> Part:
    is_image = url.media_type.startswith("image/")
    if found.as_ == "image" and not is_image:
        message = f"{found.path} is {url.media_type} and no image"
        raise FileProblem(message, hint="attach it as: file")
    if is_image and found.as_ != "file":
        return ImagePart(image_url=ImageUrl(url=url))
    return FilePart(file=FileData(filename=name, file_data=url))
