"""Contents: texts and bodies, stored once by their hash, searched, dropped when nothing names them.

The search uses an index of words. Texts in scripts without spaces are scanned, and so is everything
if this SQLite has no full-text index.
"""

import contextlib
import heapq
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal

import msgspec

from poeflow.digest import LONG, Json, decode_json, encode_json, json_pieces
from poeflow.lazy_pattern import lazy_pattern
from poeflow.store.database import Database, KeyFilter, Thing

ContentKind = Literal["request", "completion", "result"]
COMPRESSED_FROM: Final = 512
"""Bytes from which on a body is compressed."""
MAX_BYTES: Final = 256 * 1024 * 1024
"""Bytes of a body: the most a server may send, with every character escaped."""
MAX_INDEXED: Final = 1_000_000
"""Characters of a text that are searched."""
_PIECE: Final = 1024 * 1024
"""Bytes of a body that are written at once."""
_LEVEL: Final = 1
"""The level of zlib: higher ones take longer and save little of short texts."""
_INSERT: Final = "INSERT OR IGNORE INTO contents (hash, kind, body) VALUES (?, ?, ?)"
_INSERT_LONG: Final = "INSERT OR IGNORE INTO contents (hash, kind, body) VALUES (?, ?, zeroblob(?))"
_UNREADABLE: Final = (ValueError, RecursionError)


class AnswerText(msgspec.Struct, frozen=True, omit_defaults=True):
    """The text of an answer, and the reasoning before it."""

    text: str | None = None
    reasoning: str = ""

    @property
    def hash(self) -> bytes:
        """A hash of both, made without a copy of them."""
        made = blake2b(f"{self.text is None} {len(self.reasoning)} ".encode(), digest_size=16)
        for text in (self.reasoning, self.text or ""):
            for start in range(0, len(text), MAX_INDEXED):
                made.update(text[start : start + MAX_INDEXED].encode("utf-8", "surrogatepass"))
        return made.digest()


def text_of_completion(completion: Mapping[str, Json]) -> AnswerText:
    """Return the text of the first choice of a completion, as far as it is plain text."""
    choices = completion.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(message, dict):
        return AnswerText()
    keys = ("reasoning_content", "reasoning", "thinking")
    texts = (message.get(key) for key in keys)
    reasoning = next((text for text in texts if isinstance(text, str) and text), "")
    content = message.get("content")
    return AnswerText(content if isinstance(content, str) else None, reasoning)


def content_hash(kind: str, pieces: Iterable[bytes]) -> bytes:
    """Return the hash that a content is stored by, from the pieces of its JSON."""
    made = blake2b(digest_size=16, person=kind.encode())
    for piece in pieces:
        made.update(piece)
    return made.digest()


def add_content(
    connection: Database, kind: ContentKind, value: Mapping[str, Json], *, is_checked: bool = False
) -> int:
    """Store and index a content unless it is there; return its number.

    A stored body whose hash does not match is replaced; one that was written lately is compared
    only if it `is_checked`.
    """
    texts = [*_texts(kind, value)] if kind != "request" else []
    is_long = any(len(text) > LONG for text in texts)
    pieces = json_pieces(value) if is_long else (encode_json(value),)
    size = sum(map(len, pieces))
    if size > MAX_BYTES:
        raise ValueError(f"{size:,} bytes are more than is stored")
    key = content_hash(kind, pieces)
    known = connection.recent.get(key)
    if known is not None and not is_checked:
        return known
    body = packed(pieces, size)
    number = _inserted(connection, key, kind, body)
    if number is None:
        sql = "SELECT id, body IS ? FROM contents WHERE hash = ?"
        found, is_same = connection.execute(sql, (body, key)).fetchone()
        if not is_same:
            sql = "UPDATE contents SET body = ?, kind = ? WHERE id = ?"
            connection.execute(sql, (body, kind, found))
        connection.recent[key] = int(found)
        return int(found)
    del body  # it may be large
    connection.recent[key] = number
    if connection.has_index:
        _index(connection, number, _words(texts or _texts(kind, value)))
    return number


def _inserted(
    connection: Database, key: bytes, kind: ContentKind, body: str | bytearray
) -> int | None:
    """Insert a content; return its number, None if it is there.

    A long body is written in pieces: SQLite copies twice what it gets as a whole.
    """
    is_long = isinstance(body, bytearray) and len(body) > _PIECE
    sql, given = (_INSERT_LONG, len(body)) if is_long else (_INSERT, body)
    added = connection.execute(sql, (key, kind, given))
    if not added.rowcount:
        return None
    number = added.lastrowid or 0
    if isinstance(body, bytearray) and is_long:
        with connection.blobopen("contents", "body", number) as blob:
            for at in range(0, len(body), _PIECE):
                blob.write(body[at : at + _PIECE])
    return number


