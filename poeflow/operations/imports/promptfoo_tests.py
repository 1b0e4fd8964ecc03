"""promptfoo's test cases: from its configuration, or from files that it names.

https://www.promptfoo.dev/docs/configuration/test-cases/ describes them.
"""

import csv
import io
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.imports.assertions import Assertion, assertions_in
from poeflow.operations.imports.foreign_file import FILE, Source, dict_in, list_in
from poeflow.operations.imports.template_names import is_name

_KNOWN: Final = frozenset({"description", "vars", "assert", "metadata"})
MAX_TESTS: Final = 5000
_MAX_NAME: Final = 60
_EXPECTED: Final = "__expected"
_SHORT_ASSERTION: Final = lazy_pattern(r"([a-z][a-z-]+)(?:\(([\d.]+)\))?:\s*(.*)")
"""An assertion in a cell: `contains: Bonjour`, `llm-rubric(0.8): It is polite`."""


class TestCase(msgspec.Struct, frozen=True, kw_only=True):
    """A test by its name, with the values of its variables and its assertions."""

    name: str
    variables: dict[str, Json]
    assertions: tuple[Assertion, ...]

    @property
    def shape(self) -> tuple[object, ...]:
        """What it must have in common with tests of the same step."""
        return tuple(assertion.shape for assertion in self.assertions)


def tests_in(source: Source) -> list[TestCase]:
    """Return the tests of a configuration, each with a name of its own.

    A variable with several values makes a test of each.
    """
    default = dict_in(source.data.get("defaultTest"))
    source.note_rest(("defaultTest",), default, _KNOWN)
    shared = tuple(assertions_in(default.get("assert"), source, ("defaultTest", "assert")))
    tests: list[TestCase] = []
    names: set[str] = set()
    for entry, at in _entries(source.data.get("tests"), source, ("tests",)):
        source.note_rest(at, entry, _KNOWN)
        own = tuple(assertions_in(entry.get("assert"), source, (*at, "assert")))
        given = dict_in(default.get("vars")) | dict_in(entry.get("vars"))
        for variables in _combinations(_loaded(given, source, (*at, "vars"))):
            if len(tests) == MAX_TESTS:
                source.note(at, f"only the first {MAX_TESTS:,} tests are taken over")
                return tests
            name = _name(entry, variables, len(tests) + 1, names)
            names.add(name)
            tests.append(
                TestCase(name=name, variables=variables, assertions=(*shared, *own)),
            )
    return tests


def _entries(given: Json, source: Source, at: KeyPath) -> Iterator[tuple[dict[str, Json], KeyPath]]:
    """Yield the entries of tests, also of files that are named, each with its path of keys."""
    for index, one in enumerate([given] if isinstance(given, str) else list_in(given)):
        place = at if isinstance(given, str) else (*at, index)
        if isinstance(one, dict):
            yield one, place
        elif isinstance(one, str) and one.endswith(".csv"):
            yield from ((_of_row(row), place) for row in _rows(one, source, place))
        elif isinstance(one, str) and one.endswith((".yaml", ".yml", ".json")):
            found = source.value(one, place)
            yield from ((dict_in(entry), place) for entry in list_in(found))
        else:
            source.note(place, f"tests from {one} are not taken over", "write them as a csv file")


def _rows(name: str, source: Source, at: KeyPath) -> Iterator[Mapping[str | None, str | None]]:
    try:
        yield from csv.DictReader(io.StringIO(source.read(name, at) or ""))
    except csv.Error as error:
        source.note(at, f"{name} is not csv: {error}")


def _of_row(row: Mapping[str | None, str | None]) -> dict[str, Json]:
    """Return the entry of a row: its columns are variables, those named so are assertions."""
    cells = {name: cell or "" for name, cell in row.items() if name}
    asserted = [cell for name, cell in cells.items() if name.startswith(_EXPECTED) and cell.strip()]
    return {
        "vars": {name: cell for name, cell in cells.items() if not name.startswith("__")},
        "assert": [_assertion_of(cell.strip()) for cell in asserted],
        **({"description": cells["__description"]} if cells.get("__description") else {}),
    }


def _assertion_of(cell: str) -> dict[str, Json]:
    match = _SHORT_ASSERTION.fullmatch(cell)
    if match is None:
        return {"type": "equals", "value": cell}
    threshold = {"threshold": float(match[2])} if match[2] else {}
    return {"type": match[1], "value": match[3], **threshold}


def _loaded(given: Mapping[str, Json], source: Source, at: KeyPath) -> dict[str, Json]:
    """Return variables with the texts of files that they name; those of no valid name are noted."""
    found: dict[str, Json] = {}
    for name, value in given.items():
        if not is_name(name):
            source.note((*at, name), f'the variable "{name}" is not taken over', "rename it")
        elif isinstance(value, str) and value.startswith(FILE):
            found[name] = source.read(value, (*at, name)) or ""
        else:
            found[name] = value
    return found


def _combinations(variables: Mapping[str, Json]) -> Iterator[dict[str, Json]]:
    """Yield variables for each combination of those that have a list of values."""
    values = [value if isinstance(value, list) else [value] for value in variables.values()]
    for one in product(*values):
        yield dict(zip(variables, one, strict=True))


def _name(
    entry: Mapping[str, Json], variables: Mapping[str, Json], number: int, taken: set[str]
) -> str:
    """Return a name for a test: what it says of itself, else its first short variable."""
    said = [entry.get("description"), *variables.values()]
    for one in said:
        name = " ".join(str(one).split()) if isinstance(one, str | int | float) else ""
        if 0 < len(name) <= _MAX_NAME and name not in taken:
            return name
    return f"test {number}"
