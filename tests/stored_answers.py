"""Stored answers, looked at and changed past all checks, as somebody does who knows the store."""

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

from poeflow.digest import decode_json, encode_json
from poeflow.store.contents import content_hash, packed, text_of_completion, unpacked

STORE = ".poeflow/poeflow.db"


def count_answers(folder: Path) -> int:
    """Return how many real answers a project has stored."""
    with contextlib.closing(sqlite3.connect(folder / STORE)) as connection:
        sql = "SELECT count(*) FROM answers WHERE simulated = 0"
        return connection.execute(sql).fetchone()[0]


def alter_answers(folder: Path, text: str, *, simulated: bool = False) -> int:
    """Put `text` into all stored answers, hashes as they must be; return how many there are."""

    def change(answer: dict) -> None:
        answer["choices"][0]["message"]["content"] = text

    return change_answers(folder, change, simulated=simulated)


def damage_answers(folder: Path) -> int:
    """Change what all stored answers hold, and no hash; return how many there are."""
    with contextlib.closing(sqlite3.connect(folder / STORE)) as connection, connection:
        sql = "UPDATE contents SET body = '{}' WHERE id IN (SELECT answer FROM answers)"
        return connection.execute(sql).rowcount


def change_answers(
    folder: Path, change: Callable[[dict], object], *, simulated: bool = False
) -> int:
    """Change all stored answers, hashes as they must be; return how many there are."""
    with contextlib.closing(sqlite3.connect(folder / STORE)) as connection, connection:
        sql = """SELECT fingerprint, answer, body FROM answers
            JOIN contents ON contents.id = answers.answer WHERE simulated = ?"""
        rows = connection.execute(sql, (simulated,)).fetchall()
        for fingerprint, number, body in rows:
            answer = decode_json(unpacked(body))
            change(answer)
            data = encode_json(answer)
            connection.execute(
                "UPDATE contents SET hash = ?, body = ? WHERE id = ?",
                (content_hash("completion", (data,)), packed((data,), len(data)), number),
            )
            connection.execute(
                "UPDATE answers SET said = ? WHERE simulated = ? AND fingerprint = ?",
                (text_of_completion(answer).hash, simulated, fingerprint),
            )
        return len(rows)
