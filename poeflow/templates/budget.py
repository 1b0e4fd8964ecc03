"""How much work renderings may do: steps, the weight of values, and the memory they take."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

MAX_STEPS: Final = 1_000_000
MAX_OUTPUT: Final = 8 * 1024 * 1024
MAX_MADE: Final = 128 * 1024 * 1024
MAX_PRINTED: Final = 2 * MAX_OUTPUT
"""How many characters a rendering may print, those in macros and blocks counted again."""
MAX_ITEMS: Final = 1_000_000
MAX_DEPTH: Final = 100
_STEP: Final = 10
LOOKUP: Final = 5
MAX_WORK: Final = MAX_STEPS * _STEP
MAX_TOGETHER: Final = 2_000_000
"""How many steps all renderings of one command may take together, besides `_FREE` for each."""
_FREE: Final = 400
"""The work of a rendering that is not counted together: as long as making its instance takes."""
_CHARACTERS: Final = 100
"""Work is counted in looks at an item: a step of a loop costs 10, 100 characters of a text 1.

A unit takes 0.05 to 0.3 microseconds, whatever it is spent on: what is slower costs more of them.
"""
_BYTES: Final = 128
"""How many bytes of new text cost one unit."""
_CONTAINER: Final = 160
"""What is kept of a list or a mapping besides itself, in bytes."""
_ITEM: Final = 56
"""What an item of a new list may take, in bytes: a short text, a number."""


class OverBudgetError(ValueError):
    """A template does more than a rendering may. `hint` says what to do (may be empty)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Allowance:
    """What all renderings of one command may do together: a stranger's flow ends in seconds.

    Each rendering has some work for itself, so that flows of many steps and tables of many rows
    are planned; what it does beyond that is taken from here. A run that asks models is free of it:
    it may take its time.
    """

    __slots__ = ("is_free", "left")

    def __init__(self, *, is_free: bool = False) -> None:
        self.left = MAX_TOGETHER * _STEP
        self.is_free = is_free

    def next_budget(self, last: "Budget | None" = None) -> "Budget":
        """Return the budget of the next rendering, once `last` is over."""
        if last is not None and not self.is_free:
            self.left = max(self.left - max(last.spent - _FREE, 0), 0)
        return Budget(MAX_WORK if self.is_free else min(MAX_WORK, self.left + _FREE))


class Budget:
    """Counts what one rendering does and makes, and stops it."""

    __slots__ = ("_limit", "_made", "_printed", "_weights", "_work")

    def __init__(self, limit: int = MAX_WORK) -> None:
        self._limit = limit
        self._work = 0
        self._made = 0
        self._printed = 0
        # Lists in templates never change, so their weights hold; the value keeps its id taken.
        self._weights: dict[int, tuple[object, int, int]] = {}

    def step(self, count: int = 1) -> None:
        """Count steps of loops, calls and filters."""
        self.work(count * _STEP)

    def work(self, amount: int) -> None:
        self._work += amount
        if self._work > self._limit:
            raise self._over()

    @property
    def spent(self) -> int:
        """The work done so far."""
        return self._work

    def walk(self, *values: object, times: int = 1) -> None:
        """Count going through all of `values`, whatever they hold."""
        self.work(times * sum(self._measure(value, 0)[0] for value in values))

    def size_of(self, value: object) -> int:
        """Return how many items `value` holds at all depths, counting shared ones again."""
        return self._measure(value, 0)[0]

    def made(self, text: str) -> str:
        """Count a new text by the memory it takes."""
        size = sys.getsizeof(text)
        self.work(3 + size // _BYTES)
        self.take(size)
        return text

    def printed(self, text: str) -> str:
        """Count a text that is printed: all of them are joined in the end."""
        self._printed += len(text)
        if self._printed > MAX_PRINTED:
            raise OverBudgetError("the template prints too much text")
        return self.made(text)

    def take(self, size: int) -> None:
        """Count new memory, in bytes; what is let go again is counted too."""
        self._made += size
        if self._made > MAX_MADE:
            raise OverBudgetError("the template makes too much text or too many values")

    def kept(self, value: Any) -> Any:
        """Count a new value of new parts; what is made item by item becomes a list."""
        if isinstance(value, str):
            return self.made(value)
        if isinstance(value, Iterator):
            value = list(self._counted(value))
        if isinstance(value, list | tuple | dict):
            self.take(len(value) * _ITEM)
        return self.held(value)

    def held(self, value: Any) -> Any:
        """Count a new value whose parts were there before."""
        if isinstance(value, str):
            return self.made(value)
        if isinstance(value, list | tuple | dict):
            self.work(_STEP)
            self.walk(value)
        elif isinstance(value, int):
            self.take(sys.getsizeof(value))
        return value

    def _over(self) -> OverBudgetError:
        if self._limit == MAX_WORK:
            return OverBudgetError(f"the template takes over {MAX_STEPS:,} steps")
        message = f"the templates take over {MAX_TOGETHER:,} steps together"
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
            self.work(10 + len(value))
            self.take(_CONTAINER + sys.getsizeof(value))
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
