"""Answers by fingerprint, and the media they name; entries are pruned by age, size or use."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec

from poeflow.digest import Json, canonical, decode_json, encode_json, sha256_of
from poeflow.errors import DiskError
from poeflow.opener import read_beneath, read_plain
from poeflow.project.project import atomic_write
from poeflow.store.folders import disk_errors, make_private
from poeflow.store.lockfile import MAX_BYTES as MAX_LOCK_BYTES

FORMAT: Final = 1
MAX_BYTES: Final = 256 * 1024 * 1024
"""Of an entry: what a server may send, with every character escaped."""
MAX_MEDIA_BYTES: Final = 64 * 1024 * 1024
_MAX_POINTER: Final = 1024
RESERVE: Final = 1024 * 1024
"""Bytes that must be free before a request is sent: room for the answers that are under way."""
_UNDECODABLE: Final = (ValueError, RecursionError)
_FINGERPRINT: Final = re.compile(r"[0-9a-f]{64}")


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stored answer. `sha256` is the hash of the canonical `answer`.

    `answered_by` names the model that stood in for the one that was asked, if any. `request` is
    what the fingerprint is the hash of, attachments as hashes.
    """

    format: int
    fingerprint: str
    sha256: str
    answer: dict[str, Json]
    answered_by: str | None = None
    request: dict[str, Json] | None = None


class _Header(msgspec.Struct, frozen=True):
    format: int


class Cache:
    """Content-addressed answers below `folder`, one file each: `ab/<fingerprint>.json`.

    An entry that does not hold what its hash says counts as a miss, is set aside, never deleted,
    and told to `on_corrupt` in one sentence. So does one of another format, which stays in place.
    Where it is not `is_used`, all that is asked for is a miss.
    """

    def __init__(
        self, folder: Path, *, on_corrupt: Callable[[str], None], is_used: bool = True
    ) -> None:
        self._is_used = is_used
        self._folder = folder
        self._on_corrupt = on_corrupt

    def check_place(self, fingerprint: str) -> None:
        """Raise `DiskError` where the answer to a request that is about to be sent has no place.

        A disk without blocks to count, as some network folders are, is taken to have space.
        """
        folder = next(one for one in (self._folder, *self._folder.parents) if one.exists())
        with disk_errors(folder, "looked at"):
            disk = os.statvfs(folder)
        if disk.f_blocks and disk.f_bavail * disk.f_frsize < RESERVE:
            message = f"{folder}: less than {RESERVE // 1024:,} KiB are free"
            raise DiskError(message, hint="free some space and run again; no answer was lost")
        if self._path(fingerprint).is_dir():
            message = f"{self._path(fingerprint)} is a folder where an answer is stored"
            raise DiskError(message, hint="move it away")

    def get(self, fingerprint: str) -> dict[str, Json] | None:
        """Return the stored answer, or None. Raises `DiskError` where it cannot be read."""
        entry = self.entry(fingerprint)
        return None if entry is None else entry.answer

    def entry(self, fingerprint: str) -> CacheEntry | None:
        """Return the stored answer with who gave it, or None. Raises as `get`."""
        path = self._path(fingerprint)
        data = self._content(path, MAX_BYTES) if self._is_used else None
        if data is None:
            return None
        entry = _sound_entry(data, fingerprint)
        if entry is not None:
            return entry
        if _is_of_another_format(data):
            self._on_corrupt(f"{path} was stored by another version of poeflow; it is not used")
        else:
            self._set_aside(path)
        return None

    def put(
        self,
        fingerprint: str,
        answer: Mapping[str, Json],
        *,
        answered_by: str | None = None,
        request: Mapping[str, Json] | None = None,
    ) -> None:
        """Store an answer; it is on disk when this returns. Raises `DiskError`."""
        path = self._path(fingerprint)
        make_private(self._folder)
        make_private(path.parent)
        entry = CacheEntry(
            format=FORMAT,
            fingerprint=fingerprint,
            sha256=sha256_of(canonical(answer)),
            answer=dict(answer),
            answered_by=answered_by,
            request=None if request is None else dict(request),
        )
        atomic_write(path, encode_json(entry), mode=0o600)

    def link(self, first: str, last: str) -> None:
        """Keep that the conversation begun with the request `first` ended with the one `last`."""
        path = self._folder / "ends" / first
        for folder in (self._folder, path.parent):
            make_private(folder)
        atomic_write(path, last.encode() + b"\n", mode=0o600)

    def end(self, first: str) -> CacheEntry | None:
        """Return how the conversation begun with the request `first` ended, or None."""
        if not self._is_used:
            return None
        last = self._pointer(self._folder / "ends" / first)
        return self.entry(last) if last and _FINGERPRINT.fullmatch(last) else None

    def media(self, url: str) -> bytes | None:
        """Return the file that was fetched from `url`, or None. Raises as `get`."""
        pointer = self._media_path(sha256_of(url.encode()))
        digest = self._pointer(pointer) if self._is_used else None
        if digest is None:
            return None
        named = self._media_path(digest, of="files")
        is_named = _FINGERPRINT.fullmatch(digest) is not None
        data = self._content(named, MAX_MEDIA_BYTES) if is_named else b""
        if data is None or sha256_of(data) == digest:
            return data
        self._on_corrupt(f"{pointer} was damaged; the file is fetched again")
        return None

    def put_media(self, url: str, data: bytes) -> None:
        """Keep a fetched file by the hash of its bytes. Raises `DiskError`."""
        digest = sha256_of(data)
        named = self._media_path(digest, of="files")
        pointer = self._media_path(sha256_of(url.encode()))
        for folder in (self._folder, self._folder / "media", named.parent, pointer.parent):
            make_private(folder)
        atomic_write(named, data, mode=0o600)
        atomic_write(pointer, digest.encode() + b"\n", mode=0o600)

    def _content(self, path: Path, limit: int) -> bytes | None:
        """Return what a file of the store holds, None where there is none. Raises `DiskError`.

        Neither it nor a folder on the way may be a link.
        """
        root = self._folder.parent
        with disk_errors(path, "read"):
            try:
                return read_beneath(root, path.relative_to(root).parts, limit=limit)
            except FileNotFoundError:
                return None

    def _pointer(self, path: Path) -> str | None:
        data = self._content(path, _MAX_POINTER)
        return None if data is None else data.decode("ascii", "replace").strip()

    def _media_path(self, digest: str, *, of: str = "urls") -> Path:
        return self._folder / "media" / of / digest

    def _path(self, fingerprint: str) -> Path:
        if not _FINGERPRINT.fullmatch(fingerprint):
            raise AssertionError("a fingerprint is 64 hexadecimal digits")
        return self._folder / fingerprint[:2] / f"{fingerprint}.json"

    def _set_aside(self, path: Path) -> None:
        aside = path.with_suffix(".corrupt")
        with contextlib.suppress(OSError):  # read-only, or another run was faster
            path.replace(aside)
        self._on_corrupt(f"{path} was damaged; it is kept as {aside.name} and asked again")


