"""Records as rows of the history and back; what is long goes to a table of its own, once."""

import sqlite3
from hashlib import blake2b
from typing import Final, Literal, TypeVar

import msgspec

from poeflow.digest import Json, decode_json, encode_json
from poeflow.records import (
    AnswerRecord,
    Counts,
    InstanceRecord,
    RequestRecord,
    RequestRow,
    RunEnd,
    RunRecord,
    RunRow,
    counted,
)
from poeflow.store.history_search import SEARCHED, index, plain, words_of

Kind = Literal["request", "completion", "result"]
INSTANCES: Final = """SELECT instances.record, request.body, result.body FROM instances
    LEFT JOIN contents AS request ON request.id = instances.request
    LEFT JOIN contents AS result ON result.id = instances.result"""
"""Selects the columns `instance_row` reads."""
REQUESTS: Final = """SELECT requests.id, requests.record, request.body, requests.ending,
    completion.body FROM requests JOIN contents AS request ON request.id = requests.request
    LEFT JOIN contents AS completion ON completion.id = requests.completion"""
"""Selects the columns `request_row` reads."""
_Record = TypeVar("_Record")
_UNREADABLE: Final = (ValueError, RecursionError)


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an instance came to, as far as it may be long."""

    text: str | None = None
    reasoning: str = ""
    data: Json = None


class Writer:
    """Puts the records of one run into the file of a connection, within its transaction."""

    def __init__(self, connection: sqlite3.Connection, *, has_index: bool) -> None:
        self._connection = connection
        self._has_index = has_index
        self._run = 0
        self._sent: dict[str, int] = {}
        """The contents of the requests this run sent, by fingerprint."""

    def begin(self, record: RunRecord) -> int:
        sql = "INSERT INTO runs (flow, started, simulated, record) VALUES (?, ?, ?, ?)"
        values = (plain(record.flow), record.started, record.simulated, _encoded(record))
        self._run = self._insert(sql, values)
        return self._run

    def request(self, record: RequestRecord) -> int:
        """Keep a request; return its number."""
        body = self._content("request", record.request)
        self._sent[record.fingerprint] = body
        data = _encoded(msgspec.structs.replace(record, request={}))
        sql = "INSERT INTO requests (run, instance, request, record) VALUES (?, ?, ?, ?)"
        return self._insert(sql, (self._run, plain(record.instance), body, data))

    def withdraw(self, number: int) -> int:
        """Forget a request that was not sent after all."""
        self._sent.clear()
        return self._connection.execute("DELETE FROM requests WHERE id = ?", (number,)).rowcount

    def answer(self, number: int, record: AnswerRecord) -> int:
        body = None if record.answer is None else self._content("completion", record.answer)
        data = _encoded(msgspec.structs.replace(record, answer=None))
        sql = "UPDATE requests SET ending = ?, completion = ? WHERE id = ?"
        return self._connection.execute(sql, (data, body, number)).rowcount

    def instance(self, record: InstanceRecord) -> int:
        request = None
        if record.request is not None:
            known = self._sent.get(record.fingerprint or "")
            request = known or self._content("request", record.request)
        made = Result(record.text, record.reasoning, record.data)
        result = None if made == Result() else self._content("result", msgspec.to_builtins(made))
        rest = msgspec.structs.replace(record, request=None, text=None, reasoning="", data=None)
        fingerprint = None if record.fingerprint is None else plain(record.fingerprint)
        sql = """INSERT INTO instances (run, name, fingerprint, request, result, record)
            VALUES (?, ?, ?, ?, ?, ?)"""
        row = (self._run, plain(record.id), fingerprint, request, result, _encoded(rest))
        return self._insert(sql, row)

    def end(self, record: RunEnd) -> int:
        sql = "UPDATE runs SET exit_code = ?, ending = ? WHERE id = ?"
        row = (record.exit_code, _encoded(record), self._run)
        return self._connection.execute(sql, row).rowcount

    def _content(self, kind: Kind, value: dict[str, Json]) -> int:
        """Return the number of a content, which is kept and indexed where it is new."""
        data = encode_json(value)
        key = blake2b(data, digest_size=16, person=kind.encode()).digest()
        sql = "INSERT OR IGNORE INTO contents (hash, kind, body) VALUES (?, ?, ?)"
        added = self._connection.execute(sql, (key, kind, data.decode()))
        if not added.rowcount:
            sql = "SELECT id FROM contents WHERE hash = ?"
            (number,) = self._connection.execute(sql, (key,)).fetchone()
            return int(number)
        number = added.lastrowid or 0
        if self._has_index and kind in SEARCHED:
            index(self._connection, number, words_of(kind, value))
        return number

    def _insert(self, sql: str, values: tuple[object, ...]) -> int:
        return self._connection.execute(sql, values).lastrowid or 0


def run_row(row: tuple[int, str, str | None]) -> RunRow:
    number, record, ending = row
    end = None if ending is None else _decoded(ending, RunEnd)
    return RunRow(id=number, record=_decoded(record, RunRecord), end=end)


def counts_of(connection: sqlite3.Connection, run: int) -> Counts:
    """Return what a run did by now, from what was kept of its instances and requests."""
    ended = connection.execute("SELECT record FROM instances WHERE run = ?", (run,))
    sent = connection.execute("SELECT id, record, ending FROM requests WHERE run = ?", (run,))
    return counted(
        (_decoded(record, InstanceRecord) for (record,) in ended),
        (
            RequestRow(
                id=number,
                record=_decoded(record, RequestRecord),
                answer=None if ending is None else _decoded(ending, AnswerRecord),
            )
            for number, record, ending in sent
        ),
    )


def instance_row(row: tuple[str, str | None, str | None]) -> InstanceRecord:
    record, request, result = row
    made = Result() if result is None else _decoded(result, Result)
    return msgspec.structs.replace(
        _decoded(record, InstanceRecord),
        request=None if request is None else _object(request),
        text=made.text,
        reasoning=made.reasoning,
        data=made.data,
    )


def request_row(row: tuple[int, str, str, str | None, str | None]) -> RequestRow:
    number, record, request, ending, completion = row
    asked = msgspec.structs.replace(_decoded(record, RequestRecord), request=_object(request))
    if ending is None:
        return RequestRow(id=number, record=asked)
    answer = None if completion is None else _object(completion)
    ended = msgspec.structs.replace(_decoded(ending, AnswerRecord), answer=answer)
    return RequestRow(id=number, record=asked, answer=ended)


def _encoded(record: msgspec.Struct) -> str:
    return encode_json(record).decode()


def _decoded(data: str, kind: type[_Record]) -> _Record:
    """Return a record; half a surrogate pair in it is beyond the fast decoder."""
    _check_text(data)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        raise
    except _UNREADABLE:
        return _halved(data, kind)


def _halved(data: str, kind: type[_Record]) -> _Record:
    """Return a record that the fast decoder does not read: it may hold half a surrogate pair."""
    try:
        return msgspec.convert(decode_json(data.encode()), kind)
    except _UNREADABLE as error:
        raise msgspec.ValidationError(f"a record is damaged: {error}") from None


def _object(data: str) -> dict[str, Json]:
    _check_text(data)
    return msgspec.convert(decode_json(data.encode()), dict[str, Json])


def _check_text(data: object) -> None:
    """Check that a column holds text: SQLite takes anything. Raises `TypeError`."""
    if not isinstance(data, str):
        raise TypeError("a record that is no text")
