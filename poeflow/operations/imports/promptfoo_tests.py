"""promptfoo's test cases: from its configuration, or from files that it names.

https://www.promptfoo.dev/docs/configuration/test-cases/ describes them.
"""

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.imports.assertions import Assertion, AssertionReader
from poeflow.operations.imports.bot_names import BotNames
from poeflow.operations.imports.foreign_file import FILE, Source, dict_in, list_in
from poeflow.operations.imports.template_names import is_name, verbatim

_KNOWN: Final = frozenset({"description", "vars", "assert", "options"})
_OPTIONS: Final = frozenset({"provider", "disableVarExpansion"})
_OF_A_SCENARIO: Final = frozenset({"description", "config", "tests"})
_DATA_FILES: Final = (".yaml", ".yml", ".json", ".jsonl")
MAX_TESTS: Final = 5000
_MAX_NAME: Final = 60
_MAX_DEPTH: Final = 5
"""How often a variable may name another one that names another."""
_EXPECTED: Final = "__expected"
_COLUMNS: Final = (_EXPECTED, "__description")
_SHORT_ASSERTION: Final = lazy_pattern(r"([a-z][a-z-]+)(?:\(([\d.]+)\))?:\s*(.*)")
"""An assertion in a cell: `contains: Bonjour`, `llm-rubric(0.8): It is polite`."""
_BARE_ASSERTION: Final = lazy_pattern(
    r"((?:not-)?(?:is-json|contains-json|is-html|is-xml|is-sql)|latency|cost|perplexity)"
    r"(?:\(([\d.]+)\))?"
)
_SHORT_KINDS: Final = {"grade": "llm-rubric", "fn": "javascript", "eval": "javascript"}
_VARIABLE: Final = lazy_pattern(r"\{\{\s*(\w+)\s*\}\}")


class TestCase(msgspec.Struct, frozen=True, kw_only=True):
    """A test by its name, with the values of its variables and its assertions."""

    name: str
    variables: dict[str, Json]
    assertions: tuple[Assertion, ...]

    @property
    def shape(self) -> tuple[object, ...]:
        """What it must have in common with tests of the same step."""
        return tuple(assertion.shape for assertion in self.assertions)


def tests_in(source: Source, bots: BotNames) -> list[TestCase]:
    """Return the tests of a configuration, each with a name of its own.

    A variable with several texts makes a test of each.
    """
    return _Tests(source, bots).read()


