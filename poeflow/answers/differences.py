"""Where two values or texts differ first, told as what was expected there and what was found."""

import math
from collections.abc import Hashable, Iterator
from itertools import zip_longest
from typing import Final

from poeflow.answers.display import counted, path_text, quoted, shown
from poeflow.digest import Json
from poeflow.flowfile.yaml_tree import KeyPath

_LARGE: Final = 2**53
_AROUND: Final = 20
_WINDOW: Final = 60


def identity(value: Json) -> Hashable:
    """Return what is equal for values that are equal in JSON: 1 and 1.0 are, 1 and true not."""
    match value:
        case dict():
            return "object", frozenset((key, identity(item)) for key, item in value.items())
        case list():
            return "array", tuple(map(identity, value))
        case bool():
            return "boolean", value
        case int() | float() if _LARGE <= abs(value) < math.inf:
            # numbers whose hashes are the same can be found among these, and are slow to tell apart
            return "number", hex(int(value))
        case _:
            return value


def data_difference(expected: Json, found: Json) -> tuple[str, str] | None:
    """Return the first difference, as (expected, found); None where both are the same."""
    return next(_differences(expected, found, ()), None)


def text_difference(expected: str, found: str) -> tuple[str, str] | None:
    """Return the first line that differs, as (expected, found); None where there is none.

    Space around a text does not count, nor the kind of its line ends.
    """
    pairs = list(zip_longest(lines(expected), lines(found)))
    for number, (wanted, got) in enumerate(pairs, start=1):
        if wanted == got:
            continue
        place = f" in line {number}" if len(pairs) > 1 else ""
        at = _first_difference(wanted or "", got or "")
        told = "no such line" if got is None else around(got, at)
        if wanted is None:
            return f"no line {number}", told
        return f"{around(wanted, at)}{place}", told
    return None


def lines(text: str) -> list[str]:
    return unified(text).strip().split("\n")


def unified(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def around(text: str, at: int, length: int = _WINDOW) -> str:
    """Return the part of a text around an offset, in quotes."""
    start = max(0, at - _AROUND)
    start = 0 if start < _AROUND else start
    end = start + length + 2 * _AROUND
    before = "…" if start else ""
    after = "…" if end < len(text) else ""
    return quoted(f"{before}{text[start:end]}{after}", 2 * length + 2 * _AROUND)


def _first_difference(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _differences(expected: Json, found: Json, path: KeyPath) -> Iterator[tuple[str, str]]:
    if identity(expected) == identity(found):
        return
    match expected, found:
        case dict(), dict():
            for key, wanted in expected.items():
                if key not in found:
                    yield _at(shown(wanted), (*path, key)), "no such key"
                else:
                    yield from _differences(wanted, found[key], (*path, key))
            for key in found.keys() - expected.keys():
                yield _at("no such key", (*path, key)), shown(found[key])
        case list(), list():
            for index, (wanted, got) in enumerate(zip(expected, found, strict=False)):
                yield from _differences(wanted, got, (*path, index))
            yield _at(counted(len(expected), "item"), path), f"{len(found):,}"
        case _:
            yield _at(shown(expected), path), shown(found)


def _at(told: str, path: KeyPath) -> str:
    return f"{told} at {path_text(path)}" if path else told
