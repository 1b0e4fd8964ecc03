"""The one thread that writes a run into the history, many records to a transaction."""

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic
from typing import Final

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.records import AnswerRecord, InstanceRecord, RequestRecord, RunEnd, RunRecord
from poeflow.store.history_file import open_for_writing, set_aside

GROUP: Final = 0.01
"""Seconds in which records come together into one transaction."""
_Write = Callable[[sqlite3.Connection], int]
_Job = tuple[_Write, Callable[[int], None]]


class RunWriter:
    """Writes one run; a `Recorder`. What goes wrong is told once, and then nothing is kept."""

    def __init__(self, path: Path, record: RunRecord, told: Callable[[str], None]) -> None:
        self._path = path
        self._told = told
        self._run = 0
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._connection = open_for_writing(path, told)
        self._thread = threading.Thread(target=self._work, name="history", daemon=True)
        self._thread.start()
        self._later(lambda connection: self._begin(connection, record))

    async def requested(self, record: RequestRecord) -> int:
        """Keep a request before it is sent: on disk when this returns. Gives its number."""
        loop = asyncio.get_running_loop()
        kept: asyncio.Future[int] = loop.create_future()

        def resolve(number: int) -> None:
            if not kept.cancelled():
                kept.set_result(number)

        def tell(number: int) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(resolve, number)

        self._jobs.put((lambda connection: self._request(connection, record), tell))
        return await kept

    def answered(self, number: int, record: AnswerRecord) -> None:
        """Keep what became of a request."""
        if number:
            data = encode_json(record).decode()
            sql = "UPDATE requests SET answer = ? WHERE id = ?"
            self._later(lambda connection: connection.execute(sql, (data, number)).rowcount)

    def instance(self, record: InstanceRecord) -> None:
        """Keep how an instance ended."""
        self._later(lambda connection: self._instance(connection, record))

    def ended(self, record: RunEnd) -> None:
        """Keep how the run ended; everything is on disk when this returns."""
        data = encode_json(record).decode()
        sql = "UPDATE runs SET exit_code = ?, ending = ? WHERE id = ?"
        self._later(
            lambda connection: connection.execute(sql, (record.exit_code, data, self._run)).rowcount
        )
        self.close()

    def close(self) -> None:
        """Write what is left and end; may be called again."""
        self._jobs.put(None)
        self._thread.join()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _later(self, write: _Write) -> None:
        self._jobs.put((write, lambda _number: None))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            group, is_last = [job], False
            until = monotonic() + GROUP
            while not is_last:
                try:
                    more = self._jobs.get(timeout=max(0.0, until - monotonic()))
                except queue.Empty:
                    break
                is_last = more is None
                group += [more] if more is not None else []
            for (_, tell), number in zip(group, self._committed(group), strict=True):
                tell(number)
            if is_last:
                return

    def _committed(self, group: list[_Job]) -> list[int]:
        """Write a group as one transaction; return what each job gave, zeros where it failed."""
        connection = self._connection
        if connection is None:
            return [0] * len(group)
        try:
            connection.execute("BEGIN IMMEDIATE")
            numbers = [write(connection) for write, _ in group]
            connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            self._give_up(connection, error)
            return [0] * len(group)
        return numbers

    def _give_up(self, connection: sqlite3.Connection, error: Exception) -> None:
        self._connection = None
        connection.close()
        is_damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError | sqlite3.IntegrityError
        )
        kept = f"; it is kept as {set_aside(self._path).name}" if is_damaged else ""
        self._told(f"the history cannot be written any more, and the run goes on: {error}{kept}")

    def _begin(self, connection: sqlite3.Connection, record: RunRecord) -> int:
        sql = "INSERT INTO runs (flow, started, simulated, record) VALUES (?, ?, ?, ?)"
        data = encode_json(record).decode()
        added = connection.execute(sql, (record.flow, record.started, record.simulated, data))
        self._run = added.lastrowid or 0
        return self._run

    def _request(self, connection: sqlite3.Connection, record: RequestRecord) -> int:
        _keep_body(connection, record.fingerprint, record.request)
        data = encode_json(msgspec.structs.replace(record, request={})).decode()
        sql = "INSERT INTO requests (run, instance, fingerprint, record) VALUES (?, ?, ?, ?)"
        values = (self._run, record.instance, record.fingerprint, data)
        return connection.execute(sql, values).lastrowid or 0

    def _instance(self, connection: sqlite3.Connection, record: InstanceRecord) -> int:
        if record.fingerprint is not None and record.request is not None:
            _keep_body(connection, record.fingerprint, record.request)
        data = encode_json(msgspec.structs.replace(record, request=None)).decode()
        sql = "INSERT INTO instances (run, fingerprint, record) VALUES (?, ?, ?)"
        added = connection.execute(sql, (self._run, record.fingerprint, data))
        words = "\n".join(_words(record)).encode("utf-8", "replace").decode()
        if words:
            sql = "INSERT INTO texts (text, run) VALUES (?, ?)"
            connection.execute(sql, (words, self._run))
        return added.lastrowid or 0


def _keep_body(connection: sqlite3.Connection, fingerprint: str, body: dict[str, Json]) -> None:
    sql = "INSERT OR IGNORE INTO bodies (fingerprint, body) VALUES (?, ?)"
    connection.execute(sql, (fingerprint, encode_json(body).decode()))


def _words(record: InstanceRecord) -> Iterable[str]:
    """Yield what is found by its words: what was said to a model, and what it said."""
    body = (record.request or {}).get("body")
    messages = body.get("messages") if isinstance(body, dict) else None
    for message in messages if isinstance(messages, list) else []:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            yield content
        for part in content if isinstance(content, list) else []:
            text = part.get("text") if isinstance(part, dict) else None
            if isinstance(text, str):
                yield text
    yield from (text for text in (record.text, record.reasoning) if text)
