"""Records as rows of the history and back, and the search for words in them.

What is long goes to a table of its own, once. Scripts that put no space between words are looked
through, as is everything if this SQLite has no full-text index.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping
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
from poeflow.store.database import Thing

MAX_WORDS: Final = 16
_INDEX: Final = "CREATE VIRTUAL TABLE IF NOT EXISTS search USING fts5(words, content='')"
INDEX_THINGS: Final = frozenset(
    Thing("table", name, name, sql)
    for name, sql in (
        ("search", "CREATE VIRTUAL TABLE search USING fts5(words, content='')"),
        ("search_data", "CREATE TABLE 'search_data'(id INTEGER PRIMARY KEY, block BLOB)"),
        (
            "search_idx",
            "CREATE TABLE 'search_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID",
        ),
        ("search_docsize", "CREATE TABLE 'search_docsize'(id INTEGER PRIMARY KEY, sz BLOB)"),
        ("search_config", "CREATE TABLE 'search_config'(k PRIMARY KEY, v) WITHOUT ROWID"),
    )
)
"""What the index is made of: https://sqlite.org/fts5.html#fts5_data_structures."""
INDEX_SETTINGS: Final = {"SELECT k, v FROM search_config LIMIT 9": (("version", 4),)}
_WITH_INDEX: Final = "SELECT rowid FROM search WHERE search MATCH"
_WITHOUT: Final = "SELECT id FROM contents WHERE kind <> 'completion' AND holds(kind, body, "
_RUNS: Final = """id IN (
    SELECT run FROM instances WHERE request IN ({hits}) OR result IN ({hits})
    UNION SELECT run FROM requests WHERE request IN ({hits}))"""
SEARCHED: Final = frozenset({"request", "result"})
"""Which contents are found: a completion says what the result says, at twice the cost."""
_INDEXED: Final = re.compile(
    r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\ua000-\ua4cf\uf900-\ufaff"
    r"\uff66-\uff9f\U00020000-\U0003ffff]+",
)
"""Words as the index has them: of letters and digits, in scripts that part them."""
_PART: Final = re.compile(r"\w+")


class Condition(msgspec.Struct, frozen=True):
    """What is asked of a run, in SQL, and the values that stand in it by name."""

    sql: str = ""
    values: Mapping[str, str] = {}


def add_index(connection: sqlite3.Connection) -> bool:
    """Make the index where there can be one, and complete where it is not; whether there is one.

    It is incomplete where the file was written to by a SQLite that had none.
    """
    try:
        connection.execute(_INDEX)
    except sqlite3.OperationalError:
        return False
    sql = "SELECT max(id) FROM search_docsize UNION ALL SELECT max(id) FROM contents"
    (known,), (last,) = connection.execute(f"{sql} WHERE kind <> 'completion'")
    if last != known:
        index_again(connection)
    return True


def index_again(connection: sqlite3.Connection) -> None:
    """Index what there is now, and nothing else."""
    connection.execute("INSERT INTO search (search) VALUES ('delete-all')")
    sql = "SELECT id, kind, body FROM contents WHERE kind <> 'completion' ORDER BY id"
    rows = connection.execute(sql)
    for number, kind, body in rows:
        index(connection, number, _words_in(kind, body))


def index(connection: sqlite3.Connection, number: int, words: str) -> None:
    connection.execute("INSERT INTO search (rowid, words) VALUES (?, ?)", (number, words))


def condition(connection: sqlite3.Connection, text: str) -> Condition:
    """Return what runs fulfil that hold all words of `text`, case and order left out.

    `connection` is taught what is asked in it.
    """
    connection.create_function("holds", 3, _holds, deterministic=True)
    has_index = _has_index(connection)
    words = plain(text).split()[:MAX_WORDS]
    clauses = ["TRUE"]
    values: dict[str, str] = {}
    for number, word in enumerate(words):
        name = f"word_{number}"
        is_indexed = has_index and all(map(_INDEXED.fullmatch, _PART.findall(word) or [""]))
        values[name] = '"' + word.replace('"', '""') + '" *' if is_indexed else word.casefold()
        hits = f"{_WITH_INDEX} :{name}" if is_indexed else f"{_WITHOUT}:{name})"
        clauses.append(_RUNS.format(hits=hits))
    return Condition(" AND ".join(clauses), values)


def words_of(kind: str, value: Json) -> str:
    """Return what a content is found by: what was said to a model, or what it said."""
    return plain("\n".join(_texts(kind, value)))


def plain(text: str) -> str:
    """Return `text` as SQLite can hold it: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode().replace("\0", " ")


def _has_index(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT rowid FROM search LIMIT 0")
    except sqlite3.OperationalError:
        return False
    return True


def _holds(kind: str, body: object, word: str) -> bool:
    return word in _words_in(kind, body).casefold()


def _words_in(kind: str, body: object) -> str:
    """Return what a content that is kept is found by: nothing where it is damaged."""
    try:
        return words_of(kind, decode_json(body.encode())) if isinstance(body, str) else ""
    except (ValueError, RecursionError):
        return ""


def _texts(kind: str, value: Json) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    if kind == "request":
        for message in _objects(_part(value, "body"), "messages"):
            yield from _said(message)
    else:
        texts = (value.get("text"), value.get("reasoning"))
        yield from (text for text in texts if isinstance(text, str))


def _said(message: Mapping[str, Json]) -> Iterator[str]:
    """Yield the texts of a message: its content, or the text parts of it."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in _objects(message, "content"):
        text = part.get("text")
        if isinstance(text, str):
            yield text


def _part(value: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _objects(value: Mapping[str, Json], key: str) -> list[dict[str, Json]]:
    found = value.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


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
