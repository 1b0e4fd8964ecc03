"""Answers as JSON: one per line in an export, one per file in older versions."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Final

import msgspec

from poeflow.digest import Json, canonical, decode_json, sha256_of
from poeflow.lazy_pattern import lazy_pattern
from poeflow.store.contents import MAX_BYTES
from poeflow.store.folders import disk_errors, state_file

FORMAT: Final = 1
_MAX_POINTER: Final = 1024
_UNDECODABLE: Final = (ValueError, RecursionError)
FINGERPRINT: Final = lazy_pattern(r"[0-9a-f]{64}")
_FOLDER: Final = lazy_pattern(r"[0-9a-f]{2}")


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A stored answer.

    `answered_by` names the fallback model that answered, if any. The fingerprint is the hash of
    `request`, which has attachments as hashes.
    """

    fingerprint: str
    answer: dict[str, Json]
    answered_by: str | None = None
    request: dict[str, Json] | None = None


class AnswerLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stored answer as JSON.

    `fingerprint` is the SHA-256 of the canonical `request`, attachments as hashes; `sha256` that of
    the canonical `answer`, keys sorted and without spaces. `answered_by` names the fallback model
    that answered, if any.
    """

    format: int
    fingerprint: str
    sha256: str
    answer: dict[str, Json]
    answered_by: str | None = None
    request: dict[str, Json] | None = None

    @property
    def entry(self) -> CacheEntry:
        """The answer as it is stored."""
        return CacheEntry(
            fingerprint=self.fingerprint,
            answer=self.answer,
            answered_by=self.answered_by,
            request=self.request,
        )


class EndLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first and the last request of a conversation."""

    format: int
    first: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]
    last: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]

    @classmethod
    def of(cls, first: str, last: str) -> "EndLine | None":
        """Return a conversation's end, None if a name is not a fingerprint."""
        is_sound = FINGERPRINT.fullmatch(first) and FINGERPRINT.fullmatch(last)
        return cls(format=FORMAT, first=first, last=last) if is_sound else None


class _Header(msgspec.Struct, frozen=True):
    format: int


def answer_line(data: bytes, fingerprint: str | None = None) -> AnswerLine | None:
    """Return the answer in a line of JSON, or None if its hash does not match.

    It must have the `fingerprint`, if one is given.
    """
    try:
        line = msgspec.convert(decode_json(data), AnswerLine)
    except _UNDECODABLE:
        return None
    is_expected = line.format == FORMAT and FINGERPRINT.fullmatch(line.fingerprint) is not None
    is_meant = fingerprint in (None, line.fingerprint)
    is_sound = is_expected and is_meant and sha256_of(canonical(line.answer)) == line.sha256
    return line if is_sound else None


def is_of_another_format(data: bytes) -> bool:
    try:
        return msgspec.convert(decode_json(data), _Header).format != FORMAT
    except _UNDECODABLE:
        return False


def pointed_hash(root: Path, pointer: Path) -> str | None:
    """Return the hash that a file below `root` holds, None if there is none. Raises `DiskError`."""
    data = state_file(root, pointer, limit=_MAX_POINTER)
    return None if data is None else data.decode("ascii", "replace").strip()


class OldAnswers:
    """Answers below `folder`, one per file: `ab/<fingerprint>.json`; ends below `ends/`.

    A file whose hash does not match is renamed, never deleted, and `on_corrupt` gets a message. A
    file of another format stays in place, with a message, too.
    """

    def __init__(self, folder: Path, on_corrupt: Callable[[str], None]) -> None:
        self._folder = folder
        self._on_corrupt = on_corrupt
        self.exists = any(True for _ in self.folders())

    def folders(self) -> Iterator[Path]:
        """Yield the folders with answers or ends in them. Raises `DiskError`."""
        with disk_errors(self._folder, "looked at"):
            found = sorted(self._folder.iterdir()) if self._folder.is_dir() else []
        yield from (one for one in found if _FOLDER.fullmatch(one.name) or one.name == "ends")

    def entry(self, fingerprint: str) -> AnswerLine | None:
        """Return an answer, or None. Raises `DiskError` if it cannot be read."""
        if not self.exists:
            return None
        path = self._folder / fingerprint[:2] / f"{fingerprint}.json"
        data = state_file(self._folder.parent, path, limit=MAX_BYTES)
        if data is None:
            return None
        line = answer_line(data, fingerprint)
        if line is not None:
            return line
        if is_of_another_format(data):
            self._on_corrupt(f"{path} was stored by another version of poeflow; it is not used")
        else:
            self._set_aside(path)
        return None

    def end(self, first: str) -> str | None:
        """Return the request that a conversation ended with, or None. Raises as `entry`."""
        if not self.exists:
            return None
        return pointed_hash(self._folder.parent, self._folder / "ends" / first)

    def like(self, begin: str) -> set[str]:
        """Return the fingerprints with this beginning, of answers and of conversations."""
        patterns = (f"{begin[:2]}/{begin}*.json", f"ends/{begin}*") if self.exists else ()
        names = (path.stem for pattern in patterns for path in self._folder.glob(pattern))
        return {name for name in names if FINGERPRINT.fullmatch(name)}

    def _set_aside(self, path: Path) -> None:
        aside = path.with_suffix(".corrupt")
        with contextlib.suppress(OSError):  # read-only, or another run was faster
            path.replace(aside)
        self._on_corrupt(
            f"{path} was damaged; it was renamed to {aside.name}, and is requested again"
        )
