"""Those of Jinja's filters whose results or times have no bound of their own, with one."""

import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from jinja2 import Environment, pass_environment
from jinja2.filters import FILTERS, do_batch, make_attrgetter, sync_do_slice

from poeflow.templates.budget import Budget, OverBudgetError, bounded, bounded_argument
from poeflow.templates.mapping_keys import same_key
from poeflow.templates.sandbox import check_scan, replaced_size
from poeflow.templates.values import text_of

MAX_PARTS: Final = 100_000
MAX_WRAPPED: Final = 100_000
MIN_WIDTH: Final = 8
MAX_NUMBER: Final = 1_000
"""The longest text that is read as a number."""
_WORD: Final = re.compile(r"\w+")


def indent(text: str, width: int | str = 4, *options: bool, **named: bool) -> str:
    bounded_argument(width, 1_000)
    size = len(width) if isinstance(width, str) else max(width, 0)
    bounded(len(text) + (len(text.splitlines()) + 1) * size)
    result: str = FILTERS["indent"](text, width, *options, **named)
    return result


@pass_environment
def truncate(environment: Environment, text: str, *options: Any, **named: Any) -> str:
    try:
        result: str = FILTERS["truncate"](environment, text, *options, **named)
    except AssertionError as error:
        raise ValueError(f"truncate: {error}") from None
    return result


def wordwrap(
    text: str, width: int = 79, break_long_words: object = 1, wrapstring: str = "\n"
) -> str:
    """Wrap each line; unlike Jinja's own it does not break at hyphens, which takes quadratic time.

    Raises `ValueError` and `OverBudgetError`.
    """
    if len(text) > MAX_WRAPPED:
        raise OverBudgetError(f"wordwrap takes at most {MAX_WRAPPED:,} characters")
    if width < MIN_WIDTH:
        raise ValueError(f"wordwrap needs a width of {MIN_WIDTH} or more")
    wrapper = textwrap.TextWrapper(
        width=width,
        expand_tabs=False,
        replace_whitespace=False,
        break_long_words=bool(break_long_words),
        break_on_hyphens=False,
    )
    bounded(len(text) // width * len(wrapstring) * 2)
    lines = [wrapstring.join(wrapper.wrap(line)) for line in text.splitlines()]
    return wrapstring.join(lines)


def wordcount(text: str) -> int:
    return sum(1 for _ in _WORD.finditer(text))


def replace(text: str, old: object, new: object, count: int | None = None) -> str:
    before, after = text_of(old), text_of(new)
    bounded(replaced_size(text, before, after))
    return text.replace(before, after, -1 if count is None else count)


@pass_environment
def join(
    environment: Environment, items: Any, d: object = "", attribute: str | int | None = None
) -> str:
    parts = list(items)
    if attribute is not None:
        parts = list(map(make_attrgetter(environment, attribute), parts))
    texts, glue = [text_of(part) for part in parts], text_of(d)
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


def whole(value: Any, default: Any = 0, base: int = 10) -> Any:
    _check_number(value)
    return FILTERS["int"](value, default, base)


def decimal(value: Any, default: Any = 0.0) -> Any:
    _check_number(value)
    return FILTERS["float"](value, default)


@pass_environment
def unique(
    environment: Environment,
    items: Any,
    case_sensitive: object = 0,
    attribute: str | int | None = None,
) -> Iterator[Any]:
    """Yield items, the first of those that are equal; unlike Jinja's own no number is hashed."""
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
            raise TypeError(f"sum adds numbers only, not {number!r}"[:100])
    return sum(numbers, start)


def trim(budget: Budget, text: str, chars: str | None = None) -> str:
    check_scan(text, chars or "", budget)
    return text.strip(chars)


def _check_parts(count: int) -> None:
    if not 1 <= count <= MAX_PARTS:
        raise OverBudgetError(f"the number of parts must be 1 to {MAX_PARTS:,}")


def _check_number(value: object) -> None:
    if isinstance(value, str) and len(value) > MAX_NUMBER:
        raise OverBudgetError(f"a number has at most {MAX_NUMBER:,} characters")
