"""Finding runs by words of prompts and answers: with SQLite's full-text index where there is one.

Text of scripts that put no space between words is looked through instead, as is everything where
this SQLite has no index.
"""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from poeflow.digest import Json, decode_json
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
        for message in _objects(_object(value, "body"), "messages"):
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


def _object(value: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _objects(value: Mapping[str, Json], key: str) -> list[dict[str, Json]]:
    found = value.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