def recent_answer(fingerprint: bytes, text_hash: bytes = b"", *, simulated: bool) -> bytes:
    """Return the key of a stored answer's content among recent rows; one with its text's hash."""
    return b"".join((b"simulated" if simulated else b"real", fingerprint, text_hash))


def recent_request(fingerprint: bytes) -> bytes:
    """Return the key of a recorded request's content among recent rows."""
    return b"request " + fingerprint


def answer_key(fingerprint: bytes, *, simulated: bool) -> bytes:
    """Return the key of a stored answer in a filter."""
    return b"answer %d " % simulated + fingerprint


def end_key(first: bytes, *, simulated: bool) -> bytes:
    """Return the key of the end of a conversation in a filter."""
    return b"end %d " % simulated + first


def output_key(place: str, path: str, *, simulated: bool) -> bytes:
    """Return the key of the rows of an output file in a filter."""
    return b"output %d " % simulated + f"{place} {path}".encode()


def track_keys(connection: Database) -> None:
    """Make a connection collect all keys in its file, and those that it writes."""
    keys = KeyFilter()
    for simulated, fingerprint in connection.execute("SELECT simulated, fingerprint FROM answers"):
        keys.add(answer_key(bytes(fingerprint), simulated=simulated))
    for simulated, first in connection.execute("SELECT simulated, first FROM ends"):
        keys.add(end_key(bytes(first), simulated=simulated))
    for simulated, place, path in connection.execute("SELECT simulated, place, path FROM outputs"):
        keys.add(output_key(str(place), str(path), simulated=simulated))
    connection.keys = keys


def packed(pieces: Iterable[bytes], size: int) -> str | bytearray:
    """Return a body of so many bytes as it is stored: compressed if that makes it smaller."""
    if size >= COMPRESSED_FROM:
        smaller, compressor = bytearray(), zlib.compressobj(_LEVEL)
        for piece in pieces:
            smaller += compressor.compress(piece)
        smaller += compressor.flush()
        if len(smaller) < size * 0.9:
            return smaller
    return b"".join(pieces).decode()


def unpacked(body: object) -> bytes:
    """Return the JSON that a stored body holds. Raises `ValueError` or `TypeError`."""
    if isinstance(body, str):
        return body.encode()
    if not isinstance(body, bytes):
        raise TypeError("a record is not a text")
    expand = zlib.decompressobj()
    try:
        data = expand.decompress(body, MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"a content is damaged: {error}") from None
    if not expand.eof or expand.unused_data:
        raise ValueError("a content is damaged: it does not end where it should")
    return data


_UNUSED: Final = """DELETE FROM contents WHERE id NOT IN (
    SELECT request FROM instances WHERE request IS NOT NULL
    UNION SELECT result FROM instances WHERE result IS NOT NULL
    UNION SELECT request FROM requests
    UNION SELECT completion FROM requests WHERE completion IS NOT NULL
    UNION SELECT answer FROM answers
    UNION SELECT request FROM answers WHERE request IS NOT NULL)"""
"""Deletes the contents that nothing refers to."""


def drop_unused(connection: Database) -> None:
    """Delete what nothing refers to, commit, and free the space if the disk has room for that."""
    connection.renew()
    connection.execute(_UNUSED)
    connection.execute("UPDATE changes SET number = number + 1")
    if add_index(connection):
        index_again(connection)
    connection.execute("COMMIT")
    connection.renew()
    with contextlib.suppress(sqlite3.Error):  # all is committed; a full disk, or a reader
        connection.execute("VACUUM")


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
"""The tables of the index: https://sqlite.org/fts5.html#fts5_data_structures."""
INDEX_SETTINGS: Final = {"SELECT k, v FROM search_config LIMIT 9": (("version", 4),)}
_WITH_INDEX: Final = "SELECT rowid FROM search WHERE search MATCH"
_WITHOUT: Final = "SELECT id FROM contents WHERE holds(kind, body, "
_RUNS: Final = """id IN (
    SELECT run FROM instances WHERE request IN ({hits}) OR result IN ({hits})
    UNION SELECT run FROM requests WHERE request IN ({hits}) OR completion IN ({hits}))"""
