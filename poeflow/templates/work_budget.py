"""Limits the work of renderings: steps, the size of values, the memory they use, and their keys.

Limits, too, how much code the templates of a flow have, which is checked before.
"""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

from jinja2.utils import Namespace

from poeflow.lazy_pattern import lazy_pattern

MAX_CODE: Final = 512 * 1024
"""How many characters of template code one flow may have, included files counted."""
MAX_PATTERNS: Final = 200
"""How many different file patterns one flow may have."""
_BRACES: Final = 4
_LEAST: Final = 50
"""The least a template counts for: compiling even the shortest takes a third of a millisecond."""
_OPENING: Final = lazy_pattern(r"\{[{%#]")
_CLOSING: Final = lazy_pattern(r"[}%#]\}")
_INCLUDES: Final = lazy_pattern(r"\{%[-+]?\s*(include|import|from|extends)\b")
MAX_STEPS: Final = 1_000_000
MAX_OUTPUT: Final = 8 * 1024 * 1024
MAX_MEMORY: Final = 128 * 1024 * 1024
MAX_PRINTED: Final = 2 * MAX_OUTPUT
"""How many characters a rendering may print; those in macros and blocks count again."""
MAX_ITEMS: Final = 1_000_000
MAX_DEPTH: Final = 100
MAX_NUMBERS: Final = 1_000
"""How many keys of a mapping may be numbers, whose hashes a flow can choose to make collisions.

Hashes of texts are randomized per process. Numbers hash to themselves modulo 2**61 - 1, so
thousands of them can be chosen to collide:
https://docs.python.org/3/library/stdtypes.html#hashing-of-numeric-types.
"""
MAX_NUMBER: Final = 2**53
_NUMBER_WORK: Final = 10
_STEP_WORK: Final = 10
LOOKUP: Final = 5
MAX_WORK: Final = MAX_STEPS * _STEP_WORK
MAX_SHARED_STEPS: Final = 2_000_000
"""How many steps all renderings of one command may take together, besides `_FREE_WORK` for each."""
_FREE_WORK: Final = 400
"""The work of each rendering that does not count together: about that of making its instance."""
_CHARACTERS_PER_UNIT: Final = 100
"""A unit of work is one access to an item: a loop step costs 10, 100 characters of a text 1.

A unit takes 0.05 to 0.3 microseconds; slower operations cost more units.
"""
_BYTES_PER_UNIT: Final = 128
"""How many bytes of new text cost one unit."""
_CONTAINER_BYTES: Final = 160
"""The bytes that are stored for a list or mapping besides its own."""
_ITEM_BYTES: Final = 56
"""The bytes of an item in a new list: a short text, a number."""


