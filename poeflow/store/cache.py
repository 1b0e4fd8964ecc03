"""Answers by fingerprint, and the media they name; entries are pruned by age, size or use.

Answers are rows of the store: the calling thread reads them, the store's thread writes them. Media
are files, named by their hash.
"""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from poeflow.digest import PREFIX, Json, decode_json, hash_beginning, sha256_of
from poeflow.errors import DiskError
from poeflow.project.project import atomic_write
from poeflow.store import history_rows
from poeflow.store.answer_lines import FINGERPRINT, CacheEntry, EndLine, OldAnswers, pointed_hash
from poeflow.store.contents import (
    Pruning,
    add_content,
    answer_key,
    content_hash,
    end_key,
    prune_answers,
    recent_answer,
    text_of_completion,
    unpacked,
)
from poeflow.store.database import Database
from poeflow.store.database_file import DamagedStoreError, RowReader, writing
from poeflow.store.folders import disk_errors, make_private, state_file
from poeflow.store.lockfile import requests_in
from poeflow.store.writer import StoreWriter, Write

MAX_MEDIA_BYTES: Final = 64 * 1024 * 1024
RESERVE: Final = 1024 * 1024
"""Bytes that must be free before a request is sent: space for the answers of running requests."""
_MOST_WARNED: Final = 1000
_LOOK_EVERY: Final = 0.05
"""Seconds for which a measured free space is used again."""
_ENTRY: Final = """SELECT answer.body, answer.hash, request.body, answered_by FROM answers
    JOIN contents AS answer ON answer.id = answers.answer
    LEFT JOIN contents AS request ON request.id = answers.request
    WHERE simulated = ? AND fingerprint = ?"""
_PUT: Final = "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?)"
_LINK: Final = "INSERT OR REPLACE INTO ends VALUES (?, ?, ?)"
_LINK_NEW: Final = "INSERT OR IGNORE INTO ends VALUES (?, ?, ?)"
_NEWER: Final = "SELECT 1 FROM answers WHERE simulated = ? AND fingerprint = ? AND stored >= ?"
_ENTRIES: Final = _ENTRY.replace("SELECT ", "SELECT fingerprint, ", 1).replace(
    "fingerprint = ?", "fingerprint > ? ORDER BY fingerprint"
)
_KEY_TAILS: Final = (b"\0" * 16, b"\xff" * 16)
"""What makes of the beginning of a key, as a lock has it, the least and the greatest key."""
_LAST: Final = b"\xff" * 33
"""Greater than any fingerprint."""
_ENDS: Final = "SELECT first, last FROM ends WHERE simulated = ? AND first > ? ORDER BY first"
_LOCKED: Final = _ENTRY.replace("SELECT ", "SELECT fingerprint, last, ", 1).replace(
    "WHERE simulated = ? AND fingerprint = ?",
    """LEFT JOIN ends ON ends.simulated = answers.simulated AND first = fingerprint
    WHERE answers.simulated = ?1 AND fingerprint BETWEEN ?2 AND ?3
    UNION ALL SELECT first, last, NULL, NULL, NULL, NULL FROM ends
    WHERE simulated = ?1 AND first BETWEEN ?2 AND ?3 AND NOT EXISTS
    (SELECT 1 FROM answers WHERE simulated = ?1 AND fingerprint = first)""",
)
"""Reads the answers to requests in a range, each with the last request of its conversation.

A conversation whose first answer is not stored has a row without one.
"""
_MANY: Final = 100
"""How many answers are read at once."""
_IN_RANGE: Final = "simulated = ?1 AND fingerprint BETWEEN ? AND ?"
_READ_AHEAD: Final = _ENTRY.replace("SELECT ", "SELECT fingerprint, ", 1).replace(
    "simulated = ? AND fingerprint = ?",
    """(%s) AND length(answer.body) < 65536 AND NOT EXISTS
    (SELECT 1 FROM ends WHERE ends.simulated = answers.simulated AND first = fingerprint)""",
)
"""Reads answers to requests that began no conversation; large ones are read one by one."""
_ANY: Final = "SELECT 1 FROM answers WHERE simulated = ? LIMIT 1"
_MOST_OLDER: Final = 1000
_OLDER_ENTRY: Final = """SELECT answer.body, answer.hash, request.body FROM contents AS answer
    LEFT JOIN contents AS request ON request.id = ?3 WHERE answer.id = ?2"""
_END: Final = "SELECT last FROM ends WHERE simulated = ? AND first = ?"


