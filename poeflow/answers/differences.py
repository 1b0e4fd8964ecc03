"""The first difference of two values or texts, and how similar two texts are."""

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


def comparable(value: Json) -> Hashable:
    """Return a key that equal JSON values share: 1 and 1.0 do, 1 and true do not."""
    match value:
        case dict():
            return "object", frozenset((key, comparable(item)) for key, item in value.items())
        case list():
            return "array", tuple(map(comparable, value))
        case bool():
            return "boolean", value
        case int() | float() if _LARGE <= abs(value) < math.inf:
            # numbers with equal hashes can be found among these, and are slow to compare
            return "number", hex(int(value))
        case _:
            return value


def data_difference(expected: Json, found: Json) -> tuple[str, str] | None:
    """Return the first difference, as (expected, found); None if both are the same."""
    return next(_differences(expected, found, ()), None)


def text_difference(expected: str, found: str) -> tuple[str, str] | None:
    """Return the first line that differs, as (expected, found); None if there is none.

    Space around a text and the kind of its line ends do not count.
    """
    pairs = list(zip_longest(lines(expected), lines(found)))
    for number, (wanted, line) in enumerate(pairs, start=1):
        if wanted == line:
            continue
        place = f" in line {number}" if len(pairs) > 1 else ""
        at = _first_difference(wanted or "", line or "")
        shown_line = "no such line" if line is None else around(line, at)
        if wanted is None:
            return f"no line {number}", shown_line
        return f"{around(wanted, at)}{place}", shown_line
    return None


def lines(text: str) -> list[str]:
    return unified(text).strip().split("\n")


def unified(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def around(text: str, at: int) -> str:
    """Return the part of a text around an offset, in quotes."""
    start = max(0, at - _AROUND)
    start = 0 if start < _AROUND else start
    end = start + _WINDOW + 2 * _AROUND
    before = "…" if start else ""
    after = "…" if end < len(text) else ""
    return quoted(f"{before}{text[start:end]}{after}", 2 * _WINDOW + 2 * _AROUND)


MAX_COMPARED: Final = 20_000
"""Characters of a text whose similarity is taken: both that long take a quarter of a second."""


def similarity(one: str, other: str) -> float:
    """Return how similar two texts are, from 0 to 1: 1 less the share of characters to edit.

    Neither may be longer than `MAX_COMPARED`. Takes as many steps as the longer one has
    characters, each on numbers with as many bits as the other has: see Hyyrö, "A bit-vector
    algorithm for computing Levenshtein and Damerau edit distances", 2003.
    """
    longest = max(len(one), len(other))
    return 1.0 if longest == 0 else 1 - _edits(one, other) / longest


def _edits(one: str, other: str) -> int:
    """Return how many characters must be put in, left out or replaced to make one of the other.

    Bit `i` of a number tells of the first `i + 1` characters of `one`: whether one more of them
    takes one more edit (`more`), or one less (`less`).
    """
    if not one:
        return len(other)
    places: dict[str, int] = {}
    for at, character in enumerate(one):
        places[character] = places.get(character, 0) | 1 << at
    whole, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    more, less, edits = whole, 0, len(one)
    for character in other:
        same = places.get(character, 0) | less
        free = (((same & more) + more) ^ more) | same
        longer, shorter = less | ~(more | free), more & free
        edits += bool(longer & last) - bool(shorter & last)
        longer = longer << 1 | 1
        more, less = (shorter << 1 | ~(free | longer)) & whole, longer & free & whole
    return edits


def _first_difference(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _differences(expected: Json, found: Json, path: KeyPath) -> Iterator[tuple[str, str]]:
    if comparable(expected) == comparable(found):
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
            for index, (wanted, item) in enumerate(zip(expected, found, strict=False)):
                yield from _differences(wanted, item, (*path, index))
            yield _at(counted(len(expected), "item"), path), f"{len(found):,}"
        case _:
            yield _at(shown(expected), path), shown(found)


def _at(what: str, path: KeyPath) -> str:
    return f"{what} at {path_text(path)}" if path else what