def _sound_entry(data: bytes, fingerprint: str) -> CacheEntry | None:
    try:
        entry = msgspec.convert(decode_json(data), CacheEntry)
    except _UNDECODABLE:
        return None
    is_expected = (entry.format, entry.fingerprint) == (FORMAT, fingerprint)
    return entry if is_expected and sha256_of(canonical(entry.answer)) == entry.sha256 else None


def _is_of_another_format(data: bytes) -> bool:
    try:
        return msgspec.convert(decode_json(data), _Header).format != FORMAT
    except _UNDECODABLE:
        return False


_HASH: Final = re.compile(rb'"request": ?"([0-9a-f]{64})"')


def prune_cache(
    folder: Path, *, older: float | None, max_bytes: int | None, locks: Iterable[Path] | None
) -> tuple[int, int]:
    """Drop entries below `folder`; return how many, and their bytes.

    `older` is in seconds since an entry was stored; `max_bytes` is what may stay, the newest
    first; `locks` are lock files, and what none of them mentions is dropped. Raises `DiskError`,
    also if a lock cannot be read: what it mentions would be lost.
    """
    if folder.is_symlink():
        hint = "replace the link by a folder"
        raise DiskError(f"{folder} is a link; nothing is dropped through it", hint=hint)
    files = [path for path in folder.rglob("*") if path.is_file()]
    stats = {path: path.stat() for path in files}
    doomed: set[Path] = set()
    if older is not None:
        limit = time.time() - older
        doomed |= {path for path in files if stats[path].st_mtime < limit}
    if locks is not None:
        named = _with_ends(folder, {name for lock in locks for name in _named_in(lock)})
        doomed |= {p for p in files if p.suffix == ".json" and p.stem not in named}
    if max_bytes is not None:
        size = 0
        for path in sorted(files, key=lambda one: stats[one].st_mtime, reverse=True):
            size += stats[path].st_size
            if size > max_bytes:
                doomed.add(path)
    for path in doomed:
        path.unlink(missing_ok=True)
    return len(doomed), sum(stats[path].st_size for path in doomed)


def _with_ends(folder: Path, named: set[str]) -> set[str]:
    """Return the named requests with those their conversations ended with."""
    ends = {path.name: _end(path) for path in (folder / "ends").glob("*")}
    return named | {ends[name] for name in named if name in ends}


def _named_in(lock: Path) -> set[str]:
    """Return the requests that a lock mentions, whatever else it holds. Raises `DiskError`."""
    try:
        found = _HASH.findall(read_plain(lock, limit=MAX_LOCK_BYTES))
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        hint = "mend or remove it: what it mentions would be dropped"
        raise DiskError(f"{lock}: {reason}", hint=hint) from None
    return {name.decode() for name in found}


def _end(path: Path) -> str:
    """Return the request that a conversation ended with; nothing where that is damaged."""
    try:
        return read_plain(path, limit=_MAX_POINTER).decode("ascii", "replace").strip()
    except OSError:
        return ""
