"""Export, import and pruning of answers, and the import of files of older versions.

Files are deleted only after their content is committed, so that after a kill the next run goes on.
"""

import contextlib
import heapq
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

import msgspec

from poeflow.digest import PREFIX, Json, decode_json, encode_json, sha256_of_json
from poeflow.errors import DiskError, UsageError
from poeflow.project.atomic_write import sync_folder
from poeflow.redact import Scrubber, masked
from poeflow.store.answer_lines import FORMAT, AnswerLine, EndLine, OldAnswers, answer_line
from poeflow.store.cache import Cache, put_end, put_new
from poeflow.store.contents import MAX_BYTES, drop_unused
from poeflow.store.database import COMPANIONS, Database
from poeflow.store.database_file import JOURNAL, mark_of, writing
from poeflow.store.folders import disk_errors
from poeflow.store.ledger import (
    MAX_LEDGER_BYTES,
    old_rows,
    record_row,
)
from poeflow.store.lockfile import requests_in
from poeflow.store.writer import StoreWriter, Write, batches


class Imported(msgspec.Struct, frozen=True):
    """How many answers an import added, and how many were there already.

    Ends of conversations are imported, too, but not counted.
    """

    added: int
    known: int


def export_answers(cache: Cache, file: BinaryIO, scrubber: Scrubber) -> int:
    """Write all sound answers, then the ends of conversations, as lines; return how many answers.

    Keys are masked; a request that holds one is left out. Raises `DiskError` and `OSError`.
    """
    count = 0
    for entry in cache.entries():
        answer = cast("dict[str, Json]", masked(entry.answer, scrubber))
        is_clean = masked(entry.request, scrubber) == entry.request
        line = AnswerLine(
            format=FORMAT,
            fingerprint=entry.fingerprint,
            sha256=sha256_of_json(answer),
            answer=answer,
            answered_by=entry.answered_by,
            request=entry.request if is_clean else None,
        )
        file.write(encode_json(line) + b"\n")
        count += 1
    ends = (EndLine(format=FORMAT, first=first, last=last) for first, last in cache.ends())
    file.writelines(encode_json(end) + b"\n" for end in ends)
    return count


def import_answers(
    cache: Cache, writer: StoreWriter, file: BinaryIO, scrubber: Scrubber, *, name: str
) -> Imported:
    """Store the answers that are not there yet. Each line is checked by its hashes.

    Raises `UsageError` with the number of a line that is not an answer; the lines before it are
    stored. Raises `DiskError`.
    """
    added = known = 0
    lines = ((_read(data, f"{name}:{at}", scrubber), len(data)) for at, data in _lines(file, name))
    for batch in batches(lines, lambda pair: pair[1]):
        answers = [cache.add(line.entry) for line, _ in batch if isinstance(line, AnswerLine)]
        ends = [_uncounted(cache.add(line)) for line, _ in batch if isinstance(line, EndLine)]
        stored = writer.do_all([*answers, *ends])
        added, known = added + stored, known + len(answers) - stored
    return Imported(added, known)


def _uncounted(write: Write) -> Write:
    """Return a write that gives 0."""

    def do(connection: Database) -> int:
        write(connection)
        return 0

    return do


def _lines(file: BinaryIO, name: str) -> Iterator[tuple[int, bytes]]:
    number = 0
    while data := file.readline(MAX_BYTES + 1):
        number += 1
        if len(data) > MAX_BYTES:
            raise UsageError(f"{name}:{number} is longer than an answer can be")
        if data.strip():
            yield number, data


def _read(data: bytes, place: str, scrubber: Scrubber) -> AnswerLine | EndLine:
    """Return the answer or end in a line, keys masked. Raises `UsageError`."""
    try:
        end = msgspec.convert(decode_json(data), EndLine)
    except (ValueError, RecursionError):
        pass
    else:
        if end.format == FORMAT:
            return end
    line = answer_line(data)
    hint = "write it with `poeflow cache export`"
    if line is None:
        raise UsageError(f"{place} is not an answer, or its hash does not match", hint=hint)
    if line.request is not None and sha256_of_json(line.request) != line.fingerprint:
        raise UsageError(f"{place}: its request is not the one its fingerprint says", hint=hint)
    answer = cast("dict[str, Json]", masked(line.answer, scrubber))
    is_clean = masked(line.request, scrubber) == line.request
    request = line.request if is_clean else None
    return msgspec.structs.replace(line, answer=answer, request=request)


def take_over(state: Path, writer: StoreWriter) -> None:
    """Move the files of older versions in the folder `state` into the store.

    Call it only while no other run can be at work. Messages are in `writer.messages`. Raises
    `DiskError`.
    """
    _take_history(state / "history.db", writer)
    for simulated, folder in ((False, state), (True, state / "simulated")):
        _take_answers(folder / "cache", writer, simulated=simulated)
        _take_ledger(folder / "ledger.jsonl", writer, simulated=simulated)


def _take_history(old: Path, writer: StoreWriter) -> None:
    """Turn the old history into the store by adding the tables that it lacks.

    If the store exists already, an older version was used again: its history stays unchanged.
    """
    if not os.path.lexists(old) or os.path.lexists(writer.path):
        return
    StoreWriter(old, journal="delete", messages=writer.messages).open_once()
    if any(os.path.lexists(old.with_name(old.name + ending)) for ending in COMPANIONS):
        raise DiskError(f"{old} is in use", hint="end `poeflow view`, then run again")
    with disk_errors(old, "renamed"):
        old.rename(writer.path)
        sync_folder(old.parent)
        mark_of(old).unlink(missing_ok=True)


