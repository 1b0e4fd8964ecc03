"""The list of models on disk, so that 600 kB are not fetched each time. Holds no key.

One file for each base URL; one that cannot be read or written counts as none.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from poeflow.digest import Json, encode_json, sha256_of
from poeflow.errors import DiskError, UsageError
from poeflow.opener import read_followed
from poeflow.project.project import atomic_write

_MAX_BYTES: Final = 64 * 1024 * 1024


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """`fetched` is when, in seconds since 1970."""

    fetched: float
    document: dict[str, Json]


def kept(base_url: str, folder: Path | None, *, max_age: float, now: float) -> Json:
    """Return the document of `base_url` where it is younger than `max_age` seconds, else None.

    Raises `UsageError` where an argument is of the wrong type.
    """
    if isinstance(max_age, bool) or not isinstance(max_age, int | float):
        raise UsageError("max_age must be seconds")
    if folder is not None and not isinstance(folder, Path):
        raise UsageError("folder must be a Path")
    try:
        data = read_followed(_path(base_url, folder), limit=_MAX_BYTES)
        found = msgspec.json.decode(data, type=Kept)
    except (OSError, ValueError, RecursionError):
        return None
    return found.document if 0 <= now - found.fetched < max_age else None


def keep(base_url: str, folder: Path | None, document: Json, *, now: float) -> None:
    """Keep `document` for the next time."""
    if not isinstance(document, Mapping):
        return
    path = _path(base_url, folder)
    with contextlib.suppress(DiskError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, encode_json({"fetched": now, "document": document}))


def _path(base_url: str, folder: Path | None) -> Path:
    if folder is None:
        from platformdirs import user_cache_path

        folder = user_cache_path("poeflow")
    return folder / f"models-{sha256_of(base_url.encode())[:16]}.json"
