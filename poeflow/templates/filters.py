"""The filters and tests of flow templates: an allow-list of Jinja's and our own, all counted."""

from collections.abc import Callable, Sized
from typing import Any, Final

import msgspec
from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from poeflow.templates import data_filters, text_filters
from poeflow.templates.budget import Budget, OverBudgetError
from poeflow.templates.counting import inner_filters
from poeflow.templates.values import text_of

Table = dict[str, Any]


class _Rule(msgspec.Struct, frozen=True):
    """How a filter is counted.

    `times` is how often it goes through its values, `characters` how many times longer it takes
    for each character of a text than copying it does; `takes_text` whether the first is made text;
    `is_wide` whether that text may have over half a million characters; `has_attribute` whether it
    goes through items, of which a text has one for each character, and takes a dotted name to look
    up in every one.
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
    "batch": (text_filters.batch, _ITEMS),
    "float": (text_filters.decimal, _ANY),
    "fromjson": (data_filters.fromjson, _TEXT),
    "fromyaml": (data_filters.fromyaml, _Rule(times=500, takes_text=True)),
    "indent": (text_filters.indent, _SCAN),
    "int": (text_filters.whole, _ANY),
    "join": (text_filters.join, _ITEMS),
    "replace": (text_filters.replace, _SCAN),
    "round": (text_filters.number_round, _ANY),
    "slice": (text_filters.columns, _ITEMS),
    "slug": (data_filters.slug, _Rule(characters=100, is_wide=True)),
    "string": (text_of, _ANY),
    "sum": (text_filters.total, _ITEMS),
    "tocsv": (data_filters.tocsv, _Rule(times=5)),
    "tojson": (data_filters.tojson, _Rule(times=5, is_wide=True)),
    "toyaml": (data_filters.toyaml, _Rule(times=50, is_wide=True)),
    "truncate": (text_filters.truncate, _TEXT),
    "unique": (text_filters.unique, _SORTING),
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
_LOOKUP: Final = 5
_CALL: Final = 15
_MAX_TEXT: Final = 500_000


def filter_names() -> tuple[str, ...]:
    return tuple(sorted({*_OURS, *_JINJA, "trim"}))


def counted_filters(budget: Callable[[], Budget]) -> Table:
    """Return the filters by name; `budget` gives what the rendering under way may still do."""
    ours = {name: _counted(*known, budget) for name, known in _OURS.items()}
    jinja = {name: _counted(FILTERS[name], rule, budget) for name, rule in _JINJA.items()}

    def trim(text: str, chars: str | None = None) -> str:
        return text_filters.trim(budget(), text, chars)

    return inner_filters(budget) | ours | jinja | {"trim": _counted(trim, _TEXT, budget)}


def counted_tests(budget: Callable[[], Budget]) -> Table:
    """Return the tests by name, likewise."""
    rule = _Rule(characters=10, is_wide=True)
    return {name: _counted(TESTS[name], rule, budget) for name in _TEST_NAMES}


def _counted(function: Any, rule: _Rule, budget: Callable[[], Budget]) -> Callable[..., Any]:
    """Put a filter under the budget, keeping the mark that says what Jinja hands in first."""
    mark = getattr(function, "jinja_pass_arg", None)
    before = 0 if mark is None else 1

    def filtered(*arguments: Any, **named: Any) -> Any:
        current = budget()
        current.work(_CALL)
        values = list(arguments)
        if rule.takes_text:
            values[before] = text_of(values[before])
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
        return current.kept(result)

    if mark is not None:
        vars(filtered)["jinja_pass_arg"] = mark
    return filtered


def _by_character(value: object, rule: _Rule) -> int:
    """Return the work of looking at each character of a text, or of those in a list."""
    if isinstance(value, str):
        each = rule.times * 100 if rule.has_attribute else rule.characters
        return len(value) * each // 100 if each > 1 else 0
    if rule.characters > 1 and isinstance(value, list | tuple | dict):
        parts = value.values() if isinstance(value, dict) else value
        return sum(_by_character(part, rule) for part in parts)
    return 0


def _lookups(items: object, others: tuple[Any, ...]) -> int:
    """Return the work of looking dotted names up in every item."""
    names = sum(1 + part.count(".") for part in others if isinstance(part, str))
    return names * len(items) * _LOOKUP if isinstance(items, Sized) and names else 0


def _check_width(value: object, rule: _Rule) -> None:
    if isinstance(value, str) and len(value) > _MAX_TEXT and not rule.is_wide:
        raise OverBudgetError(f"this filter takes at most {_MAX_TEXT:,} characters")
