"""Parses TOML into the same tree as YAML, with the line of each key as far as possible.

The standard library's parser gives no places: they are found in the text afterwards.
"""

import datetime as dt
import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final

from poeflow.digest import Json
from poeflow.flowfile.yaml_tree import Document, Node
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Place, Problem

_PART: Final = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
_KEY: Final = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEADER: Final = rf"^[ \t]*\[\[?[ \t]*({_KEY})[ \t]*\]"
_ENTRY: Final = rf"^[ \t]*({_KEY})[ \t]*="
MAX_DEPTH: Final = 32
_AT: Final = lazy_pattern(r" \(at line (\d+), column (\d+)\)$")
_DEEP: Final = (
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_DEPTH}}}"""
)
"""This and the two above are compiled when a file is read: most projects have none."""
_TOO_DEEP: Final = f"it is nested deeper than {MAX_DEPTH} levels"
_TIMES: Final = (dt.datetime, dt.date, dt.time)

Places = Mapping[tuple[str, ...], tuple[int, int]]


def parse_toml(text: str, file: str) -> Document:
    """Parse a TOML file called `file`. Never raises for invalid text: see `problems`."""
    # before the parser, which takes quadratic time for such a key
    if text.count(".") >= MAX_DEPTH and re.search(_DEEP, text):
        return _unreadable(text, file, Problem(Place(file), f"this is not TOML: {_TOO_DEEP}"))
    try:
        data = tomllib.loads(text)
        _check_depth(data)
    except (ValueError, RecursionError) as error:
        return _unreadable(text, file, _problem(error, file))
    problems: list[Problem] = []
    root = _Builder(file, _places(text) if data else {}, problems).node(data, ())
    return Document(path=file, text=text, root=root, problems=tuple(problems))


def _unreadable(text: str, file: str, problem: Problem) -> Document:
    return Document(path=file, text=text, root=None, problems=(problem,))


def _problem(error: Exception, file: str) -> Problem:
    """Return why a text is not TOML, with the place if it is known."""
    at = _AT.search(str(error))
    place = Place(file, int(at[1]), int(at[2])) if at else Place(file)
    match error:
        case tomllib.TOMLDecodeError():
            reason = _AT.sub("", str(error)).strip()
        case RecursionError():
            reason = "it is nested too deep"
        case _:  # Python's own limit on the digits of a number
            reason = "a number in it has too many digits"
    return Problem(place, f"this is not TOML: {reason[:1].lower()}{reason[1:]}")


def _check_depth(data: object) -> None:
    """Raise `RecursionError` if values are nested deeper than any settings are."""
    level = [data]
    for _ in range(MAX_DEPTH):
        tables = [child for child in level if isinstance(child, dict | list)]
        level = [
            inner
            for child in tables
            for inner in (child.values() if isinstance(child, dict) else child)
            if isinstance(inner, dict | list)
        ]
    if level:
        raise RecursionError(_TOO_DEEP)


class _Builder:
    def __init__(self, file: str, places: Places, problems: list[Problem]) -> None:
        self._file = file
        self._places = places
        self._problems = problems

    def node(self, value: Any, path: tuple[str, ...]) -> Node:
        """Return the node of a value; a value that JSON does not have is a problem and null."""
        line, column = self._place(path)
        keys: dict[str, Node] = {}
        values: dict[str, Node] = {}
        items: tuple[Node, ...] = ()
        data: Json = value
        if isinstance(value, dict):
            keys = {name: self._key(name, (*path, name)) for name in value}
            values = {name: self.node(child, (*path, name)) for name, child in value.items()}
            data = {name: child.data for name, child in values.items()}
        elif isinstance(value, list):
            items = tuple(self.node(child, path) for child in value)
            data = [child.data for child in items]
        elif isinstance(value, _TIMES) or (isinstance(value, float) and value - value != 0):
            place = Place(self._file, line, column)
            self._problems.append(
                Problem(place, f"{value} cannot be a value in a flow", "quote it")
            )
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
            size=1 + sum(child.size for child in (*values.values(), *items)),
            file=self._file,
        )

    def _key(self, name: str, path: tuple[str, ...]) -> Node:
        line, column = self._place(path)
        return Node(
            data=name, style="double", line=line, column=column, start=0, end=0, file=self._file
        )

    def _place(self, path: tuple[str, ...]) -> tuple[int, int]:
        """Return the place of a key, else of the nearest key above it."""
        return next(
            (self._places[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self._places),
            (1, 1),
        )


def _places(text: str) -> dict[tuple[str, ...], tuple[int, int]]:
    """Return line and column of the first occurrence of each key, by its path."""
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
        for match in re.finditer(pattern, text, re.MULTILINE):
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
