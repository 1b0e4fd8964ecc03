"""Records as rows of the history and back. Long texts go to `contents`, once."""

import itertools
import sqlite3
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from poeflow.digest import PREFIX, Json, decode_json, encode_json, json_pieces
from poeflow.records import (
    AnswerRecord,
    Counts,
    InstanceRecord,
    RequestRecord,
    RequestRow,
    RunEnd,
    RunRecord,
    RunRow,
    run_counts,
    whole_instance,
)
from poeflow.store.contents import (
    MAX_BYTES,
    AnswerText,
    add_content,
    content_hash,
    packed,
    plain,
    recent_answer,
    recent_request,
    text_of_completion,
    unpacked,
)
from poeflow.store.database import Database
from poeflow.store.database_file import reading

INSTANCES_1: Final = """SELECT instances.record, request.body, result.body, NULL FROM instances
    LEFT JOIN contents AS request ON request.id = instances.request
    LEFT JOIN contents AS result ON result.id = instances.result"""
"""`INSTANCES` for a file of version 1."""
INSTANCES: Final = """SELECT instances.record, request.body, result.body, answer.body FROM instances
    LEFT JOIN contents AS request ON request.id = instances.request
    LEFT JOIN contents AS result ON result.id = instances.result
    LEFT JOIN quoted ON quoted.instance = instances.id
    LEFT JOIN contents AS answer ON answer.id = quoted.answer"""
"""Selects the columns `instance_row` reads."""
REQUESTS: Final = """SELECT requests.id, requests.record, request.body, requests.ending,
    completion.body FROM requests JOIN contents AS request ON request.id = requests.request
    LEFT JOIN contents AS completion ON completion.id = requests.completion"""
"""Selects the columns `request_row` reads."""
OLDER: Final = """SELECT requests.completion, requests.request, instances.record, requests.record
    FROM instances JOIN runs ON runs.id = instances.run AND runs.simulated = ?1
    JOIN requests ON requests.run = instances.run AND requests.instance = instances.name
    WHERE fingerprint = ?2 AND result IS NOT NULL AND completion IS NOT NULL
    UNION ALL SELECT quoted.answer, instances.request, instances.record, NULL
    FROM instances JOIN runs ON runs.id = instances.run AND runs.simulated = ?1
    JOIN quoted ON quoted.instance = instances.id WHERE fingerprint = ?2 AND result IS NOT NULL
    ORDER BY 1 DESC"""
"""Selects the answers of instances by their first request, the newest first, for `older_answer`."""
LENGTHS: Final = """SELECT instance, record, ending FROM requests
    WHERE ending IS NOT NULL AND run IN (SELECT id FROM runs
        WHERE flow = :flow AND simulated = :simulated
            AND coalesce(json_extract(record, '$.models'), '{}') = '{}' ORDER BY id DESC LIMIT 20)
    ORDER BY id DESC LIMIT 100000"""
"""Selects the name of an instance and what `lengths_of` reads, the newest first."""
_COSTS: Final = """
SELECT sum(cost), count(*) FILTER (WHERE cost IS NULL AND sends > 0) FROM (
    SELECT json_extract(requests.ending, '$.cost_usd') AS cost,
        coalesce(json_extract(requests.ending, '$.sends'), 1) AS sends,
        runs.started + coalesce(json_extract(requests.ending, '$.ended'),
            json_extract(requests.record, '$.began')) AS time
    FROM requests JOIN runs ON runs.id = requests.run
    WHERE NOT runs.simulated AND (runs.started >= :begin OR runs.exit_code IS NULL
        OR runs.started + json_extract(runs.ending, '$.seconds') >= :begin))
WHERE time >= :begin"""
"""Selects what requests since `begin` cost, and how many have no known cost."""
_MADE: Final = """SELECT run, name, fingerprint FROM instances JOIN runs ON runs.id = run
    WHERE NOT runs.simulated AND fingerprint IS NOT NULL"""
_SENT: Final = """SELECT run, instance, json_extract(requests.record, '$.fingerprint') FROM requests
    JOIN runs ON runs.id = run WHERE NOT runs.simulated"""
_STORED: Final = """SELECT answer, said, contents.id FROM answers
    LEFT JOIN contents ON contents.id = request AND hash = ? AND body IS ?
    WHERE simulated = ? AND fingerprint = ?"""
"""Selects a stored answer, the hash of its text, and its request if that is as it should be."""
_NOT_STORED: Final = (None, None, None)
_Record = TypeVar("_Record")
_UNREADABLE: Final = (ValueError, RecursionError)