class _Tests:
    """Reads the tests of one configuration, and those of its scenarios."""

    def __init__(self, source: Source, bots: BotNames) -> None:
        self._source = source
        self._assertions = AssertionReader(source, bots)
        self._tests: list[TestCase] = []
        self._names: set[str] = set()
        at: KeyPath = ("defaultTest",)
        given = source.data.get("defaultTest")
        found = source.value(given, at) if isinstance(given, str) else given
        self._default = dict_in(found)
        source.note_rest(at, self._default, _KNOWN)
        self._judge = self._grader(self._default, at)
        asserted = self._default.get("assert")
        self._shared = tuple(self._assertions.read(asserted, (*at, "assert"), self._judge))

    def read(self) -> list[TestCase]:
        for entry, at in _entries(self._source.data.get("tests"), self._source, ("tests",)):
            self._add(entry, at)
        for index, one in enumerate(list_in(self._source.data.get("scenarios"))):
            place: KeyPath = ("scenarios", index)
            scenario = dict_in(one)
            self._source.note_rest(place, scenario, _OF_A_SCENARIO)
            configs = [*_entries(scenario.get("config"), self._source, (*place, "config"))]
            tests = [*_entries(scenario.get("tests"), self._source, (*place, "tests"))]
            for (config, of_config), (test, at) in product(configs, tests or [({}, place)]):
                self._source.note_rest(of_config, config, _KNOWN)
                more = {"vars": dict_in(config.get("vars")) | dict_in(test.get("vars"))}
                asserted = [*list_in(config.get("assert")), *list_in(test.get("assert"))]
                about = " ".join(_shown(dict_in(config.get("vars")).values()))
                said = " ".join(filter(None, (str(test.get("description", "")), about)))
                self._add({**test, **more, "assert": asserted, "description": said}, at)
        return self._tests

    def _add(self, entry: dict[str, Json], at: KeyPath) -> None:
        """Add the tests of an entry."""
        self._source.note_rest(at, entry, _KNOWN)
        judge = self._grader(entry, at) or self._judge
        own = tuple(self._assertions.read(entry.get("assert"), (*at, "assert"), judge))
        own_variables = entry.get("vars")
        if isinstance(own_variables, str):
            own_variables = self._source.value(own_variables, (*at, "vars"))
        given = dict_in(self._default.get("vars")) | dict_in(own_variables)
        whole = dict_in(entry.get("options")).get("disableVarExpansion") is True
        loaded = _loaded(given, self._source, (*at, "vars"))
        for variables in [loaded] if whole else _combinations(loaded):
            if len(self._tests) == MAX_TESTS:
                self._source.note(at, f"only the first {MAX_TESTS:,} tests are taken over")
                return
            name = _name(entry, variables, len(self._tests) + 1, self._names)
            self._names.add(name)
            resolved = {
                key: self._template(value, variables, (*at, "vars", key))
                for key, value in variables.items()
            }
            assertions = (*self._shared, *own)
            self._tests.append(TestCase(name=name, variables=resolved, assertions=assertions))

    def _template(self, value: Json, variables: Mapping[str, Json], at: KeyPath) -> Json:
        """Return the value of a variable as templates that render to it."""
        if isinstance(value, str):
            text = _filled(value, variables)
            if "{{" in text or "{%" in text:
                self._source.note(at, "the braces in a variable are sent as they are")
            return verbatim(text)
        if isinstance(value, list):
            return [self._template(one, variables, at) for one in value]
        if isinstance(value, dict):
            return {key: self._template(one, variables, at) for key, one in value.items()}
        return value

    def _grader(self, entry: Mapping[str, Json], at: KeyPath) -> Json:
        """Return the provider that judges a test, by its options; note the other options."""
        options = dict_in(entry.get("options"))
        self._source.note_rest((*at, "options"), options, _OPTIONS)
        return options.get("provider")


def _shown(values: Iterable[Json]) -> Iterator[str]:
    """Yield values in words, as far as they have few."""
    return (str(value) for value in values if isinstance(value, str | int | float))


def _entries(given: Json, source: Source, at: KeyPath) -> Iterator[tuple[dict[str, Json], KeyPath]]:
    """Yield the entries of tests, also of files that are named, each with its path of keys."""
    is_one = isinstance(given, str | dict)
    for index, one in enumerate([given] if is_one else list_in(given)):
        place = at if is_one else (*at, index)
        if isinstance(one, dict) and "path" not in one:
            yield one, place
            continue
        name = one if isinstance(one, str) else str(dict_in(one).get("path"))
        if not name.endswith((".csv", *_DATA_FILES)):
            source.note(place, f"tests from {name} are not taken over", "write them as a csv file")
            continue
        for path in source.found(name, place):
            yield from ((entry, place) for entry in _in_file(path, source, place))


def _in_file(path: str, source: Source, at: KeyPath) -> Iterator[dict[str, Json]]:
    """Yield the entries of a file with tests."""
    if path.endswith(".csv"):
        yield from (_of_row(row, source, at) for row in _rows(path, source, at))
    elif path.endswith(".jsonl"):
        for number, line in enumerate((source.read(path, at) or "").splitlines(), 1):
            try:
                if line.strip():
                    yield dict_in(json.loads(line))
            except ValueError:
                source.note(at, f"line {number} of {path} is not JSON", "correct it")
    else:
        found = source.value(path, at)
        yield from map(dict_in, [found] if isinstance(found, dict) else list_in(found))