class Cache:
    """Answers in the store of `writer`: real or `simulated` ones. Media are in `folder`.

    An entry whose hash does not match is a miss, and `on_corrupt` gets a message of one sentence.
    Unless it `is_used`, every look-up is a miss.
    """

    def __init__(
        self,
        folder: Path,
        writer: StoreWriter,
        *,
        on_corrupt: Callable[[str], None],
        is_used: bool = True,
        simulated: bool = False,
    ) -> None:
        self._is_used = is_used
        self._folder = folder
        self._writer = writer
        self._reader = RowReader(writer.path)
        self._old = OldAnswers(folder, on_corrupt)
        self._simulated = simulated
        self._on_corrupt = on_corrupt
        self._warned: set[str] = set()
        self._ahead: dict[bytes, tuple[bytes, tuple[object, ...]]] = {}
        """Answers that were read ahead, by the beginning of the hash of their requests."""
        self._looked = float("-inf")

    @property
    def has_any(self) -> bool:
        """Whether any answer is stored. Raises `DiskError`."""
        return self._is_used and (self._old.exists or self._row(_ANY) is not None)

    def check_can_store(self, fingerprint: str) -> None:
        """Raise `DiskError` if the answer to the next request could not be stored.

        No space is free, or the store cannot be opened, or was found damaged. A disk that reports
        no blocks, as some network folders, is assumed to have space.
        """
        _key(fingerprint)
        now = time.monotonic()
        if now - self._looked > _LOOK_EVERY:
            self._check_space()
            self._looked = now
        self._writer.check()

    def _check_space(self) -> None:
        path = self._writer.path
        folder = next(one for one in path.parents if one.exists())
        with disk_errors(folder, "looked at"):
            disk = os.statvfs(folder)
        if disk.f_blocks and disk.f_bavail * disk.f_frsize < RESERVE:
            message = f"{folder}: less than {RESERVE // 1024:,} KiB are free"
            raise DiskError(message, hint="free some space and run again; no answer was lost")

    def entry(self, fingerprint: str) -> CacheEntry | None:
        """Return the stored answer with the model that gave it, or None.

        The caller's thread reads it, and waits for a writer only during a commit. Raises
        `DiskError` if it cannot be read.
        """
        key = _key(fingerprint)
        if not self._is_used:
            return None
        row = None
        if not self._writer.is_absent(answer_key(key, simulated=self._simulated)):
            row = self._row(_ENTRY, key)
        if row is None:
            old = self._old.entry(fingerprint)
            return None if old is None else old.entry
        return self._sound(fingerprint, row)

    def read_ahead(self, shorts: list[str]) -> None:
        """Read the answers to several requests at once, for `locked` until this is called again.

        Large answers and conversations are read when they are used, and so is what is stored later.
        """
        self._ahead, several = {}, set[bytes]()
        for at in range(0, len(shorts) if self._is_used else 0, _MANY):
            some = set(map(hash_beginning, shorts[at : at + _MANY]))
            sql = _READ_AHEAD % " OR ".join([_IN_RANGE] * len(some))
            bounds = [begin + end for begin in some for end in _KEY_TAILS]
            for key, *row in self._rows(sql, *bounds, most=2 * _MANY):
                if isinstance(key, bytes):
                    begin = key[: PREFIX // 2]
                    several |= {begin} & self._ahead.keys()
                    self._ahead[begin] = key, tuple(row)
        for begin in several:
            del self._ahead[begin]

    def locked(self, short: str) -> tuple[str, CacheEntry] | None:
        """Return the one request with this short hash of a lock, and its stored answer.

        If the request began a conversation, that is its last answer. Raises as `entry`.
        """
        if not self._is_used:
            return None
        begin = hash_beginning(short)
        known = self._ahead.get(begin)
        if known is not None:
            first = known[0].hex()
            entry = self._sound(first, known[1])
            return None if entry is None else (first, entry)
        rows = self._rows(_LOCKED, *[begin + end for end in _KEY_TAILS], most=2)
        found = {row[0].hex() for row in rows if isinstance(row[0], bytes)}
        found = found or self._old.like(begin.hex())
        if len(found) != 1:
            return None
        first = found.pop()
        if rows and rows[0][1] is None:
            entry = self._sound(first, rows[0][2:])
        else:
            entry = self.end(first) or self.entry(first)
        return None if entry is None else (first, entry)

    def older(self, fingerprint: str) -> Iterator[CacheEntry]:
        """Yield the answers that runs got to a request, by the history, the newest first.

        Those at the end of the conversations that it began are among them, and so may be the answer
        that is stored now. Raises as `entry`.
        """
        seen = set[object]()
        rows = (
            self._rows(history_rows.OLDER, fingerprint, most=_MOST_OLDER) if self._is_used else []
        )
        for answer, request, instance, asked in rows:
            of = None if answer in seen else history_rows.older_answer(instance, asked)
            if of is None:
                continue
            seen.add(answer)
            for row in self._rows(_OLDER_ENTRY, answer, request, most=1):
                entry = _sound_entry(of[0], (*row, of[1]))
                if entry is not None:
                    yield entry

    async def store(
        self,
        fingerprint: str,
        answer: Mapping[str, Json],
        *,
        answered_by: str | None = None,
        request: Mapping[str, Json] | None = None,
    ) -> None:
        """Store an answer; it is on disk when this returns. Raises `DiskError`.

        If the wait is cancelled, the answer is stored nevertheless.
        """
        write = self._putting(fingerprint, answer, answered_by, request)
        await self._writer.wait(write, is_durable=True)

    async def store_end(self, first: str, last: str) -> None:
        """Store the first and the last request of a conversation."""
        await self._writer.wait(self._linking(first, last), is_durable=True)

    def end(self, first: str) -> CacheEntry | None:
        """Return the last request of the conversation that `first` began, or None."""
        key = _key(first)
        if not self._is_used:
            return None
        row = None
        if not self._writer.is_absent(end_key(key, simulated=self._simulated)):
            row = self._row(_END, key)
        if row is None:
            last = self._old.end(first)
        else:
            last = row[0].hex() if isinstance(row[0], bytes) else ""
        return self.entry(last) if last and FINGERPRINT.fullmatch(last) else None

    def entries(self) -> Iterator[CacheEntry]:
        """Yield all sound answers in the store, by fingerprint. Raises `DiskError`."""
        last = b""
        while row := self._reader.row(_ENTRIES, (self._simulated, last)):
            last = row[0] if isinstance(row[0], bytes) else _LAST
            entry = self._sound(last.hex(), row[1:])
            if entry is not None:
                yield entry

    def ends(self) -> Iterator[tuple[str, str]]:
        """Yield the first and last requests of conversations. Raises `DiskError`."""
        last = b""
        while row := self._reader.row(_ENDS, (self._simulated, last)):
            first, end = (one if isinstance(one, bytes) else _LAST for one in row)
            last = first
            yield first.hex(), end.hex()

    def add(self, entry: CacheEntry | EndLine) -> Write:
        """Return a write that stores an answer or an end unless it is there, and then gives 1."""
        simulated, now = self._simulated, time.time()
        if isinstance(entry, EndLine):
            return lambda connection: put_end(connection, entry, simulated=simulated, is_new=True)
        return lambda connection: put_new(connection, entry, simulated=simulated, at=now)

    def media(self, url: str) -> bytes | None:
        """Return the file that was fetched from `url`, or None. Raises as `entry`."""
        pointer = self._media_path(sha256_of(url.encode()))
        root = self._folder.parent
        digest = pointed_hash(root, pointer) if self._is_used else None
        if digest is None:
            return None
        named = self._media_path(digest, of="files")
        is_named = FINGERPRINT.fullmatch(digest) is not None
        data = state_file(root, named, limit=MAX_MEDIA_BYTES) if is_named else b""
        if data is None or sha256_of(data) == digest:
            return data
        self._on_corrupt(f"{pointer} was damaged; the file is fetched again")
        return None

    def put_media(self, url: str, data: bytes) -> None:
        """Store a fetched file by the hash of its bytes. Raises `DiskError`."""
        digest = sha256_of(data)
        named = self._media_path(digest, of="files")
        pointer = self._media_path(sha256_of(url.encode()))
        for folder in (self._folder, self._folder / "media", named.parent, pointer.parent):
            make_private(folder)
        atomic_write(named, data, mode=0o600)
        atomic_write(pointer, digest.encode() + b"\n", mode=0o600)

    def _row(self, sql: str, *values: bytes) -> tuple[object, ...] | None:
        """Return a row of the store, None if there is none."""
        rows = self._rows(sql, *values, most=1)
        return rows[0] if rows else None

    def _rows(self, sql: str, *values: object, most: int) -> list[tuple[object, ...]]:
        """Return rows of the store, none if it is damaged, with a message."""
        try:
            return self._reader.rows(sql, (self._simulated, *values), most=most)
        except DamagedStoreError as error:
            if "" not in self._warned:
                self._warned.add("")
                self._on_corrupt(f"{error.message}; the answers in it are not used")
            return []

    def _sound(self, fingerprint: str, row: tuple[object, ...]) -> CacheEntry | None:
        """Return the answer in a row; report once that it is damaged."""
        entry = _sound_entry(fingerprint, row)
        if entry is None and fingerprint not in self._warned and len(self._warned) < _MOST_WARNED:
            self._warned.add(fingerprint)
            self._on_corrupt(f"the stored answer {fingerprint[:12]} was damaged; it is asked again")
        return entry

    def _putting(
        self,
        fingerprint: str,
        answer: Mapping[str, Json],
        answered_by: str | None,
        request: Mapping[str, Json] | None,
    ) -> Write:
        _key(fingerprint)
        self._forget(fingerprint)
        entry = CacheEntry(
            fingerprint=fingerprint,
            answer=dict(answer),
            answered_by=answered_by,
            request=None if request is None else dict(request),
        )
        now = time.time()
        return lambda connection: put_entry(connection, entry, simulated=self._simulated, at=now)

    def _linking(self, first: str, last: str) -> Write:
        end = EndLine.of(first, last)
        if end is None:
            raise AssertionError("a fingerprint is 64 hexadecimal digits")
        self._forget(first)
        return lambda connection: put_end(connection, end, simulated=self._simulated)

    def _forget(self, fingerprint: str) -> None:
        """Forget an answer that was read ahead."""
        self._ahead.pop(_key(fingerprint)[: PREFIX // 2], None)

    def _media_path(self, digest: str, *, of: str = "urls") -> Path:
        return self._folder / "media" / of / digest


def put_entry(connection: Database, entry: CacheEntry, *, simulated: bool, at: float) -> int:
    """Write an answer and its contents, within a transaction."""
    answer = add_content(connection, "completion", entry.answer, is_checked=True)
    request = None
    if entry.request is not None:
        request = add_content(connection, "request", entry.request)
    text_hash = text_of_completion(entry.answer).hash
    key = _key(entry.fingerprint)
    row = (simulated, key, answer, request, entry.answered_by, text_hash, at)
    connection.note(answer_key(key, simulated=simulated))
    count = connection.execute(_PUT, row).rowcount
    for one in (
        recent_answer(key, simulated=simulated),
        recent_answer(key, text_hash, simulated=simulated),
    ):
        connection.recent[one] = answer
    return count


def put_new(
    connection: Database, entry: CacheEntry, *, simulated: bool, at: float, since: float = 0.0
) -> int:
    """Write an answer, within a transaction, unless one was stored `since` that time."""
    key = (simulated, _key(entry.fingerprint), since)
    if connection.execute(_NEWER, key).fetchone() is not None:
        return 0
    return put_entry(connection, entry, simulated=simulated, at=at)


def put_end(connection: Database, end: EndLine, *, simulated: bool, is_new: bool = False) -> int:
    """Write the end of a conversation, within a transaction; if it `is_new` it replaces none."""
    row = (simulated, _key(end.first), _key(end.last))
    connection.note(end_key(row[1], simulated=simulated))
    return connection.execute(_LINK_NEW if is_new else _LINK, row).rowcount


def _key(fingerprint: str) -> bytes:
    if not FINGERPRINT.fullmatch(fingerprint):
        raise AssertionError("a fingerprint is 64 hexadecimal digits")
    return bytes.fromhex(fingerprint)


def _sound_entry(fingerprint: str, row: tuple[object, ...]) -> CacheEntry | None:
    """Return an entry if the hash of its answer matches, else None."""
    body, digest, request, answered_by = row
    try:
        data = unpacked(body)
        if content_hash("completion", (data,)) != digest:
            return None
        answer = decode_json(data)
        asked = None if request is None else decode_json(unpacked(request))
    except (ValueError, TypeError, RecursionError):
        return None
    if not isinstance(answer, dict) or not isinstance(asked, dict | None):
        return None
    if not isinstance(answered_by, str | None):
        return None
    return CacheEntry(
        fingerprint=fingerprint, answer=answer, answered_by=answered_by, request=asked
    )


def prune_cache(
    path: Path, media: Path, wanted: Pruning, warn: Callable[[str], None]
) -> tuple[int, int]:
    """Delete real answers from the store at `path`, and files below `media`.

    Returns their number, and their bytes as stored. Raises `DiskError`, also if a lock cannot be
    read: answers that it mentions would be lost.
    """
    if media.is_symlink():
        hint = "replace the link by a folder"
        raise DiskError(f"{media} is a link; nothing is dropped through it", hint=hint)
    named = None
    if wanted.locks is not None:
        named = frozenset(name for lock in wanted.locks for name in requests_in(lock))
    files = [(one, one.lstat()) for one in media.rglob("*") if one.is_file()]
    aged = sorted(((stat.st_mtime, stat.st_size, one) for one, stat in files), reverse=True)
    try:
        with writing(path, warn) as connection:
            connection.execute("BEGIN IMMEDIATE")
            belongs = None if named is None else history_rows.belonging(connection, named)
            count, size, doomed = prune_answers(connection, wanted, belongs, aged)
    except (sqlite3.Error, OSError) as error:
        raise DiskError(f"no answer was dropped: {error}") from None
    for file, length in doomed:
        try:
            file.unlink(missing_ok=True)
            count, size = count + 1, size + length
        except OSError as error:
            warn(f"{file} was not dropped: {(error.strerror or 'the disk refused').lower()}")
    return count, size
