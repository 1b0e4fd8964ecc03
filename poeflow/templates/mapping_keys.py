"""Mappings in templates, with few keys whose hash a flow can choose to make collisions.

Hashes of texts are randomized per process. Numbers hash to themselves modulo 2**61 - 1, so
thousands of them can be chosen to collide:
https://docs.python.org/3/library/stdtypes.html#hashing-of-numeric-types.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from jinja2.utils import Namespace

from poeflow.templates.work_budget import OverBudgetError, WorkBudget

MAX_NUMBERS: Final = 1_000
"""How many keys of a mapping may be numbers."""
MAX_NUMBER: Final = 2**53
_NUMBER_WORK: Final = 10


def mapping(pairs: Iterable[tuple[Any, Any]], budget: WorkBudget) -> dict[Any, Any]:
    """Return a mapping of `pairs`. Raises `TypeError` and `OverBudgetError`.

    A key is a text, a whole number, true, false or none.
    """
    result: dict[Any, Any] = {}
    numbers = 0
    for key, value in pairs:
        budget.work(1)
        if not isinstance(key, str):
            numbers += 1
            budget.work(_NUMBER_WORK)
            _check(key, numbers)
        result[key] = value
    return result


def mapping_of(budget: WorkBudget, /, *arguments: Any, **named: Any) -> dict[Any, Any]:
    """Return `dict(...)` in a template: from a mapping, pairs, or named values."""
    if len(arguments) > 1:
        raise TypeError(f"dict takes one mapping or list of pairs, not {len(arguments)}")
    pairs = [*_pairs(arguments[0] if arguments else ()), *named.items()]
    return mapping(pairs, budget)


def namespace_of(budget: WorkBudget, /, *arguments: Any, **named: Any) -> Namespace:
    """Return `namespace(...)` in a template; the arguments are those of `dict`."""
    return Namespace(mapping_of(budget, *arguments, **named))


def same_key(value: Any, *, is_exact: bool = False) -> Any:
    """Return a text for `value` that is the same for equal values.

    Texts that differ only in case are equal unless `is_exact`. Raises `TypeError` for lists and
    mappings.
    """
    if isinstance(value, str):
        return f"text {value if is_exact else value.lower()}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int | float):
        return f"number {value:d}" if isinstance(value, int) else f"number {value!r}"
    if value is None:
        return "none"
    raise TypeError(f"unique takes texts and numbers, not {value!r}"[:100])


def _pairs(argument: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(argument, dict):
        yield from argument.items()
        return
    if not isinstance(argument, list | tuple):
        raise TypeError(f"dict takes a mapping or a list of pairs, not {argument!r}"[:100])
    for pair in argument:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise TypeError(f"dict takes a list of pairs, not of {pair!r}"[:100])
        yield pair[0], pair[1]


def _check(key: Any, numbers: int) -> None:
    if key is not None and not isinstance(key, int):
        raise TypeError(f"a key is a text or a whole number, not {key!r}"[:100])
    if key is not None and not -MAX_NUMBER <= key <= MAX_NUMBER:
        raise TypeError(f"the number {str(key)[:40]} is too large for a key; write it as a text")
    if numbers > MAX_NUMBERS:
        raise OverBudgetError(
            f"a mapping has over {MAX_NUMBERS:,} keys that are numbers; write them as texts"
        )
