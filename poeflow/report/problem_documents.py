"""Formats problems as documents for programs: SARIF 2.1.0, and GitLab's code quality report."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import quote

from poeflow.digest import Json, encode_json, sha256_of_json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Level, Place, Problem
from poeflow.redact import visible
from poeflow.version import __version__

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
