"""How many problems of one flow are told: nobody reads more, and looking for more takes time."""

from collections.abc import Iterable
from itertools import islice
from typing import Final

from poeflow.problems import Level, Problem, errors_only

MAX_PROBLEMS: Final = 200
MANY: Final = 4 * MAX_PROBLEMS
"""So many are looked for, to tell the first by their places."""
_MORE: Final = f"there are more problems than these {MAX_PROBLEMS}"


def enough(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems sorted by place, each once: the first found, and a word where there are more.

    Stops asking `problems` for more once there are enough. Of those joined from several such
    results the word is said once.
    """
    given = set(islice(problems, MANY))
    found = tuple(sorted(problem for problem in given if not is_word_of_more(problem)))
    if len(found) <= MAX_PROBLEMS and len(found) == len(given):
        return found
    told = found[:MAX_PROBLEMS]
    level: Level = "error" if errors_only(tuple(given)) else "warning"
    return (*told, Problem(told[-1].place, _MORE, "mend these and check again", level))


def is_word_of_more(problem: Problem) -> bool:
    """Tell whether a problem only says that there are more than were told."""
    return problem.message.startswith(_MORE)
