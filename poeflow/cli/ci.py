"""Reports for CI systems besides the log: annotations, summaries, results, a JUnit file."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final, Self

from poeflow.cli.private_files_options import without_keys
from poeflow.digest import Json
from poeflow.errors import UsageError
from poeflow.events import Listener
from poeflow.operations.check import Checkup
from poeflow.operations.recording import last_outputs
from poeflow.operations.revisions.causes import place_of_cause, place_of_step
from poeflow.operations.run_options import RunOptions
from poeflow.problems import Level, Place, Problem, errors_only
from poeflow.project.project import atomic_write
from poeflow.records import InstanceStatus, step_of
from poeflow.report.github import MAX_ANNOTATIONS, GitHubReport, of_problem, results_file
from poeflow.report.github_commands import annotation
from poeflow.report.job_summary import (
    Earlier,
    Links,
    pages_within,
    problems_summary,
    status_summary,
)
from poeflow.report.junit import Suite, document
from poeflow.report.plan import steps_of
from poeflow.store.git import Git

SUMMARY_VARIABLE: Final = "GITHUB_STEP_SUMMARY"
RESULTS_VARIABLE: Final = "GITHUB_OUTPUT"
COMMIT_VARIABLES: Final = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_SHA")
"""Where GitHub says at which address the files of the job's commit are."""
ROOT_VARIABLES: Final = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")
"""Where GitHub and GitLab say in which folder the repository is."""
MAX_SUMMARY: Final = 900_000
"""Bytes of the summary of a step of a job, of all its commands: GitHub loses one over 1 MiB."""