def _take_answers(folder: Path, writer: StoreWriter, *, simulated: bool) -> None:
    old = OldAnswers(folder, writer.messages.append)
    for inner in list(old.folders()):
        with disk_errors(inner, "looked at"):
            paths = sorted(inner.iterdir()) if inner.is_dir() else []
        read = _old_end if inner.name == "ends" else _old_answer
        found = ((path, read(old, path, simulated=simulated)) for path in paths)
        taken = ((path, write) for path, write in found if write is not None)
        for batch in batches(taken, lambda pair: pair[0].lstat().st_size):
            writer.do_all([write for _, write in batch])
            with disk_errors(inner, "emptied"):
                for path, _ in batch:
                    path.unlink()
        with contextlib.suppress(OSError):  # a folder with other files stays
            inner.rmdir()


def _old_answer(old: OldAnswers, path: Path, *, simulated: bool) -> Write | None:
    line = old.entry(path.stem) if path.suffix == ".json" else None
    if line is None:
        return None
    entry, at = line.entry, path.stat().st_mtime
    return lambda connection: put_new(connection, entry, simulated=simulated, at=at, since=at)


def _old_end(old: OldAnswers, path: Path, *, simulated: bool) -> Write | None:
    last = old.end(path.name)
    if last is None:
        return None
    end = EndLine.of(path.name, last)
    if end is None:
        return None
    return lambda connection: put_end(connection, end, simulated=simulated)


def _take_ledger(path: Path, writer: StoreWriter, *, simulated: bool) -> None:
    if not os.path.lexists(path):
        return
    rows = list(old_rows(path))

    def write(connection: Database) -> int:
        return sum(record_row(connection, row, simulated=simulated) for row in rows)

    writer.do_all([write])
    with disk_errors(path, "removed"):
        if path.stat().st_size > MAX_LEDGER_BYTES:
            path.rename(path.with_name("ledger.old.jsonl"))
        else:
            path.unlink()


_PRUNABLE: Final = """SELECT fingerprint, stored, length(body) FROM answers
    JOIN contents ON contents.id = answers.answer WHERE simulated = 0 ORDER BY stored DESC"""
_PRUNE: Final = "DELETE FROM answers WHERE simulated = 0 AND fingerprint = ?"
_PRUNE_ENDS: Final = """DELETE FROM ends WHERE simulated = 0 AND last NOT IN
    (SELECT fingerprint FROM answers WHERE simulated = 0)"""


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """Which answers are deleted.

    Those stored before `before`, in Unix seconds; the oldest, until the others take `max_bytes`;
    those that none of the lock files `locks` mentions.
    """

    before: float | None = None
    max_bytes: int | None = None
    locks: tuple[Path, ...] | None = None


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
        with writing(path, warn, journal=JOURNAL) as connection:
            count, size, doomed = _prune(connection, wanted, named, aged)
    except (sqlite3.Error, OSError) as error:
        raise DiskError(f"no answer was dropped: {error}") from None
    for file, length in doomed:
        try:
            file.unlink(missing_ok=True)
            count, size = count + 1, size + length
        except OSError as error:
            warn(f"{file} was not dropped: {(error.strerror or 'the disk refused').lower()}")
    return count, size


def _prune(
    connection: Database,
    wanted: Pruning,
    named: frozenset[str] | None,
    aged: list[tuple[float, int, Path]],
) -> tuple[int, int, list[tuple[Path, int]]]:
    """Delete answers, then contents that nothing refers to, and free their space.

    Returns the number of answers, their bytes, and the media files to delete, with their bytes.
    """
    connection.execute("BEGIN IMMEDIATE")
    kept = None if named is None else named | _ends_of(connection, named)
    count = size = total = 0
    doomed: list[tuple[Path, int]] = []
    stored = connection.execute(_PRUNABLE)  # sorted, so read to its end before the first row
    rows = ((float(at), int(length), bytes(key)) for key, at, length in stored)
    everything: Iterator[tuple[float, int, bytes | Path]] = heapq.merge(
        rows, aged, key=lambda row: -row[0]
    )
    for at, length, what in everything:
        total += length
        is_old = wanted.before is not None and at < wanted.before
        is_beyond = wanted.max_bytes is not None and total > wanted.max_bytes
        name = what.hex()[:PREFIX] if isinstance(what, bytes) else None
        is_unnamed = kept is not None and name is not None and name not in kept
        if not (is_old or is_beyond or is_unnamed):
            continue
        if isinstance(what, bytes):
            count, size = count + 1, size + length
            connection.execute(_PRUNE, (what,))
        else:
            doomed.append((what, length))
    connection.execute(_PRUNE_ENDS)
    drop_unused(connection)
    return count, size, doomed


def _ends_of(connection: Database, named: frozenset[str]) -> frozenset[str]:
    """Return the last requests of the conversations whose first ones are `named`.

    All are given by the beginnings of their fingerprints.
    """
    rows = connection.execute("SELECT first, last FROM ends WHERE simulated = 0")
    return frozenset(last.hex()[:PREFIX] for first, last in rows if first.hex()[:PREFIX] in named)