class OverBudgetError(ValueError):
    """A template does more work than a rendering may. `hint` may be empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Allowance:
    """The work that all renderings of one command may do together, a few seconds.

    Each rendering has some free work, so that flows with many steps and tables with many rows can
    be planned; work beyond that is taken from here. A run that calls models has no such limit.
    """

    __slots__ = ("budget", "is_unlimited", "left")

    def __init__(self, *, is_unlimited: bool = False) -> None:
        self.left = MAX_SHARED_STEPS * _STEP_WORK
        self.is_unlimited = is_unlimited
        self.budget = self.next_budget()
        """That of the rendering under way; there is one at a time."""

    def next_budget(self, last: "WorkBudget | None" = None) -> "WorkBudget":
        """Return the budget of the next rendering, after `last` has ended."""
        if self.is_unlimited:
            return WorkBudget()
        if last is not None and last.spent > _FREE_WORK:  # most do less: they are begun very often
            self.left = max(self.left - (last.spent - _FREE_WORK), 0)
        return WorkBudget(min(MAX_WORK, self.left + _FREE_WORK))


class WorkBudget:
    """Counts the work and memory of one rendering, and stops it at a limit."""

    __slots__ = ("_limit", "_memory", "_printed", "_weights", "spent")

    def __init__(self, limit: int = MAX_WORK) -> None:
        self._limit = limit
        self.spent = 0
        """The work done so far."""
        self._memory = 0
        self._printed = 0
        # Lists in templates never change, so weights stay valid; the stored value reserves its id.
        self._weights: dict[int, tuple[object, int, int]] = {}

    def step(self, count: int = 1) -> None:
        """Count steps: of loops, calls and filters."""
        self.work(count * _STEP_WORK)

    def work(self, amount: int) -> None:
        self.spent += amount
        if self.spent > self._limit:
            raise self._over()

    def walk(self, *values: object, times: int = 1) -> None:
        """Count visiting all items of `values` at all depths."""
        self.work(times * sum(self._measure(value, 0)[0] for value in values))

    def size_of(self, value: object) -> int:
        """Return how many items `value` has at all depths, counting shared ones again."""
        return self._measure(value, 0)[0]

    def count_text(self, text: str) -> str:
        """Count the memory of a new text."""
        size = sys.getsizeof(text)
        self.spent += 3 + size // _BYTES_PER_UNIT
        self._memory += size
        if self.spent > self._limit or self._memory > MAX_MEMORY:  # no calls: it is done very often
            self.work(0)
            self.use_memory(0)
        return text

    def count_printed(self, text: str) -> str:
        """Count a printed text; all printed texts are joined at the end."""
        self._printed += len(text)
        if self._printed > MAX_PRINTED:
            raise OverBudgetError("the template prints too much text")
        return self.count_text(text)

    def use_memory(self, size: int) -> None:
        """Count new memory in bytes; memory that is freed again counts too."""
        self._memory += size
        if self._memory > MAX_MEMORY:
            raise OverBudgetError("the template makes too much text or too many values")

    def count_new(self, value: Any) -> Any:
        """Count a new value with new parts; iterators become lists."""
        if isinstance(value, str):
            return self.count_text(value)
        if isinstance(value, Iterator):
            value = list(self._counted(value))
        if isinstance(value, list | tuple | dict):
            self.use_memory(len(value) * _ITEM_BYTES)
        return self.count_reused(value)

    def count_reused(self, value: Any) -> Any:
        """Count a new value with existing parts."""
        if isinstance(value, str):
            return self.count_text(value)
        if isinstance(value, list | tuple | dict):
            self.work(_STEP_WORK)
            self.walk(value)
        elif isinstance(value, int):
            self.use_memory(sys.getsizeof(value))
        return value

    def _over(self) -> OverBudgetError:
        if self._limit == MAX_WORK:
            return OverBudgetError(f"the template takes over {MAX_STEPS:,} steps")
        message = f"the templates take over {MAX_SHARED_STEPS:,} steps together"
        hint = "shorten their loops and texts, split the flow, or choose instances with --first"
        return OverBudgetError(message, hint=hint)

    def _counted(self, items: Iterable[object]) -> Iterator[object]:
        for count, item in enumerate(items):
            if count == MAX_ITEMS:
                raise OverBudgetError(f"a list would have over {MAX_ITEMS:,} items")
            self.work(1)
            if isinstance(item, list | tuple | dict):  # before there are a million of them
                self._measure(item, 1)
            yield item

    def _measure(self, value: object, depth: int) -> tuple[int, int]:
        """Return the weight and the depth of a value."""
        if isinstance(value, str):
            return 1 + len(value) // _CHARACTERS_PER_UNIT, 0
        if isinstance(value, range):
            return 1 + len(value), 0
        if not isinstance(value, list | tuple | dict):
            return 1, 0
        known = self._weights.get(id(value))
        if known is None:
            parts = chain(value, value.values()) if isinstance(value, dict) else value
            weight, below = 1, 0
            for part in parts:
                if depth >= MAX_DEPTH:
                    raise OverBudgetError(f"a value is nested over {MAX_DEPTH} deep")
                inner, levels = self._measure(part, depth + 1)
                weight, below = weight + inner, max(below, levels + 1)
            known = self._weights[id(value)] = value, weight, below
            self.work(10 + len(value))
            self.use_memory(_CONTAINER_BYTES + sys.getsizeof(value))
        _, weight, below = known
        if weight > MAX_ITEMS:
            raise OverBudgetError(f"a value would hold over {MAX_ITEMS:,} items")
        if depth + below > MAX_DEPTH:
            raise OverBudgetError(f"a value is nested over {MAX_DEPTH} deep")
        return weight, below


def bounded(size: int) -> int:
    """Return `size` if a text may be that long. Raises `OverBudgetError`."""
    if size > MAX_OUTPUT:
        raise OverBudgetError("a text would be over 8 MiB")
    return size


def bounded_argument(value: object, limit: int = 100_000) -> None:
    """Raise `OverBudgetError` for a number that would make a filter's result too large."""
    if isinstance(value, int) and abs(value) > limit:
        raise OverBudgetError(f"the argument {value} is over {limit:,}")


def replaced_size(text: str, old: str, new: str) -> int:
    """Return the length of `text` after replacing `old`."""
    return len(text) + (text.count(old) if old else len(text) + 1) * len(new)


def check_scan(text: str, needle: str, budget: WorkBudget) -> None:
    """Count a search whose time is proportional to the product of both lengths."""
    budget.work(len(text) // 20 + len(text) * len(needle) // 100)


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


class CodeBudget:
    """How much more template code and how many patterns one flow may have."""

    def __init__(self) -> None:
        self._left = MAX_CODE
        self._patterns: set[str] = set()

    def covers(self, text: str, included: Iterable[str] = ()) -> bool:
        """Count a template and its included texts; return whether they are within the limit."""
        self._left -= _code(text)
        if "{%" in text and _INCLUDES.search(text):
            self._left -= sum(map(_code, included))
        return self._left >= 0

    def covers_patterns(self, patterns: Iterable[str]) -> bool:
        self._patterns.update(patterns)
        return len(self._patterns) <= MAX_PATTERNS


def _code(text: str) -> int:
    """Return how many characters of `text` are in braces, the braces included."""
    pieces = _OPENING.split(text)[1:]
    if not pieces:
        return 0
    total = _BRACES * len(pieces)
    for piece in pieces:
        end = _CLOSING.search(piece)
        total += end.start() if end else len(piece)
    return max(total, _LEAST)
