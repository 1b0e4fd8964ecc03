"""The one thread that writes a run into the history, many records to a transaction."""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Final

from poeflow.errors import DiskError
from poeflow.records import AnswerRecord, InstanceRecord, RequestRecord, RunEnd, RunRecord
from poeflow.store.database import Database
from poeflow.store.history_file import Journal, writing
from poeflow.store.history_rows import Writer, add_index

GROUP: Final = 0.01
"""Seconds in which records that nobody waits for come together into one transaction."""
_FAULTS: Final = (sqlite3.Error, DiskError, OSError, ValueError, RecursionError)
_COUNT: Final = "UPDATE changes SET number = number + 1"


@dataclass(slots=True)
class _Job:
    """Something to write. `number` is what that gave once it was done, `kept` who waits for it."""

    write: Callable[[Writer], int]
    kept: asyncio.Future[int] | None = None
    number: int = 0


class RunWriter:
    """Writes one run; a `Recorder`.

    What goes wrong is told once, to whoever calls next, and from then on nothing is kept.
    """

    def __init__(
        self, path: Path, record: RunRecord, told: Callable[[str], None], *, journal: Journal
    ) -> None:
        self._path = path
        self._told = told
        self._journal: Journal = journal
        self._messages: deque[str] = deque()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._jobs.put(_Job(lambda writer: writer.begin(record)))
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()

    async def requested(self, record: RequestRecord) -> int:
        """Keep a request before it is sent: on disk when this returns. Gives its number.

        One that is cancelled meanwhile is not sent, and forgotten. Without history it is 0.
        """
        if self._is_closed:
            return 0
        kept: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        job = _Job(lambda writer: writer.request(record), kept)
        self._jobs.put(job)
        try:
            return await kept
        except asyncio.CancelledError:
            self._jobs.put(_Job(lambda writer: writer.withdraw(job.number)))
            raise
        finally:
            self._tell()

    def answered(self, number: int, record: AnswerRecord) -> None:
        """Keep what became of a request."""
        if number:
            self._later(lambda writer: writer.answer(number, record))

    def instance(self, record: InstanceRecord) -> None:
        """Keep how an instance ended."""
        self._later(lambda writer: writer.instance(record))

    def ended(self, record: RunEnd) -> None:
        """Keep how the run ended; everything is on disk when this returns."""
        self._later(lambda writer: writer.end(record))
        self.close()

    def close(self) -> None:
        """Write what is left and end; may be called again."""
        self._is_closed = True
        self._jobs.put(None)
        self._thread.join()
        self._tell()

    def _later(self, write: Callable[[Writer], int]) -> None:
        self._jobs.put(_Job(write))
        self._tell()

    def _tell(self) -> None:
        """Tell what went wrong, in the thread of whoever runs: listeners are not for many."""
        while self._messages:
            self._told(self._messages.popleft())

    def _work(self) -> None:
        groups = self._groups()
        group: list[_Job] = []
        try:
            with writing(self._path, self._messages.append, journal=self._journal) as connection:
                writer = Writer(connection, has_index=add_index(connection))
                for group in groups:
                    _commit(connection, writer, group)
                    _resolve(group)
        except _FAULTS as error:
            self._messages.append(f"this run is not kept in the history: {error}")
        finally:  # whatever happened: nobody may wait for ever
            for left in chain([group], groups):
                _resolve(left, is_kept=False)

    def _groups(self) -> Iterator[list[_Job]]:
        """Yield what is written at once: what is there if somebody waits, else what comes soon."""
        is_over = False
        while not is_over:
            group: list[_Job] = []
            wait: float | None = None
            until = 0.0
            is_awaited = False
            while wait is None or wait >= 0:
                try:
                    job = self._jobs.get(timeout=wait)
                except queue.Empty:
                    break
                if job is None:
                    is_over = True
                    break
                group.append(job)
                until = until or monotonic() + GROUP
                is_awaited = is_awaited or job.kept is not None
                left = until - monotonic()
                wait = min(left, 0) if is_awaited else left
            if group:
                yield group


def _commit(connection: Database, writer: Writer, group: list[_Job]) -> None:
    """Write a group as one transaction; it is on disk when this returns."""
    connection.renew()
    connection.execute("BEGIN IMMEDIATE")
    try:
        for job in group:
            job.number = job.write(writer)
        connection.execute(_COUNT)
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


def _resolve(group: list[_Job], *, is_kept: bool = True) -> None:
    for job in group:
        if job.kept is not None:
            number = job.number if is_kept else 0
            with contextlib.suppress(RuntimeError):  # its loop is closed: nobody waits any more
                job.kept.get_loop().call_soon_threadsafe(_set, job.kept, number)


def _set(kept: asyncio.Future[int], number: int) -> None:
    if not kept.done():
        kept.set_result(number)