class Result(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parts of an instance's result that may be long."""

    text: str | None = None
    reasoning: str = ""
    data: Json = None
    answer: str | None = None


class RunRows:
    """Puts the records of one run into the file of a connection, within its transactions."""

    def __init__(self, connection: Database, record: RunRecord) -> None:
        self._connection = connection
        sql = "INSERT INTO runs (flow, started, simulated, record) VALUES (?, ?, ?, ?)"
        values = (plain(record.flow), record.started, record.simulated, _encoded(record))
        self._is_simulated = record.simulated
        self._run = self._insert(sql, values)

    def is_in(self, connection: Database) -> bool:
        """Whether the run is in the file of a connection."""
        return connection is self._connection

    def request(self, record: RequestRecord) -> int:
        """Store a request; return its number."""
        body = add_content(self._connection, "request", record.request)
        key = _key_of(record.fingerprint)
        if key is not None:
            self._connection.recent[recent_request(key)] = body
        data = _encoded(msgspec.structs.replace(record, request={}))
        sql = "INSERT INTO requests (run, instance, request, record) VALUES (?, ?, ?, ?)"
        return self._insert(sql, (self._run, plain(record.instance), body, data))

    def withdraw(self, number: int) -> int:
        """Delete a request that was not sent after all."""
        return self._connection.execute("DELETE FROM requests WHERE id = ?", (number,)).rowcount

    def answer(self, number: int, record: AnswerRecord, stored: str | None) -> int:
        """Store how a request ended; `stored` is the fingerprint of an answer in the store."""
        body = None
        if record.answer is not None:
            body = add_content(self._connection, "completion", record.answer)
        elif stored is not None:
            body = self._stored(stored)
        data = _encoded(msgspec.structs.replace(record, answer=None))
        sql = "UPDATE requests SET ending = ?, completion = ? WHERE id = ?"
        return self._connection.execute(sql, (data, body, number)).rowcount

    def instance(self, record: InstanceRecord) -> int:
        """Store how an instance ended. A result that equals an answer refers to it."""
        quoted, request = self._in_store(record)
        made = Result(record.text, record.reasoning, record.data, record.answer)
        result = None
        if quoted is None and made != Result():
            result = add_content(self._connection, "result", msgspec.to_builtins(made))
        rest = msgspec.structs.replace(
            record, request=None, text=None, reasoning="", data=None, answer=None
        )
        fingerprint = None if record.fingerprint is None else plain(record.fingerprint)
        sql = """INSERT INTO instances (run, name, fingerprint, request, result, record)
            VALUES (?, ?, ?, ?, ?, ?)"""
        row = (self._run, plain(record.id), fingerprint, request, result or quoted, _encoded(rest))
        number = self._insert(sql, row)
        if quoted is not None:
            self._insert("INSERT INTO quoted (instance, answer) VALUES (?, ?)", (number, quoted))
        return number

    def end(self, record: RunEnd) -> int:
        sql = "UPDATE runs SET exit_code = ?, ending = ? WHERE id = ?"
        row = (record.exit_code, _encoded(record), self._run)
        return self._connection.execute(sql, row).rowcount

    def _in_store(self, record: InstanceRecord) -> tuple[int | None, int | None]:
        """Return the contents of the stored answer that has a result's text, and of its request.

        The first is None if there is no such answer. A request that is not there yet is stored.
        """
        connection, key = self._connection, _key_of(record.fingerprint)
        text_hash = _text_hash(record)
        quoted = request = asked = body = None
        if key is not None and text_hash is not None:
            recent = recent_answer(key, text_hash, simulated=self._is_simulated)
            quoted = connection.recent.get(recent)
        if record.request is not None and key is not None:
            request = connection.recent.get(recent_request(key))
        if record.request is not None and request is None:
            pieces = json_pieces(record.request)
            size = sum(map(len, pieces))
            asked = content_hash("request", pieces)
            request = connection.recent.get(asked)
            body = packed(pieces, size) if request is None and size <= MAX_BYTES else None
        if key is not None and (body is not None or (text_hash is not None and quoted is None)):
            row = (asked, body, self._is_simulated, key)
            answer, hash_there, same = connection.execute(_STORED, row).fetchone() or _NOT_STORED
            quoted = answer if text_hash is not None and text_hash == hash_there else quoted
            request = same if request is None else request
        if record.request is not None and request is None:
            request = add_content(connection, "request", record.request)
        return quoted, request

    def _stored(self, fingerprint: str) -> int | None:
        """Return the content of a stored answer."""
        key = _key_of(fingerprint)
        if key is None:
            return None
        recent = recent_answer(key, simulated=self._is_simulated)
        known = self._connection.recent.get(recent)
        if known is not None:
            return known
        sql = "SELECT answer FROM answers WHERE simulated = ? AND fingerprint = ?"
        found = self._connection.execute(sql, (self._is_simulated, key)).fetchone()
        return None if found is None else int(found[0])

    def _insert(self, sql: str, values: tuple[object, ...]) -> int:
        return self._connection.execute(sql, values).lastrowid or 0


def _key_of(fingerprint: str | None) -> bytes | None:
    """Return the key of an answer in the store, None if it cannot be there."""
    try:
        return None if fingerprint is None else bytes.fromhex(fingerprint)
    except ValueError:
        return None


def _text_hash(record: InstanceRecord) -> bytes | None:
    """Return the hash of the text of a result, None if that is not all there is of it."""
    if record.text is None or record.data is not None or record.answer is not None:
        return None
    return AnswerText(record.text, record.reasoning).hash


def run_row(row: tuple[int, object, object]) -> RunRow:
    number, record, ending = row
    end = None if ending is None else _decoded(ending, RunEnd)
    return RunRow(id=number, record=_decoded(record, RunRecord), end=end)


def counts_of(connection: sqlite3.Connection, run: int) -> Counts:
    """Return the counts of a run so far, from its stored instances and requests."""
    ended = connection.execute("SELECT record FROM instances WHERE run = ?", (run,))
    sent = connection.execute("SELECT id, record, ending FROM requests WHERE run = ?", (run,))
    return run_counts(
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


def instance_row(row: tuple[object, object, object, object]) -> InstanceRecord:
    record, request, result, answer = row
    made = Result()
    if answer is not None:
        found = text_of_completion(_object(answer))
        made = Result(found.text, found.reasoning)
    elif result is not None:
        made = _decoded(result, Result)
    return msgspec.structs.replace(
        _decoded(record, InstanceRecord),
        request=None if request is None else _object(request),
        text=made.text,
        reasoning=made.reasoning,
        data=made.data,
        answer=made.answer,
    )


def request_row(row: tuple[int, object, object, object, object]) -> RequestRow:
    number, record, request, ending, completion = row
    asked = msgspec.structs.replace(_decoded(record, RequestRecord), request=_object(request))
    if ending is None:
        return RequestRow(id=number, record=asked)
    answer = None if completion is None else _object(completion)
    ended = msgspec.structs.replace(_decoded(ending, AnswerRecord), answer=answer)
    return RequestRow(id=number, record=asked, answer=ended)


class _Purpose(msgspec.Struct):
    purpose: str = "answer"


class _Asked(_Purpose):
    fingerprint: str | None = None
    answered_by: str | None = None


class _Tokens(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


def lengths_of(record: str, ending: str) -> tuple[int | None, int | None] | None:
    """Return the tokens of a first request and its answer, None for any other or without tokens."""
    if _decoded(record, _Purpose).purpose != "answer":
        return None
    tokens = _decoded(ending, _Tokens)
    found = (tokens.prompt_tokens, tokens.completion_tokens)
    return None if found == (None, None) else found


def older_answer(instance: object, request: object) -> tuple[str, str | None] | None:
    """Return the request of an older answer, and the fallback model that gave it, if any.

    `instance` and `request` are records; without the latter the answer is that to the first
    request. None if they are damaged, or a judge answered.
    """
    try:
        made = _decoded(instance, _Asked)
        asked = made if request is None else _decoded(request, _Asked)
    except _UNREADABLE:
        return None
    if asked.purpose == "judge" or made.fingerprint is None:
        return None
    if asked.purpose == "fallback":  # it is asked by a request of its own, and answers the first
        return made.fingerprint, made.answered_by
    return asked.fingerprint or made.fingerprint, made.answered_by


def cost_since(path: Path, begin: float) -> tuple[Decimal, int]:
    """Return what the requests in a history cost that were answered since a time in Unix seconds.

    Then the number of those whose cost is not known. Simulated ones do not count. Raises
    `DiskError`.
    """
    with reading(path) as connection:
        if connection is None:
            return Decimal(0), 0
        cost, unknown = connection.execute(_COSTS, {"begin": begin}).fetchone()
        return Decimal(str(cost or 0)), int(unknown)


def belonging(connection: Database, named: frozenset[str]) -> Callable[[bytes], bool]:
    """Return a function that says whether the answer to a request belongs to one of the `named`.

    Those are the samples, judges and turns that runs asked for with it, and the last requests of
    conversations. `named` are the beginnings of fingerprints.
    """
    made = connection.execute(_MADE)
    own = {
        (run, whole_instance(str(name)))
        for run, name, first in itertools.chain(made, connection.execute(_SENT))
        if str(first)[:PREFIX] in named
    }
    kept = set(named)
    for run, name, fingerprint in connection.execute(_SENT):
        if (run, whole_instance(str(name))) in own:
            kept.add(str(fingerprint)[:PREFIX])
    ends = connection.execute("SELECT first, last FROM ends WHERE simulated = 0")
    kept |= {last.hex()[:PREFIX] for first, last in ends if first.hex()[:PREFIX] in kept}
    return lambda key: key.hex()[:PREFIX] in kept


def _encoded(record: msgspec.Struct) -> str:
    return encode_json(record).decode()


def _decoded(body: object, kind: type[_Record]) -> _Record:
    """Return a record. The fast decoder cannot read half a surrogate pair."""
    data = unpacked(body)
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError:
        raise
    except _UNREADABLE:
        return _halved(data, kind)


def _halved(data: bytes, kind: type[_Record]) -> _Record:
    """Return a record that the fast decoder cannot read: it may hold half a surrogate pair."""
    try:
        return msgspec.convert(decode_json(data), kind)
    except _UNREADABLE as error:
        raise msgspec.ValidationError(f"a record is damaged: {error}") from None


def _object(body: object) -> dict[str, Json]:
    return msgspec.convert(decode_json(unpacked(body)), dict[str, Json])
