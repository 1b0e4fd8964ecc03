"""How much work one rendering may do: steps, the weight of values, and the text it makes."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

MAX_STEPS: Final = 1_000_000
MAX_OUTPUT: Final = 8 * 1024 * 1024
MAX_MADE: Final = 96 * 1024 * 1024
MAX_ITEMS: Final = 1_000_000
MAX_DEPTH: Final = 100
_STEP: Final = 10
_MAX_WORK: Final = MAX_STEPS * _STEP
_CHARACTERS: Final = 100
"""Work is counted in looks at an item: a step of a loop costs 10, 100 characters of a text 1."""


class OverBudgetError(ValueError):
    """A template does more than a rendering may."""


class Budget:
    """Counts what one rendering does and makes, and stops it."""

    __slots__ = ("_made", "_weights", "_work")

    def __init__(self) -> None:
        self._work = 0
        self._made = 0
        # Lists in templates never change, so their weights hold; the value keeps its id taken.
        self._weights: dict[int, tuple[object, int, int]] = {}

    def step(self, count: int = 1) -> None:
        """Count steps of loops, calls and filters."""
        self.work(count * _STEP)

    def work(self, amount: int) -> None:
        self._work += amount
        if self._work > _MAX_WORK:
            raise OverBudgetError(f"the template takes over {MAX_STEPS:,} steps")

    def walk(self, *values: object, times: int = 1) -> None:
        """Count going through all of `values`, whatever they hold."""
        self.work(times * sum(self._measure(value, 0)[0] for value in values))

    def size_of(self, value: object) -> int:
        """Return how many items `value` holds at all depths, counting shared ones again."""
        return self._measure(value, 0)[0]

    def made(self, text: str) -> str:
        """Count a new text by the memory it takes."""
        self._made += sys.getsizeof(text)
        if self._made > MAX_MADE:
            raise OverBudgetError("the template makes too much text")
        return text

    def kept(self, value: Any) -> Any:
        """Count a new value of any kind; what is made item by item becomes a list."""
        if isinstance(value, str):
            return self.made(value)
        if isinstance(value, Iterator):
            value = list(self._counted(value))
        if isinstance(value, list | tuple | dict):
            self.walk(value)
        return value

    def _counted(self, items: Iterable[object]) -> Iterator[object]:
        for count, item in enumerate(items):
            if count == MAX_ITEMS:
                raise OverBudgetError(f"a list would have over {MAX_ITEMS:,} items")
            self.work(1)
            yield item

    def _measure(self, value: object, depth: int) -> tuple[int, int]:
        """Return the weight and the depth of a value."""
        if isinstance(value, str):
            return 1 + len(value) // _CHARACTERS, 0
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
            self.work(len(value))
        _, weight, below = known
        if weight > MAX_ITEMS:
            raise OverBudgetError(f"a value would hold over {MAX_ITEMS:,} items")
        if depth + below > MAX_DEPTH:
            raise OverBudgetError(f"a value is nested over {MAX_DEPTH} deep")
        return weight, below


def bounded(size: int) -> int:
    """Return `size` where a text may be that long. Raises `OverBudgetError`."""
    if size > MAX_OUTPUT:
        raise OverBudgetError("a text would be over 8 MiB")
    return size


def bounded_argument(value: object, limit: int = 100_000) -> None:
    """Refuse a count that makes a filter produce without bound."""
    if isinstance(value, int) and abs(value) > limit:
        raise OverBudgetError(f"the argument {value} is over {limit:,}")