_INDEXED: Final = lazy_pattern(
    r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\ua000-\ua4cf\uf900-\ufaff"
    r"\uff66-\uff9f\U00020000-\U0003ffff]+",
)
"""Words of the index: letters and digits, in scripts with spaces between words."""
_PART: Final = lazy_pattern(r"\w+")


class Condition(msgspec.Struct, frozen=True):
    """A condition on runs in SQL, and the values of its parameters by name."""

    sql: str = ""
    values: Mapping[str, str] = {}


def add_index(connection: Database) -> bool:
    """Make the index if this SQLite can, and complete it; return whether there is one.

    It is incomplete if a SQLite, or a poeflow, without an index wrote to the file.
    """
    try:
        connection.execute(_INDEX)
    except sqlite3.OperationalError:
        return False
    sql = "SELECT max(id) FROM search_docsize UNION ALL SELECT max(id) FROM contents"
    (known,), (last,) = connection.execute(sql)
    if last != known:
        index_again(connection)
    return True


def index_again(connection: Database) -> None:
    """Empty the index, then index all contents."""
    connection.execute("INSERT INTO search (search) VALUES ('delete-all')")
    rows = connection.execute("SELECT id, kind, body FROM contents ORDER BY id")
    for number, kind, body in rows:
        connection.renew()
        _index(connection, number, _words_in(kind, body))


def _index(connection: sqlite3.Connection, number: int, words: str) -> None:
    each = " ".join(dict.fromkeys(words[:MAX_INDEXED].split()))
    connection.execute("INSERT INTO search (rowid, words) VALUES (?, ?)", (number, each))


def condition(connection: sqlite3.Connection, text: str) -> Condition:
    """Return the condition that a run holds all words of `text`, in any case and order.

    `connection` gets a function that the condition uses.
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


def _words(texts: Iterable[str]) -> str:
    """Return the texts of a content that are searched, as one."""
    return plain("\n".join([text[:MAX_INDEXED] for text in texts]))


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
    """Return the texts of a stored content that are searched: none if it is damaged."""
    try:
        value = decode_json(unpacked(body))
    except (*_UNREADABLE, TypeError):
        return ""
    return _words(_texts(kind, value)) if isinstance(value, dict) else ""


def _texts(kind: str, value: Mapping[str, Json]) -> Iterator[str]:
    """Yield the texts of a request, or of an answer."""
    if kind == "request":
        body = value.get("body")
        for message in _objects(body if isinstance(body, dict) else {}, "messages"):
            yield from _message_texts(message)
        return
    pair = value.get("text"), value.get("reasoning")
    if kind == "completion":
        answer = text_of_completion(value)
        pair = answer.text, answer.reasoning
    yield from (text for text in pair if isinstance(text, str))


def _message_texts(message: Mapping[str, Json]) -> Iterator[str]:
    """Yield the texts of a message: its content, or the text parts of it."""
    content = message.get("content")
    if isinstance(content, str):
        yield content
    for part in _objects(message, "content"):
        text = part.get("text")
        if isinstance(text, str):
            yield text


def _objects(value: Mapping[str, Json], key: str) -> list[dict[str, Json]]:
    found = value.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


_PRUNABLE: Final = """SELECT fingerprint, stored, length(body) FROM answers
    JOIN contents ON contents.id = answers.answer WHERE simulated = 0 ORDER BY stored DESC"""
_PRUNE: Final = "DELETE FROM answers WHERE simulated = 0 AND fingerprint = ?"
_PRUNE_ENDS: Final = """DELETE FROM ends WHERE simulated = 0 AND last NOT IN
    (SELECT fingerprint FROM answers WHERE simulated = 0)"""


class Pruning(msgspec.Struct, frozen=True, kw_only=True):
    """Which answers are deleted.

    Those stored before `before`, in Unix seconds; the oldest, until the others take `max_bytes`;
    those that none of the lock files `locks` mentions, unless a run asked for them beside one that
    is mentioned.
    """

    before: float | None = None
    max_bytes: int | None = None
    locks: tuple[Path, ...] | None = None


def prune_answers(
    connection: Database,
    wanted: Pruning,
    belongs: Callable[[bytes], bool] | None,
    aged: list[tuple[float, int, Path]],
) -> tuple[int, int, list[tuple[Path, int]]]:
    """Delete answers, then contents that nothing refers to, within a transaction.

    `belongs` says of a fingerprint whether it stays; None if all may go. Returns the number of
    answers, their bytes, and the media files to delete, with their bytes.
    """
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
        is_unnamed = belongs is not None and isinstance(what, bytes) and not belongs(what)
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
