"""Formats problems: one line each, and on a terminal the source line with a caret."""

import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

from poeflow.problems import Problem
from poeflow.redact import visible
from poeflow.report.github_commands import inert
from poeflow.report.terminal.text import Line, Marks

MAX_LINE: Final = 160


def problem_line(problem: Problem) -> str:
    return inert(visible(str(problem)).replace("\n", " "))


def with_source(problem: Problem, text: str | None) -> str:
    """Return the line of a problem, the source line it is about, and a caret below the place."""
    head = problem_line(problem)
    lines = text.split("\n") if text else []
    if not 0 < problem.place.line <= len(lines):
        return head
    source = lines[problem.place.line - 1].removesuffix("\r")
    start = max(0, problem.place.column - MAX_LINE // 2)
    shown = visible(source[start : start + MAX_LINE].replace("\t", " "))
    before = visible(source[start : problem.place.column - 1].replace("\t", " "))
    return f"{head}\n    {shown}\n    {' ' * _cells(before)}^"


def listing(problems: Iterable[Problem]) -> str:
    """Return all problems, in order, one a line."""
    return "\n".join(problem_line(problem) for problem in problems)


def in_color(problem: Problem, text: str | None, marks: Marks) -> Iterator[Line]:
    """Yield the lines of a problem for a terminal, with place and caret in colour."""
    head, *rest = with_source(problem, text).split("\n")
    place = inert(visible(str(problem.place)))
    style = "yellow" if problem.level == "warning" else "red"
    yield ((marks.shown(place), "bold"), (marks.shown(head.removeprefix(place)), ""))
    for index, line in enumerate(rest):
        yield ((marks.shown(line), style if index == len(rest) - 1 else "dim"),)


def _cells(text: str) -> int:
    """Return how many cells of a terminal `text` takes: wide ones and emoji two, accents none."""
    narrow = sum(unicodedata.category(character) not in ("Mn", "Me") for character in text)
    return narrow + sum(unicodedata.east_asian_width(character) in "WF" for character in text)
