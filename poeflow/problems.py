"""What a user got wrong in a file: a place, a sentence and what to do."""

from typing import Literal

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
    """One thing wrong at one place. `message` is lower case and says what; `hint` what to do."""

    place: Place
    message: str
    hint: str = ""
    level: Level = "error"

    def __str__(self) -> str:
        word = "warning: " if self.level == "warning" else ""
        return f"{self.place}: {word}{self.message}" + (f"; {self.hint}" if self.hint else "")


def errors_only(problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
    return tuple(problem for problem in problems if problem.level == "error")
