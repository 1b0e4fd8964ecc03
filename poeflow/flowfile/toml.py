"""TOML text becomes the tree that YAML becomes, with the line of each key as far as that is told.

The standard library's parser keeps no places: they are looked for in the text afterwards.
"""

import datetime as dt
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from poeflow.digest import Json
from poeflow.flowfile.yaml_tree import Document, Node
from poeflow.problems import Place, Problem

_PART: Final = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
_KEY: Final = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER: Final = re.compile(rf"^[ \t]*\[\[?[ \t]*({_KEY})[ \t]*\]", re.MULTILINE)
_ENTRY: Final = re.compile(rf"^[ \t]*({_KEY})[ \t]*=", re.MULTILINE)
MAX_DEPTH: Final = 32
_AT: Final = re.compile(r" \(at line (\d+), column (\d+)\)$")
_DEEP: Final = re.compile(
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}"""
)
_TOO_DEEP: Final = f"it is nested deeper than {MAX_DEPTH} levels"
_MOMENTS: Final = (dt.datetime, dt.date, dt.time)

Places = Mapping[tuple[str, ...], tuple[int, int]]


def parse_toml(text: str, path: str) -> Document:
    """Parse a TOML file called `path`. Never raises for what the text holds: see `problems`."""
    if _DEEP.search(text):  # before the parser, which takes quadratic time for such a key
        return _unread(text, path, Problem(Place(path), f"this is not TOML: {_TOO_DEEP}"))
    try:
        data = tomllib.loads(text)
        _check_depth(data)
    except (ValueError, RecursionError) as error:
        return _unread(text, path, _problem(error, path))
    problems: list[Problem] = []
    root = _Builder(path, _places(text), problems).node(data, ())
    return Document(path=path, text=text, root=root, problems=tuple(problems))


def _unread(text: str, path: str, problem: Problem) -> Document:
    return Document(path=path, text=text, root=None, problems=(problem,))


def _problem(error: Exception, path: str) -> Problem:
    """Say why a text is not TOML, at its place where that is known."""
    at = _AT.search(str(error))
    place = Place(path, int(at[1]), int(at[2])) if at else Place(path)
    match error:
        case tomllib.TOMLDecodeError():
            reason = _AT.sub("", str(error)).strip()
        case RecursionError():
            reason = "it is nested too deep"
        case _:  # Python's own limit on the digits of a number
            reason = "a number in it has too many digits"
    return Problem(place, f"this is not TOML: {reason[:1].lower()}{reason[1:]}")


def _check_depth(data: object) -> None:
    """Raise `RecursionError` for what is nested deeper than any settings are."""
    level = [data]
    for _ in range(MAX_DEPTH):
        tables = [one for one in level if isinstance(one, dict | list)]
        level = [
            inner
            for one in tables
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
    if level:
        raise RecursionError(_TOO_DEEP)


class _Builder:
    def __init__(self, path: str, places: Places, problems: list[Problem]) -> None:
        self._path = path
        self._places = places
        self._problems = problems

    def node(self, value: Any, at: tuple[str, ...]) -> Node:
        """Return the node of a value; what JSON cannot hold is a problem, and nothing."""
        line, column = self._place(at)
        keys: dict[str, Node] = {}
        values: dict[str, Node] = {}
        items: tuple[Node, ...] = ()
        data: Json = value
        if isinstance(value, dict):
            keys = {name: self._key(name, (*at, name)) for name in value}
            values = {name: self.node(one, (*at, name)) for name, one in value.items()}
            data = {name: one.data for name, one in values.items()}
        elif isinstance(value, list):
            items = tuple(self.node(one, at) for one in value)
            data = [one.data for one in items]
        elif isinstance(value, _MOMENTS) or (isinstance(value, float) and value - value != 0):
            place = Place(self._path, line, column)
            self._problems.append(Problem(place, f"{value} is no value of a flow", "quote it"))
            data = None
        return Node(
            data=data,
            style="double",
            line=line,
            column=column,
            start=0,
            end=0,
            keys=keys,
            values=values,
            items=items,
            size=1 + sum(one.size for one in (*values.values(), *items)),
            file=self._path,
        )

    def _key(self, name: str, at: tuple[str, ...]) -> Node:
        line, column = self._place(at)
        return Node(
            data=name, style="double", line=line, column=column, start=0, end=0, file=self._path
        )

    def _place(self, at: tuple[str, ...]) -> tuple[int, int]:
        """Return where a key is written, else the nearest above it."""
        return next(
            (self._places[at[:n]] for n in range(len(at), -1, -1) if at[:n] in self._places), (1, 1)
        )


def _places(text: str) -> dict[tuple[str, ...], tuple[int, int]]:
    """Return line and column of each key, by its path: where it is first written."""
    found: dict[tuple[str, ...], tuple[int, int]] = {}
    table: tuple[str, ...] = ()
    line, counted = 1, 0
    for start, written, is_header in sorted(_written(text)):
        parts = _parts(written)
        table = parts if is_header else table
        whole = parts if is_header else (*table, *parts)
        line += text.count("\n", counted, start)
        counted = start
        column = start - text.rfind("\n", 0, start)
        for count in range(1, min(len(whole), MAX_DEPTH) + 1):
            found.setdefault(whole[:count], (line, column))
    return found


def _written(text: str) -> Iterator[tuple[int, str, bool]]:
    for pattern, is_header in ((_HEADER, True), (_ENTRY, False)):
        for match in pattern.finditer(text):
            yield match.start(1), match[1], is_header


def _parts(key: str) -> tuple[str, ...]:
    """Return the parts of a key as written: `a."b c"` is a and b c."""
    if '"' not in key and "'" not in key:
        return tuple(part.strip() for part in key.split("."))
    try:
        found: Any = tomllib.loads(f"{key} = 0")
    except tomllib.TOMLDecodeError:
        return (key,)
    parts: list[str] = []
    while isinstance(found, dict):
        name = next(iter(found))
        parts.append(name)
        found = found[name]
    return tuple(parts)
