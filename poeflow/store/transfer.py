"""Export and import of answers as JSON lines, and the import of files of older versions.

Those files are deleted only after their content is committed, so that after a kill the next run
goes on.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from poeflow.digest import decode_json, encode_json, sha256_of_json
from poeflow.errors import DiskError, UsageError
from poeflow.project.atomic_write import sync_folder
from poeflow.redact import Scrubber, masked
from poeflow.store.answer_lines import FORMAT, AnswerLine, EndLine, OldAnswers, answer_line
from poeflow.store.cache import Cache, put_end, put_new
from poeflow.store.contents import MAX_BYTES
from poeflow.store.database import COMPANIONS, Database
from poeflow.store.database_file import mark_of
from poeflow.store.folders import disk_errors
from poeflow.store.ledger import (
    MAX_LEDGER_BYTES,
    old_rows,
    record_row,
)
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
        answer = masked(entry.answer, scrubber)
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
    answer = masked(line.answer, scrubber)
    is_clean = masked(line.request, scrubber) == line.request
    request = line.request if is_clean else None
    return msgspec.structs.replace(line, answer=answer, request=request)


def import_old_files(state: Path, writer: StoreWriter) -> None:
    """Move the files of older versions in the folder `state` into the store.

    Call it only while no other run can be at work. Messages are in `writer.messages`. Raises
    `DiskError`.
    """
    _import_history(state / "history.db", writer)
    for simulated, folder in ((False, state), (True, state / "simulated")):
        _import_old_answers(folder / "cache", writer, simulated=simulated)
        _import_ledger(folder / "ledger.jsonl", writer, simulated=simulated)


def _import_history(old: Path, writer: StoreWriter) -> None:
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


def _import_old_answers(folder: Path, writer: StoreWriter, *, simulated: bool) -> None:
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


def _import_ledger(path: Path, writer: StoreWriter, *, simulated: bool) -> None:
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
