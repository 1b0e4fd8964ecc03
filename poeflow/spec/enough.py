"""How many problems of one flow are told: nobody reads more, and looking for more takes time."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from poeflow.problems import Problem

MAX_PROBLEMS: Final = 200


def enough(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems sorted by place, each once: the first found, and a word where there are more.

    Stops asking `problems` for more once there are enough.
    """
    found = tuple(sorted(set(islice(problems, 4 * MAX_PROBLEMS))))
    if len(found) <= MAX_PROBLEMS:
        return found
    told = found[:MAX_PROBLEMS]
    message = f"there are more problems than these {MAX_PROBLEMS}"
    last = Problem(told[-1].place, message, "mend these and check again")
    return (*told, last)
