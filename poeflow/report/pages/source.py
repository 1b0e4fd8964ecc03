"""The data that pages show: the masked history, and pictures of the project by their hash."""

import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

import msgspec

from poeflow.costs import Prices
from poeflow.digest import sha256_of
from poeflow.errors import PoeflowError
from poeflow.project.media_types import media_type_of
from poeflow.project.project import Project
from poeflow.records import InstanceRecord, Records, RequestRow, RunFilter, RunRow
from poeflow.redact import Scrubber, masked

MOST_BYTES: Final = 20 * 1024 * 1024
_SHOWN: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"})
"""Types that browsers draw and never run: no SVG, no HTML."""
_SUFFIXES: Final = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif"})
_SKIPPED: Final = frozenset({"node_modules", "__pycache__", "venv"})
_MOST_ENTRIES: Final = 20_000
_MOST_HASHED: Final = 256 * 1024 * 1024
"""Bytes that one search of the project reads; the hashes are stored for the next."""
_T = TypeVar("_T")


class Picture(msgspec.Struct, frozen=True):
    """A picture, with the media type of its bytes."""

    media_type: str
    data: bytes


class Pictures:
    """Finds pictures by the SHA-256 of their bytes, in the project and its simulated outputs."""

    def __init__(self, project: Project, simulated: Project) -> None:
        self._projects = (project, simulated)
        self._known: dict[Path, tuple[int, int, str]] = {}
        self._places: dict[str, str] = {}
        self._lock = threading.Lock()

    def find(self, digest: str, paths: Collection[str] = ()) -> Picture | None:
        """Return the picture with this hash at one of `paths`; without paths, anywhere."""
        if paths:
            return self._at(digest, paths)
        found = self._at(digest, (self._places.get(digest, ""),))
        if found is None:
            with self._lock:
                found = self._at(digest, self._searched(digest))
        return found

    def _at(self, digest: str, paths: Iterable[str]) -> Picture | None:
        for path in filter(_is_named_like_one, paths):
            for project in self._projects:
                try:
                    data = project.peek(path, limit=MOST_BYTES)
                except PoeflowError:
                    continue
                if sha256_of(data) == digest:
                    media_type = media_type_of(path, data)
                    return Picture(media_type, data) if media_type in _SHOWN else None
        return None

    def _searched(self, digest: str) -> Iterator[str]:
        """Yield the paths of files with this hash."""
        room = _MOST_HASHED
        for project in self._projects:
            for path in _files(project.root):
                canonical = f"//{path.relative_to(project.root).as_posix()}"
                try:
                    status = path.stat()
                    stamp = (status.st_mtime_ns, status.st_size)
                    if self._known.get(path, ())[:2] != stamp:
                        if status.st_size > min(room, MOST_BYTES):
                            continue
                        room -= status.st_size
                        data = project.peek(canonical, limit=MOST_BYTES)
                        self._known[path] = (*stamp, sha256_of(data))
                except (OSError, PoeflowError):
                    continue
                if self._known[path][2] == digest:
                    self._places[digest] = canonical
                    yield canonical


class ScrubbedRecords:
    """A `Records` that masks the secrets that `scrubber` knows in `records`."""

    def __init__(self, records: Records, scrubber: Scrubber) -> None:
        self._records = records
        self._scrubber = scrubber

    def runs(self, wanted: RunFilter) -> tuple[RunRow, ...]:
        return self._masked(self._records.runs(wanted))

    def run(self, number: int) -> RunRow | None:
        return self._masked(self._records.run(number))

    def instances(self, run: int) -> tuple[InstanceRecord, ...]:
        return self._masked(self._records.instances(run))

    def requests(self, run: int, instance: str | None = None) -> tuple[RequestRow, ...]:
        return self._masked(self._records.requests(run, instance))

    def changes(self) -> int:
        return self._records.changes()

    def _masked(self, found: _T) -> _T:
        return masked(found, self._scrubber)


def _as_it_is(record: InstanceRecord) -> InstanceRecord:
    return record


@dataclass(frozen=True, slots=True)
class PageData:
    """The data of the pages: history, pictures, prices of models.

    `completed` adds the result of an earlier run to an instance that was current. `zone` is the
    time zone of all times, None for the user's own. `scrubber` masks keys in the finished pages:
    an answer may hold one in a form that only a page decodes, such as entities in Markdown.
    """

    records: Records
    pictures: Pictures
    prices: Prices
    completed: Callable[[InstanceRecord], InstanceRecord] = _as_it_is
    zone: tzinfo | None = None
    scrubber: Scrubber = field(default_factory=Scrubber)


def paths_of(record: InstanceRecord, digest: str) -> tuple[str, ...]:
    """Return the paths where an instance wrote a file with this hash."""
    return tuple(path for path, known in record.files.items() if known == digest)


def _files(root: Path) -> Iterator[Path]:
    """Yield the files below `root` that have the suffix of a picture, up to a limit."""
    entries = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name for name in folders if name not in _SKIPPED and not name.startswith(".")
        )
        entries += len(names) + len(folders)
        if entries > _MOST_ENTRIES:
            return
        yield from (Path(folder, name) for name in sorted(names) if _is_named_like_one(name))


def _is_named_like_one(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _SUFFIXES
