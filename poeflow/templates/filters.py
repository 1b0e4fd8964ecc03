"""The filters and tests of flow templates: some of Jinja's and our own, all counted as work."""

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any, Final

import msgspec
import yaml
from jinja2 import Environment, pass_environment
from jinja2.filters import FILTERS, do_batch, make_attrgetter, sync_do_slice
from jinja2.tests import TESTS

from poeflow.digest import Json, KeyTwiceError, check_json_keys
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.tables import rows as table_rows
from poeflow.flowfile.yaml_tree import parse_value
from poeflow.lazy_pattern import lazy_pattern
from poeflow.project.project import FileProblem
from poeflow.templates import text_filters
from poeflow.templates.values import InstanceValue, to_json, to_text
from poeflow.templates.work_budget import (
    LOOKUP,
    MAX_ITEMS,
    OverBudgetError,
    WorkBudget,
    bounded,
    bounded_argument,
    same_key,
)

MAX_CELLS: Final = 500_000
MAX_YAML: Final = 256 * 1024
_FORMULA: Final = lazy_pattern(
    r"[\t\r\n]"
    r"|[\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*"
    r"[=+\-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b]"
)
"""The beginnings of formulas, also after invisible characters and in full-width form:
https://owasp.org/www-community/attacks/CSV_Injection."""
_NUMBER: Final = lazy_pattern(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


OTHER_NAMES: Final = {
    "upcase": "upper",
    "downcase": "lower",
    "to_json": "tojson",
    "json": "tojson",
    "from_json": "fromjson",
    "to_yaml": "toyaml",
    "from_yaml": "fromyaml",
    "from_csv": "fromcsv",
    "to_csv": "tocsv",
    "slugify": "slug",
    **dict.fromkeys(("mode", "majority", "majority_vote", "vote"), "most_common"),
    "regex_search": "regex_find",
    "regex_match": "regex_find",
    "re_sub": "regex_replace",
    "truncatewords": "truncate_words",
    "size": "length",
    "len": "length",
    "strip": "trim",
    "str": "string",
}
"""The names of our filters in other template languages."""
UNAVAILABLE: Final = {
    "attr": "write value.name",
    "center": "it can make texts without bound",
    "format": "join texts with ~",
    **dict.fromkeys(("average", "avg", "mean"), "write (numbers | sum) / (numbers | length)"),
    "pprint": "write | tojson",
    "random": "a run must be repeatable",
    "safe": "nothing is escaped, so nothing needs it",
    "escape": "nothing is escaped in prompts",
    "e": "nothing is escaped in prompts",
}
"""Filters of Jinja, and others, that are not available, and why or what to use instead."""


def tojson(value: object, indent: int | None = None) -> str:
    """Encode as JSON, keys in their order, with `indent` spaces per level if given."""
    bounded_argument(indent, 16)
    data = to_json(value)
    bounded(_margins(data, 1) * (indent or 0))
    return json.dumps(data, ensure_ascii=False, allow_nan=False, indent=indent)


def fromjson(text: str) -> Json:
    """Decode JSON without duplicate keys. Raises `ValueError`."""
    if sum(map(text.count, ",[{")) > MAX_ITEMS:
        raise OverBudgetError(f"fromjson takes at most {MAX_ITEMS:,} values")
    try:
        data: Json = msgspec.json.decode(text)
        check_json_keys(text.strip())
    except KeyTwiceError as error:
        raise ValueError(f"fromjson: {error}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"fromjson: {error}") from None
    return data


def toyaml(value: object) -> str:
    """Encode as YAML, keys in their order."""
    return yaml.dump(to_json(value), Dumper=_Dumper, allow_unicode=True, sort_keys=False).rstrip(
        "\n"
    )


def fromyaml(text: str) -> Json:
    """Decode YAML like flows: 1.2 core schema, no tags, bounded size. Raises `ValueError`."""
    if len(text) > MAX_YAML:
        raise OverBudgetError(f"fromyaml takes at most {MAX_YAML:,} characters; use fromjson")
    try:
        return parse_value(text)
    except InvalidFlowError as error:
        raise ValueError(f"fromyaml: {error.problems[0]}") from None


def tocsv(rows: object, *, plain: bool = False, scores: bool = False) -> str:
    """Encode a list of mappings (with a header) or of lists as CSV.

    The header has every key in order of first appearance; for results of a step these are its key,
    the columns of its items, and the result. Texts that a spreadsheet would run as a formula are
    prefixed with an apostrophe, unless it is to be `plain`. With `scores`, results have columns for
    how they were judged.
    """
    if isinstance(rows, list | tuple):
        if scores and not all(isinstance(row, InstanceValue) for row in rows):
            raise TypeError("only results of a step have scores: write steps.ID.all")
        rows = [
            row.columns(with_scores=scores) if isinstance(row, InstanceValue) else row
            for row in rows
        ]
    table = to_json(rows)
    if not isinstance(table, list):
        raise TypeError("tocsv takes a list of mappings or of lists")
    header = list(dict.fromkeys(key for row in table if isinstance(row, dict) for key in row))
    if len(header) * len(table) > MAX_CELLS:
        raise OverBudgetError(f"the table would have over {MAX_CELLS:,} cells")
    cell = _plain_cell if plain else _cell
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if header:
        writer.writerow([cell(name) for name in header])
    for row in table:
        if isinstance(row, dict):
            writer.writerow([cell(row.get(name)) for name in header])
        elif isinstance(row, list) and not header:
            writer.writerow([cell(value) for value in row])
        else:
            raise TypeError("tocsv takes a list of mappings or of lists, not of both")
    return buffer.getvalue().rstrip("\n")


def fromcsv(text: str) -> list[Json]:
    """Decode CSV like files that steps run over: mappings of texts. Raises `ValueError`."""
    try:
        return table_rows(text.encode("utf-8", "replace"), name="fromcsv.csv")
    except FileProblem as error:
        message = error.message.replace("fromcsv.csv", "fromcsv")
        raise ValueError(f"{message}; {error.hint}") from None


def flatten(items: Any, levels: int | None = None) -> Iterator[Any]:
    """Yield the items of lists in lists, to any depth or `levels` deep."""
    for item in items:
        if isinstance(item, list | tuple) and levels != 0:
            yield from flatten(item, None if levels is None else levels - 1)
        else:
            yield item


class _Dumper(yaml.CSafeDumper):
    """Writes shared values in full instead of as aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _margins(value: Json, depth: int) -> int:
    """Return the sum of the indentation levels of all lines."""
    if not isinstance(value, list | dict):
        return 0
    parts = value.values() if isinstance(value, dict) else value
    return (len(value) + 1) * depth + sum(_margins(part, depth + 1) for part in parts)


def _cell(value: Json) -> Json:
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value.strip(" ")):
        return f"'{value}"
    return _plain_cell(value)


def _plain_cell(value: Json) -> Json:
    if isinstance(value, bool | list | dict):
        return json.dumps(value, ensure_ascii=False)
    return value


class NotANumberError(ValueError):
    """A value that is to be converted is not a number: a text, or None for another value."""

    def __init__(self, message: str, value: str | None, *, hint: str) -> None:
        super().__init__(message)
        self.value = value
        self.hint = hint


MAX_PARTS: Final = 100_000
MAX_NUMBER: Final = 1_000
"""The longest text that is converted to a number."""
_NO_DEFAULT: Final = object()
_SHOWN: Final = 40


@pass_environment
def join(
    environment: Environment, items: Any, d: object = "", attribute: str | int | None = None
) -> str:
    parts = list(items)
    if attribute is not None:
        parts = list(map(make_attrgetter(environment, attribute), parts))
    texts, glue = [to_text(part) for part in parts], to_text(d)
    bounded(sum(map(len, texts)) + len(glue) * len(texts))
    return glue.join(texts)


def batch(items: Any, linecount: int, fill_with: object = None) -> Iterator[list[Any]]:
    _check_parts(linecount)
    return do_batch(items, linecount, fill_with)


def columns(items: Any, slices: int, fill_with: object = None) -> Iterator[list[Any]]:
    _check_parts(slices)
    return sync_do_slice(items, slices, fill_with)


def number_round(value: float, precision: int = 0, method: str = "common") -> float:
    bounded_argument(precision, 300)
    result: float = FILTERS["round"](value, precision, method)
    return result


def to_integer(value: Any, default: Any = _NO_DEFAULT, base: int = 10) -> Any:
    _check_number(value)
    return _number(value, FILTERS["int"](value, default, base), name="int")


def decimal(value: Any, default: Any = _NO_DEFAULT) -> Any:
    _check_number(value)
    return _number(value, FILTERS["float"](value, default), name="float")


def _number(value: object, found: Any, *, name: str) -> Any:
    """Return what a conversion found; unlike Jinja's it makes no 0 of what is no number."""
    if found is _NO_DEFAULT:
        shown, written = "none" if value is None else "this value", None
        if isinstance(value, str):
            shown, written = json.dumps(value[:_SHOWN], ensure_ascii=False), value
        hint = f"write {name}(0) to take 0 for it"
        raise NotANumberError(f"{shown} is not a number", written, hint=hint)
    return found


@pass_environment
def unique(
    environment: Environment,
    items: Any,
    case_sensitive: object = 0,
    attribute: str | int | None = None,
) -> Iterator[Any]:
    """Yield the first of equal items; unlike Jinja's filter it does not hash numbers."""
    get = make_attrgetter(environment, attribute)
    seen: set[str] = set()
    for item in items:
        key = same_key(get(item), is_exact=bool(case_sensitive))
        if key not in seen:
            seen.add(key)
            yield item


@pass_environment
def total(
    environment: Environment, items: Any, attribute: str | int | None = None, start: float = 0
) -> Any:
    numbers = list(items)
    if attribute is not None:
        numbers = list(map(make_attrgetter(environment, attribute), numbers))
    for number in (*numbers, start):
        if not isinstance(number, int | float):
            raise TypeError(f"bad operand type for sum: '{type(number).__name__}'")
    return sum(numbers, start)


@pass_environment
def most_common(environment: Environment, items: Any, case_sensitive: object = 0) -> Any:
    """Return the item that is there most often, of several such ones the first; none is left out.

    Items are equal as for `unique`; lists and mappings are, if they are so as JSON.
    """
    if isinstance(items, str | dict):  # of which the items are letters, and keys
        raise TypeError("most_common takes a list")
    votes: dict[str, list[Any]] = {}
    for item in items:
        if isinstance(item, InstanceValue):
            raise TypeError('most_common takes values: write map(attribute="value") before it')
        if isinstance(item, list | tuple | dict):
            votes.setdefault(json.dumps(to_json(item), sort_keys=True), []).append(item)
        elif item is not None:
            votes.setdefault(same_key(item, is_exact=bool(case_sensitive)), []).append(item)
    if not votes:
        return environment.undefined("there is no most common item of none")
    return max(votes.values(), key=len)[0]


@pass_environment
def median(environment: Environment, items: Any) -> Any:
    """Return the number in the middle, of two such ones their mean."""
    numbers = list(items)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise TypeError("median takes numbers: write map('float') before it")
    if not numbers:
        return environment.undefined("there is no median of none")
    ordered, middle = sorted(numbers), len(numbers) // 2
    is_odd = len(numbers) % 2 == 1
    return ordered[middle] if is_odd else (ordered[middle - 1] + ordered[middle]) / 2


def pass_rate(results: Any) -> float:
    """Return the share of results that passed what their step expects; 1 if there are none."""
    passed = [one.get("passed") if isinstance(one, Mapping) else None for one in results]
    if not all(isinstance(one, bool) for one in passed):
        raise TypeError("pass_rate takes results of a step with expect: write steps.ID.all")
    return passed.count(True) / len(passed) if passed else 1.0


def _check_parts(count: int) -> None:
    if not 1 <= count <= MAX_PARTS:
        raise OverBudgetError(f"the number of parts must be 1 to {MAX_PARTS:,}")


def _check_number(value: object) -> None:
    if isinstance(value, str) and len(value) > MAX_NUMBER:
        raise OverBudgetError(f"a number has at most {MAX_NUMBER:,} characters")


Table = dict[str, Any]


class _Rule(msgspec.Struct, frozen=True):
    """How the work of a filter is counted.

    `times` is how often it visits its values, `characters` how many times slower than a copy it is
    per character of a text; `takes_text` if its first value is converted to text; `is_wide` if
    that text may have over half a million characters; `has_attribute` if it visits items (the
    characters of a text) and accepts a dotted name to look up in each.
    """

    times: int = 1
    characters: int = 1
    takes_text: bool = False
    is_wide: bool = False
    has_attribute: bool = False


_ITEMS: Final = _Rule(has_attribute=True)
_SORTING: Final = _Rule(times=5, has_attribute=True)
_TEXT: Final = _Rule(takes_text=True, is_wide=True)
_SLOW_TEXT: Final = _Rule(characters=100, takes_text=True)
_CASE: Final = _Rule(characters=10, takes_text=True, is_wide=True)
_SCAN: Final = _Rule(characters=50, takes_text=True, is_wide=True)
_ANY: Final = _Rule(is_wide=True)
_OURS: Final[dict[str, tuple[Callable[..., Any], _Rule]]] = {
    "batch": (batch, _ITEMS),
    "dedent": (text_filters.dedent, _SCAN),
    "flatten": (flatten, _Rule(times=10)),
    "float": (decimal, _ANY),
    "fromcsv": (fromcsv, _Rule(times=50, takes_text=True)),
    "fromjson": (fromjson, _TEXT),
    "fromyaml": (fromyaml, _Rule(times=500, takes_text=True)),
    "indent": (text_filters.indent, _SCAN),
    "int": (to_integer, _ANY),
    "join": (join, _ITEMS),
    "median": (median, _Rule(times=5)),
    "most_common": (most_common, _Rule(times=5)),
    "pass_rate": (pass_rate, _Rule()),
    "replace": (text_filters.replace, _SCAN),
    "round": (number_round, _ANY),
    "slice": (columns, _ITEMS),
    "slug": (text_filters.slug, _Rule(characters=100, is_wide=True)),
    "string": (to_text, _ANY),
    "sum": (total, _ITEMS),
    "tocsv": (tocsv, _Rule(times=5)),
    "tojson": (tojson, _Rule(times=5, is_wide=True)),
    "toyaml": (toyaml, _Rule(times=50, is_wide=True)),
    "truncate": (text_filters.truncate, _TEXT),
    "truncate_words": (text_filters.truncate_words, _SLOW_TEXT),
    "unique": (unique, _SORTING),
    "wordcount": (text_filters.wordcount, _SLOW_TEXT),
    "wordwrap": (text_filters.wordwrap, _Rule(times=1_000, takes_text=True)),
}
_JINJA: Final[dict[str, _Rule]] = {
    **dict.fromkeys(("abs", "filesizeformat", "default", "d", "first", "last"), _ANY),
    **dict.fromkeys(("length", "count"), _ANY),
    **dict.fromkeys(("capitalize", "lower", "upper"), _CASE),
    **dict.fromkeys(("title",), _Rule(characters=200, takes_text=True)),
    **dict.fromkeys(("urlencode",), _Rule(characters=100)),
    **dict.fromkeys(("items", "list", "map", "reject", "rejectattr"), _ITEMS),
    **dict.fromkeys(("reverse", "select", "selectattr"), _ITEMS),
    **dict.fromkeys(("dictsort", "groupby", "max", "min", "sort"), _SORTING),
}
_TEST_NAMES: Final = (
    *("boolean", "defined", "divisibleby", "eq", "equalto", "even", "false", "float", "ge"),
    *("greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan", "lower", "lt"),
    *("mapping", "ne", "none", "number", "odd", "sameas", "sequence", "string", "true"),
    *("undefined", "upper", "==", "!=", "<", "<=", ">", ">="),
)
_CALL_WORK: Final = 15
"""The work of calling a filter, without what it does."""
_MAX_TEXT: Final = 500_000


def counted_filters(budget: Callable[[], WorkBudget]) -> Table:
    """Return the filters by name; `budget` returns the budget of the current rendering."""
    ours = {name: _counted(*known, budget) for name, known in _OURS.items()}
    jinja = {name: _counted(FILTERS[name], rule, budget) for name, rule in _JINJA.items()}

    def trim(text: str, chars: str | None = None) -> str:
        return text_filters.trimmed(budget(), text, chars)

    counting = {"trim": trim, **text_filters.pattern_filters(budget)}
    own = {name: _counted(function, _TEXT, budget) for name, function in counting.items()}
    return ours | jinja | own


def counted_tests(budget: Callable[[], WorkBudget]) -> Table:
    """Return the tests by name; `budget` is as in `counted_filters`."""
    rule = _Rule(characters=10, is_wide=True)
    return {name: _counted(TESTS[name], rule, budget) for name in _TEST_NAMES}


def _counted(function: Any, rule: _Rule, budget: Callable[[], WorkBudget]) -> Callable[..., Any]:
    """Return a filter that counts its work, with the mark for the argument Jinja passes first."""
    mark = getattr(function, "jinja_pass_arg", None)
    before = 0 if mark is None else 1

    def filtered(*arguments: Any, **named: Any) -> Any:
        current = budget()
        current.work(_CALL_WORK)
        values = list(arguments)
        if rule.takes_text:
            values[before] = to_text(values[before])
        _check_width(values[before], rule)
        others = (*values[before + 1 :], *named.values())
        current.walk(values[before], *others, times=rule.times)
        for value in (values[before], *others) if rule.characters > 1 else (values[before],):
            current.work(_by_character(value, rule))
        if rule.has_attribute:
            current.work(_lookups(values[before], others))
        result = function(*values, **named)
        if any(result is value for value in values):
            return result
        return current.count_new(result)

    if mark is not None:
        vars(filtered)["jinja_pass_arg"] = mark
    return filtered


def _by_character(value: object, rule: _Rule) -> int:
    """Return the work of visiting each character of a text, or of the texts in a list."""
    if isinstance(value, str):
        each = rule.times * 100 if rule.has_attribute else rule.characters
        return len(value) * each // 100 if each > 1 else 0
    if rule.characters > 1 and isinstance(value, list | tuple | dict):
        parts = value.values() if isinstance(value, dict) else value
        return sum(_by_character(part, rule) for part in parts)
    return 0


def _lookups(items: object, others: tuple[Any, ...]) -> int:
    """Return the work of looking up dotted names in every item."""
    names = sum(1 + part.count(".") for part in others if isinstance(part, str))
    return names * len(items) * LOOKUP if isinstance(items, Sized) and names else 0


def _check_width(value: object, rule: _Rule) -> None:
    if isinstance(value, str) and len(value) > _MAX_TEXT and not rule.is_wide:
        raise OverBudgetError(f"this filter takes at most {_MAX_TEXT:,} characters")
