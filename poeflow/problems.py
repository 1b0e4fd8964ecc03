"""Mistakes of the user in a file: a place, a message and a hint; not too many of them at once."""

from collections.abc import Iterable
from itertools import islice
from typing import Final, Literal

import msgspec

Level = Literal["error", "warning"]


class Place(msgspec.Struct, frozen=True, order=True):
    """A position in a file: `path` as shown to the user, `line` and `column` counted from 1."""

    path: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


class Problem(msgspec.Struct, frozen=True, order=True):
    """One mistake at one place. `message` is in lower case; `hint` says what to do."""

    place: Place
    message: str
    hint: str = ""
    level: Level = "error"

    def __str__(self) -> str:
        word = "warning: " if self.level == "warning" else ""
        return f"{self.place}: {word}{self.message}" + (f"; {self.hint}" if self.hint else "")


def errors_only(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    return tuple(problem for problem in problems if problem.level == "error")


MAX_PROBLEMS: Final = 200
MANY: Final = 4 * MAX_PROBLEMS
"""How many are collected, to report those that come first in the file."""
_MORE_MESSAGE: Final = f"there are more problems than these {MAX_PROBLEMS}"


def limited(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems sorted by place, without duplicates, and a notice if there are more.

    Stops iterating over `problems` at a limit. If `problems` come from several such results, the
    notice still occurs once.
    """
    found = set(islice(problems, MANY))
    errors_and_warnings = tuple(sorted(problem for problem in found if not is_more_notice(problem)))
    if len(errors_and_warnings) <= MAX_PROBLEMS and len(errors_and_warnings) == len(found):
        return errors_and_warnings
    shown = errors_and_warnings[:MAX_PROBLEMS]
    level: Level = "error" if errors_only(tuple(found)) else "warning"
    return (*shown, Problem(shown[-1].place, _MORE_MESSAGE, "correct these and check again", level))


def is_more_notice(problem: Problem) -> bool:
    """Return whether a problem is the notice that there are more problems."""
    return problem.message.startswith(_MORE_MESSAGE)