def _rows(name: str, source: Source, at: KeyPath) -> Iterator[Mapping[str | None, str | None]]:
    try:
        yield from csv.DictReader(io.StringIO(source.read(name, at) or ""))
    except csv.Error as error:
        source.note(at, f"{name} is not csv: {error}")


def _of_row(row: Mapping[str | None, str | None], source: Source, at: KeyPath) -> dict[str, Json]:
    """Return the entry of a row: its columns are variables, those named so are assertions."""
    cells = {name: cell or "" for name, cell in row.items() if name}
    asserted = [cell for name, cell in cells.items() if name.startswith(_EXPECTED) and cell.strip()]
    for name, cell in cells.items():
        if name.startswith("__") and cell.strip() and not name.startswith(_COLUMNS):
            source.note(at, f"the column {name} is not taken over")
    return {
        "vars": {name: cell for name, cell in cells.items() if not name.startswith("__")},
        "assert": [_assertion_of(cell.strip()) for cell in asserted],
        **({"description": cells["__description"]} if cells.get("__description") else {}),
    }


def _assertion_of(cell: str) -> dict[str, Json]:
    match = _SHORT_ASSERTION.fullmatch(cell)
    bare = _BARE_ASSERTION.fullmatch(cell)
    if match is None and bare is None:
        return {"type": "equals", "value": cell}
    kind = match[1] if match else bare[1] if bare else ""
    number = match[2] if match else bare[2] if bare else None
    threshold = {"threshold": float(number)} if number else {}
    value = {"value": match[3]} if match and match[3] else {}
    return {"type": _SHORT_KINDS.get(kind, kind), **value, **threshold}


def _loaded(given: Mapping[str, Json], source: Source, at: KeyPath) -> dict[str, Json]:
    """Return variables with what is in files that they name; those of no valid name are noted."""
    found: dict[str, Json] = {}
    for name, value in given.items():
        if not is_name(name):
            source.note((*at, name), f'the variable "{name}" is not taken over', "rename it")
        elif isinstance(value, str) and value.startswith(FILE):
            values = [_in_variable(path, source, (*at, name)) for path in source.found(value, at)]
            found[name] = values[0] if len(values) == 1 else [*values] or ""
        else:
            found[name] = value
    return found


def _in_variable(path: str, source: Source, at: KeyPath) -> Json:
    """Return the value of a variable in a file: its text, or its data."""
    if path.endswith((".yaml", ".yml", ".json")):
        return source.value(path, at)
    if path.endswith((".js", ".cjs", ".mjs", ".ts", ".py", ".pdf", ".png", ".jpg", ".jpeg")):
        source.note(at, f"the variable from {path} is not taken over", "write its value")
        return ""
    return source.read(path, at) or ""


def _filled(text: str, variables: Mapping[str, Json], depth: int = 0) -> str:
    """Return a text with the values of the variables that it names, and those that these name."""

    def value_of(match: re.Match[str]) -> str:
        value = variables.get(match[1])
        is_known = isinstance(value, str | int | float) and depth < _MAX_DEPTH
        return _filled(str(value), variables, depth + 1) if is_known else match[0]

    return _VARIABLE.sub(value_of, text)


def _combinations(variables: Mapping[str, Json]) -> Iterator[dict[str, Json]]:
    """Yield variables for each combination of those that have a list of texts."""
    values = [
        value if isinstance(value, list) and value and isinstance(value[0], str) else [value]
        for value in variables.values()
    ]
    for one in product(*values):
        yield dict(zip(variables, one, strict=True))


def _name(
    entry: Mapping[str, Json], variables: Mapping[str, Json], number: int, taken: set[str]
) -> str:
    """Return a name for a test: what it says of itself, else its first short variable."""
    said = [entry.get("description"), *variables.values()]
    for one in said:
        name = " ".join(str(one).split()) if isinstance(one, str | int | float) else ""
        if 0 < len(name) <= _MAX_NAME and name not in taken and "{" not in name:
            return name
    return f"test {number}"
