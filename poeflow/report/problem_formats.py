"""Formats problems: as lines, with the source on a terminal, as SARIF, as GitLab's code quality."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

from poeflow.digest import Json, encode_json, sha256_of_json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Level, Place, Problem
from poeflow.redact import visible
from poeflow.report.github_commands import inert
from poeflow.report.terminal.text import Line, Marks
from poeflow.version import __version__

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


_SARIF: Final = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_FINGERPRINT: Final = "poeflow/v1"
_RULES: Final[Mapping[Level, str]] = {
    "error": "A mistake in a flow, or in a file that it reads: it does not run",
    "warning": "Something in a flow that is probably not meant so",
}
_SEVERITIES: Final[Mapping[Level, str]] = {"error": "major", "warning": "minor"}
_LINK: Final = lazy_pattern(r"[\[\]](?=\(|[^\[\]]*\]\()")


def sarif(problems: Iterable[Problem]) -> str:
    """Return problems as a SARIF log; the paths of their places are relative to the repository.

    Schema: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
    """
    rules: list[Json] = [
        {"id": _rule(level), "shortDescription": {"text": about}} for level, about in _RULES.items()
    ]
    driver: dict[str, Json] = {"name": "poeflow", "version": __version__, "rules": rules}
    run: dict[str, Json] = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(problem, mark) for problem, mark in _with_fingerprints(problems)],
    }
    return _text({"$schema": _SARIF, "version": "2.1.0", "runs": [run]})


def code_quality(problems: Iterable[Problem]) -> str:
    """Return problems as a report for GitLab's merge requests.

    Format: https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format
    """
    found: list[Json] = [
        {
            "description": _message(problem),
            "check_name": _rule(problem.level),
            "fingerprint": mark,
            "severity": _SEVERITIES[problem.level],
            "location": {
                "path": visible(problem.place.path),
                "lines": {"begin": problem.place.line},
            },
        }
        for problem, mark in _with_fingerprints(problems)
    ]
    return _text(found)


DOCUMENTS: Final[Mapping[str, Callable[[Iterable[Problem]], str]]] = {
    "sarif": sarif,
    "gitlab": code_quality,
}
"""The documents by the name of their format."""


def _result(problem: Problem, mark: str) -> Json:
    place = problem.place
    return {
        "ruleId": _rule(problem.level),
        "level": problem.level,
        "message": {"text": _LINK.sub(r"\\\g<0>", _message(problem))},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": _address(place)},
                    "region": {"startLine": place.line, "startColumn": place.column},
                }
            }
        ],
        "partialFingerprints": {_FINGERPRINT: mark},
    }


def _with_fingerprints(problems: Iterable[Problem]) -> Iterator[tuple[Problem, str]]:
    """Yield each problem with a fingerprint that stays if lines are added above it."""
    seen: Counter[tuple[str, str]] = Counter()
    for problem in problems:
        about = (problem.place.path, problem.message)
        yield problem, sha256_of_json([*about, seen[about]])
        seen[about] += 1


def _rule(level: Level) -> str:
    return f"poeflow-{level}"


def _message(problem: Problem) -> str:
    return visible(f"{problem.message}; {problem.hint}" if problem.hint else problem.message)


def _address(place: Place) -> str:
    scheme = "file://" if place.path.startswith("/") else ""
    return scheme + quote(place.path.encode("utf-8", "surrogateescape"))


def _text(document: Json) -> str:
    return encode_json(document).decode("utf-8", "replace")