class CiReports:
    """Collects the reports of all flows of a command; the files are written when it exits.

    Raises `UsageError` if the folder of the JUnit file does not exist, before anything is spent.
    """

    def __init__(self, output: str, junit: Path | None) -> None:
        if junit is not None and not junit.absolute().parent.is_dir():
            hint = f"make the folder {junit.parent}"
            raise UsageError(f"--junit {junit}: its folder does not exist", hint=hint)
        self._is_for_github = output == "github"
        self._junit = junit
        environ = os.environ
        self._root = next((environ[name] for name in ROOT_VARIABLES if environ.get(name)), "")
        self._summary = environ.get(SUMMARY_VARIABLE, "")
        self._results = environ.get(RESULTS_VARIABLE, "")
        self._commit = [environ.get(name, "") for name in COMMIT_VARIABLES]
        self._suites: dict[str, Suite] = {}
        self._pages: list[Callable[[], str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Write the files, even if the run was interrupted. Raises `DiskError` or `OSError`."""
        if self._junit is not None:
            atomic_write(self._junit, _without_keys(document(self._suites.values())))
        if self._pages and self._summary:
            room = MAX_SUMMARY - _size_of(self._summary)
            _append(self._summary, pages_within([page() for page in self._pages], room))

    def listeners(self, checkup: Checkup, options: RunOptions) -> tuple[Listener, ...]:
        """Return further listeners for the run of a flow."""
        found: list[Listener] = []
        if self._junit is not None:
            found.append(self._suite(checkup))
        if self._is_for_github:
            page = GitHubReport(
                sys.stderr,
                lambda step: self._below_root(place_of_step(checkup, step)),
                _earlier(checkup, options),
                self._links(checkup),
            )
            self._pages.append(page.job_summary)
            found.append(page)
        return tuple(found)

    def report_problems(self, checkup: Checkup, *, is_all: bool = False) -> None:
        """Report the problems of a flow; `is_all` means that nothing more is reported about it."""
        errors = errors_only(checkup.problems)
        if is_all and not errors:
            self._suite(checkup).add_success()
        if self._is_for_github and (is_all or errors):
            self._pages.append(lambda: problems_summary(checkup.shown, checkup.problems))
        for problem in checkup.problems:
            if problem.level == "error":
                self._suite(checkup).add_problem(problem)
            if self._is_for_github:
                _say(of_problem(self.from_root(problem)))

    def report_status(
        self,
        checkup: Checkup,
        statuses: Sequence[InstanceStatus],
        *,
        faults: Sequence[str] = (),
        level: Level = "warning",
        note: str = "",
    ) -> None:
        """Report the status of a flow: its instances, and other `faults`.

        `level` is that of the annotations, `note` a line for the summary.
        """
        suite = self._suite(checkup)
        places = _Places(checkup, self._below_root)
        for status in statuses if self._junit is not None else ():
            suite.add_status(status, None if status.is_current else places.of(status))
        if faults or not statuses:
            suite.add_fault("; ".join(faults)) if faults else suite.add_success()
        if self._is_for_github:
            links = self._links(checkup)

            def page() -> str:
                steps = steps_of(statuses)
                return status_summary(checkup.shown, steps, faults, note=note, link=link)

            def link(step: str) -> str:
                return links.to_place(step, self._below_root(place_of_step(checkup, step)))

            self._pages.append(page)
            whole = self._from_root(Place(checkup.shown))
            found = [annotation(level, fault, title="poeflow", place=whole) for fault in faults]
            found += self._annotations(statuses, places, level, whole)
            for line in found[:MAX_ANNOTATIONS]:
                _say(line)

    def write_results(self, outputs: Mapping[str, Mapping[str, Json]]) -> None:
        """Hand the outputs of flows to the later steps of the job. Raises `OSError`."""
        if self._is_for_github and self._results:
            text, left_out = results_file(outputs)
            for line in left_out:
                _say(line)
            _append(self._results, text, end="")

    def from_root(self, problem: Problem) -> Problem:
        """Return a problem with its path as CI systems expect it: relative to the repository."""
        place = self._from_root(problem.place)
        return Problem(place, problem.message, problem.hint, problem.level)

    def _annotations(
        self, statuses: Sequence[InstanceStatus], places: "_Places", level: Level, whole: Place
    ) -> Iterator[str]:
        """Yield an annotation for what is not current: one for instances that are so alike."""
        stale = [status for status in statuses if not status.is_current]
        for _, alike in groupby(stale, key=_kind_of):
            first, *others = alike
            place = places.of(first) or whole
            title = f"{first.id} and {len(others):,} more" if others else first.id
            message = "; ".join((first.state, *first.reasons))
            yield annotation(level, message, title=title, place=place)

    def _links(self, checkup: Checkup) -> Links:
        """Return where the files of the commit are shown; nowhere if GitHub does not say so."""
        folder = self._from_root(Place(str(checkup.project.root))).path
        return Links.to_commit(*self._commit, folder="" if folder == "." else folder)

    def _suite(self, checkup: Checkup) -> Suite:
        name = checkup.shown
        return self._suites.setdefault(name, Suite(name))

    def _below_root(self, place: Place | None) -> Place | None:
        return None if place is None else self._from_root(place)

    def _from_root(self, place: Place) -> Place:
        """Return a place with its path relative to the root of the checkout, as GitHub expects."""
        path = Path.cwd() / place.path
        root = Path(self._root or ".").absolute()
        shown = path.relative_to(root) if path.is_relative_to(root) else path
        return Place(shown.as_posix(), place.line, place.column)


class _Places:
    """The places of changes, each searched once for all instances that are alike.

    `shown` returns a place as it is reported.
    """

    def __init__(self, checkup: Checkup, shown: Callable[[Place | None], Place | None]) -> None:
        self._checkup = checkup
        self._shown = shown
        self._known: dict[object, Place | None] = {}

    def of(self, status: InstanceStatus) -> Place | None:
        kind = _kind_of(status)
        if kind not in self._known:
            self._known[kind] = self._shown(place_of_cause(self._checkup, status))
        return self._known[kind]


def _kind_of(status: InstanceStatus) -> tuple[str, ...]:
    """Return what instances have in common that are not current in the same way."""
    name = status.id if status.state == "orphaned" else step_of(status.id)
    return (name, status.state, *status.reasons)


def _earlier(checkup: Checkup, options: RunOptions) -> Earlier:
    """Return the results of a flow before this run: of the last run, and the committed files."""
    root, environ = checkup.project.root, options.environ
    git = None if options.offline else Git.find(root, environ)
    return Earlier(outputs=last_outputs(checkup, options), project=checkup.project, git=git)


def _size_of(path: str) -> int:
    """Return how much of a file there is: other commands of the step wrote to it, too."""
    try:
        return Path(path).stat().st_size
    except FileNotFoundError:
        return 0


def _append(path: str, text: str, *, end: str = "\n") -> None:
    """Add a text to a file of GitHub's runner, without keys."""
    data = without_keys()(text).encode("utf-8", "replace")
    with Path(path).open("ab") as file:
        file.write(data + end.encode())


def _say(line: str) -> None:
    sys.stderr.write(without_keys()(line) + "\n")
    sys.stderr.flush()


def _without_keys(document: bytes) -> bytes:
    return without_keys()(document.decode()).encode()
