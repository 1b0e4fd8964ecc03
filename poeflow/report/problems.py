"""Problems as people read them: one line each, and on a terminal the source line with a caret."""

import unicodedata
from collections.abc import Iterable, Mapping
from typing import Final

from poeflow.problems import Problem
from poeflow.redact import visible
from poeflow.report.workflow import inert

MAX_LINE: Final = 160


def one_line(problem: Problem) -> str:
    return inert(visible(str(problem)).replace("\n", " "))


def with_source(problem: Problem, text: str | None) -> str:
    """Return the problem's line, then the source line it is about and a caret under the place."""
    head = one_line(problem)
    lines = text.split("\n") if text else []
    if not 0 < problem.place.line <= len(lines):
        return head
    source = lines[problem.place.line - 1].removesuffix("\r")
    start = max(0, problem.place.column - MAX_LINE // 2)
    shown = visible(source[start : start + MAX_LINE].replace("\t", " "))
    before = visible(source[start : problem.place.column - 1].replace("\t", " "))
    return f"{head}\n    {shown}\n    {' ' * _cells(before)}^"


def listing(problems: Iterable[Problem], sources: Mapping[str, str], *, with_carets: bool) -> str:
    """Return all problems, in order. `sources` holds file texts by shown path."""
    if not with_carets:
        return "\n".join(one_line(problem) for problem in problems)
    return "\n".join(with_source(problem, sources.get(problem.place.path)) for problem in problems)


def _cells(text: str) -> int:
    """Return how many cells of a terminal `text` takes: Chinese and emoji two, accents none."""
    narrow = sum(unicodedata.category(character) not in ("Mn", "Me") for character in text)
    return narrow + sum(unicodedata.east_asian_width(character) in "WF" for character in text)
