"""The one thread that writes the store: writes that wait at the same time share a transaction.

A write that is awaited is on disk when the wait ends. Any other is written within 0.1 s.
"""

import asyncio
import contextlib
import queue
import sqlite3
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Final, TypeAlias, TypeVar

import msgspec

from poeflow.errors import DiskError, UsageError
from poeflow.store.contents import add_index, track_keys
from poeflow.store.database import Database, KeyFilter
from poeflow.store.database_file import (
    JOURNAL,
    Journal,
    SetAsideError,
    is_damage,
    writing,
)

GROUP: Final = 0.1
"""Seconds in which writes that nobody waits for are collected for one transaction."""
MAX_GROUP: Final = 1000
"""Maximum writes of one transaction, except those queued at the same moment."""
MAX_BACKLOG: Final = 10_000
"""Queued writes that nobody waits for; above this, adding another blocks."""
BATCH: Final = 200
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Maximum entries or bytes that are copied into the store in one transaction."""
FAULTS: Final = (
    *(sqlite3.Error, DiskError, OSError),
    *(ValueError, TypeError, OverflowError, RecursionError),
)
"""The errors of a failed write."""
_COUNT: Final = "UPDATE changes SET number = number + 1"
Write: TypeAlias = Callable[[Database], int]
"""Executes statements within a transaction, perhaps twice; returns a number for the caller."""


_T = TypeVar("_T")


class _Job(msgspec.Struct):
    """A write, and the functions that get its number or its error."""

    write: Write
    waiter: "asyncio.Future[int] | Future[int] | None" = None
    on_error: Callable[[BaseException], None] | None = None
    is_durable: bool = False
    """Whether it is written to the file that replaces a damaged one."""
    number: int = 0


class StoreWriter:
    """Writes to the database at `path`, which is opened at the first write.

    Messages about a damaged, renamed file are collected in `messages`.
    """

    def __init__(
        self, path: Path, *, journal: Journal = JOURNAL, messages: deque[str] | None = None
    ) -> None:
        self.path = path
        self.messages = deque[str]() if messages is None else messages
        self.commits = 0
        self._tracks_keys = False
        self._keys: KeyFilter | None = None
        self._journal: Journal = journal
        self._queue: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._burst: list[_Job] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guard = threading.Lock()
        self._opened = threading.Event()
        self._error: BaseException | None = None
        self._backlog = 0
        self._current: list[_Job] = []
        self._thread: threading.Thread | None = None

    async def wait(self, write: Write, *, is_durable: bool = False) -> int:
        """Write; it is on disk when this returns, with its number. Raises `DiskError`.

        A wait that is cancelled does not cancel the write.
        """
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._put(_Job(write, waiter, is_durable=is_durable))
        try:
            return await waiter
        except FAULTS as error:
            raise disk_error(error) from None

    def do(self, write: Write) -> int:
        """Write; blocks until it is on disk. Raises `DiskError`."""
        waiter: Future[int] = Future()
        self._put(_Job(write, waiter))
        self._flush()
        try:
            return waiter.result()
        except FAULTS as error:
            raise disk_error(error) from None

    def do_all(self, writes: Sequence[Write]) -> int:
        """Write all in one transaction, as `do`; return the sum of their numbers."""
        if not writes:
            return 0
        return self.do(lambda connection: sum(write(connection) for write in writes))

    def submit(self, write: Write, on_error: Callable[[BaseException], None]) -> None:
        """Write soon; `on_error` is called in the writer's thread if that fails.

        Blocks if too many writes are queued.
        """
        self._put(_Job(write, on_error=on_error))
        if self._backlog > MAX_BACKLOG:
            self.flush()

    def flush(self) -> None:
        """Block until all submitted writes are on disk, or have failed.

        As Python ends no thread is left that could write, and none is waited for.
        """
        if (self._burst or self._thread is not None) and not sys.is_finalizing():
            with contextlib.suppress(DiskError):
                self.do(_nothing)

    def check(self) -> None:
        """Raise `DiskError` if the database cannot be opened, or was found damaged."""
        if self._thread is not None and self._opened.is_set() and self._error is None:
            return
        self._start()
        self._opened.wait()
        if self._error is not None:
            raise disk_error(self._error)

    def track_keys(self) -> None:
        """Know which keys are missing from the store once it is opened, to save look-ups.

        With a rollback journal, look-ups wait for commits. Call it before the store is opened, and
        only while the workspace is held, so that no other process writes answers or outputs.
        """
        self._tracks_keys = self._journal == "delete"

    def is_absent(self, key: bytes) -> bool:
        """Whether a key is certainly not in the store."""
        return self._keys is not None and not self._keys.may_have(key)

    def open_once(self) -> None:
        """Open the database, which upgrades it, and close it. Raises `DiskError`."""
        try:
            self.check()
        finally:
            self.close()

    def close(self) -> None:
        """Write the rest and end; may be called again, and a later write starts it again."""
        if sys.is_finalizing():
            return
        self._flush()
        if self._thread is None:
            return
        self._keys, self._tracks_keys = None, False
        self._queue.put(None)
        self._thread.join()
        self._thread = None
        self._opened.clear()
        self._error = None

    def _put(self, job: _Job) -> None:
        """Queue a job. In an event loop, jobs of all tasks that run now share a transaction."""
        with self._guard:
            self._backlog += 1
            self._burst.append(job)
            is_first = len(self._burst) == 1
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._flush()
        else:
            if is_first or loop is not self._loop:  # the last one may have ended before it flushed
                self._loop = loop
                loop.call_soon(self._flush)

    def _flush(self) -> None:
        with self._guard:
            burst, self._burst = self._burst, []
        if burst:
            self._start()
            self._queue.put(burst)

    def _start(self) -> None:
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="store", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        groups = self._groups()
        error: BaseException | None = DiskError("the store ended by a bug of poeflow")
        try:
            self._serve_until_damaged(groups)
            error = None
        except FAULTS as found:
            error = found
        finally:  # after any error: no caller may wait for ever
            self._error = error
            self._opened.set()
            for group in chain([self._current], groups):
                _settle(group, error)

    def _serve_until_damaged(self, groups: Iterator[list[_Job]]) -> None:
        """Write all groups; if the file is damaged, once more in a new file."""
        try:
            self._serve(groups)
        except SetAsideError as damage:
            lost = [job for job in self._current if not job.is_durable]
            if not lost:
                self.messages.append(f"{damage.message}, and a new one begun")
            self._current = [job for job in self._current if job.is_durable]
            _settle(lost, damage)
            self._serve(chain([self._current], groups))

    def _serve(self, groups: Iterable[list[_Job]]) -> None:
        with writing(self.path, self.messages.append, journal=self._journal) as connection:
            self._keys = None
            connection.begin()
            connection.has_index = add_index(connection)
            if self._tracks_keys:
                track_keys(connection)
                self._keys = connection.keys
            connection.execute("COMMIT")
            self._opened.set()
            for group in groups:
                self._write(connection, group)

    def _groups(self) -> Iterator[list[_Job]]:
        """Yield groups of jobs: those queued now if a caller waits, else also those that follow."""
        is_over = False
        while not is_over:
            group: list[_Job] = []
            until, is_awaited = 0.0, False
            while len(group) < MAX_GROUP:
                wait = 0.0 if is_awaited else max(0.0, until - monotonic())
                try:
                    burst = self._queue.get(timeout=wait if group else None)
                except queue.Empty:
                    break
                if burst is None:
                    is_over = True
                    break
                until = until or monotonic() + GROUP
                is_awaited = is_awaited or any(job.waiter is not None for job in burst)
                group += burst
            with self._guard:
                self._backlog -= len(group)
            if group:
                yield group

    def _write(self, connection: Database, group: list[_Job]) -> None:
        """Write a group as one transaction. If that fails, write each job in its own."""
        self._current = group
        batches = [group]
        while batches:
            batch = batches.pop()
            try:
                self._commit(connection, batch)
            except FAULTS as error:
                if is_damage(error):
                    raise
                if len(batch) > 1:
                    batches = [[job] for job in reversed(batch)]
                    continue
                _settle(batch, error)
            else:
                _settle(batch)
            self._current = self._current[len(batch) :]

    def _commit(self, connection: Database, batch: list[_Job]) -> None:
        """Write jobs as one transaction; it is on disk when this returns."""
        if all(job.write is _nothing for job in batch):
            return
        connection.begin()
        try:
            for job in batch:
                job.number = job.write(connection)
            connection.execute(_COUNT)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.give_up()
            raise
        self.commits += 1


def _nothing(_connection: Database) -> int:
    """Write nothing: for a caller that only waits for what was queued before."""
    return 0


def disk_error(error: BaseException) -> DiskError:
    """Return the error of a write as a `DiskError`."""
    if isinstance(error, DiskError):
        return error
    hint = "check its permissions and the free space"
    return DiskError(f"the store cannot be written: {error}", hint=hint)


def _settle(jobs: list[_Job], error: BaseException | None = None) -> None:
    """Report to all waiting callers that jobs are done, or failed: once per event loop."""
    loops: dict[asyncio.AbstractEventLoop, list[_Job]] = {}
    for job in jobs:
        if isinstance(job.waiter, Future):
            _resolve(job.waiter, job.number, error)
        elif job.waiter is not None:
            loops.setdefault(job.waiter.get_loop(), []).append(job)
        elif error is not None and job.on_error is not None:
            job.on_error(error)
    for loop, done in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: no caller waits
            loop.call_soon_threadsafe(_resolve_all, done, error)


def _resolve_all(jobs: list[_Job], error: BaseException | None) -> None:
    for job in jobs:
        if job.waiter is not None:
            _resolve(job.waiter, job.number, error)


def _resolve(
    waiter: "asyncio.Future[int] | Future[int]", number: int, error: BaseException | None
) -> None:
    if waiter.done():
        return
    if error is None:
        waiter.set_result(number)
    else:
        waiter.set_exception(error)


def batches(items: Iterable[_T], size: Callable[[_T], int]) -> Iterator[list[_T]]:
    """Yield items in batches of at most `BATCH` items or `BATCH_BYTES`.

    If the next item raises, those before it are yielded first.
    """
    batch: list[_T] = []
    total, failed = 0, None
    waiting = iter(items)
    while failed is None:
        try:
            item = next(waiting)
        except StopIteration:
            break
        except (DiskError, UsageError) as error:
            failed = error
            continue
        batch.append(item)
        total += size(item)
        if len(batch) >= BATCH or total >= BATCH_BYTES:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
    if failed is not None:
        raise failed
