"""What CI systems get from a run besides its log: annotations, a job summary, a JUnit file."""

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Self

import msgspec

from poeflow.cli.output import Output
from poeflow.cli.private_files_options import without_keys
from poeflow.errors import UsageError
from poeflow.events import Listener
from poeflow.operations.check import Checkup
from poeflow.operations.status import Proof
from poeflow.problems import Place, errors_only
from poeflow.project.project import atomic_write
from poeflow.records import outer_step
from poeflow.report.github import (
    MAX_ANNOTATIONS,
    GitHubReport,
    of_problem,
    problems_summary,
    standing_summary,
)
from poeflow.report.github_commands import annotation
from poeflow.report.junit import Suite, document
from poeflow.report.plan import steps_of

SUMMARY_VARIABLE: Final = "GITHUB_STEP_SUMMARY"
ROOT_VARIABLE: Final = "GITHUB_WORKSPACE"
MAX_SUMMARY: Final = 900_000
"""Bytes of all summaries of a command: GitHub takes 1 MiB from a step of a job."""


class CiReports:
    """Collects what is reported of all flows of a command; the files are written at its exit.

    Raises `UsageError` where the JUnit file's folder is not there: before anything is spent.
    """

    def __init__(self, output: Output, junit: Path | None, environ: Mapping[str, str]) -> None:
        if junit is not None and not junit.absolute().parent.is_dir():
            hint = f"make the folder {junit.parent}"
            raise UsageError(f"--junit {junit}: its folder does not exist", hint=hint)
        self._is_for_github = output == "github"
        self._junit = junit
        self._root = environ.get(ROOT_VARIABLE, "")
        self._summary = environ.get(SUMMARY_VARIABLE, "")
        self._suites: dict[str, Suite] = {}
        self._pages: list[Callable[[], str]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        """Write the files, also of a run that was interrupted. Raises `DiskError`, `OSError`."""
        if self._junit is not None:
            atomic_write(self._junit, _without_keys(document(self._suites.values())))
        if self._pages and self._summary:
            text = without_keys()("\n".join(page() for page in self._pages))
            data = text.encode("utf-8", "replace")[:MAX_SUMMARY].decode("utf-8", "ignore")
            with Path(self._summary).open("a", encoding="utf-8") as file:
                file.write(f"{data}\n")

    def listeners(self, checked: Checkup) -> tuple[Listener, ...]:
        """Return who else hears the run of a flow."""
        found: list[Listener] = []
        if self._junit is not None:
            found.append(self._suite(checked))
        if self._is_for_github:
            page = GitHubReport(sys.stderr, lambda step: self._place_of(checked, step))
            self._pages.append(page.job_summary)
            found.append(page)
        return tuple(found)

    def tell(self, checked: Checkup, *, is_all: bool = False) -> None:
        """Report what is wrong in a flow; `is_all` tells that nothing more is reported of it."""
        errors = errors_only(checked.problems)
        if is_all and not errors:
            self._suite(checked).sound()
        if self._is_for_github and (is_all or errors):
            page = partial(problems_summary, checked.loaded.document.path, checked.problems)
            self._pages.append(page)
        for problem in checked.problems:
            if problem.level == "error":
                self._suite(checked).add(problem)
            if self._is_for_github:
                place = self._from_root(problem.place)
                found = msgspec.structs.replace(problem, place=place)
                sys.stderr.write(without_keys()(of_problem(found)) + "\n")
        sys.stderr.flush()

    def stand(self, checked: Checkup, proof: Proof) -> None:
        """Report whether a flow is proven current by its lock."""
        suite, flow = self._suite(checked), checked.loaded.document.path
        for fact in proof.facts:
            suite.stand(fact)
        if proof.faults or not proof.facts:
            suite.add_fault("; ".join(proof.faults)) if proof.faults else suite.sound()
        if self._is_for_github:
            page = partial(standing_summary, flow, steps_of(proof.facts), proof.faults)
            self._pages.append(page)
            for line in self._annotations(checked, proof):
                sys.stderr.write(without_keys()(line) + "\n")
            sys.stderr.flush()

    def _annotations(self, checked: Checkup, proof: Proof) -> Iterator[str]:
        """Yield what GitHub shows beside the steps that are not current, as many as it shows."""
        whole = self._from_root(Place(checked.loaded.document.path, 1, 1))
        stale = [fact for fact in proof.facts if not fact.is_current]
        for fault in proof.faults:
            yield annotation("error", fault, title="poeflow", place=whole)
        for fact in stale[: MAX_ANNOTATIONS - len(proof.faults)]:
            place = self._place_of(checked, fact.id) or whole
            message = "; ".join((fact.state, *fact.reasons))
            yield annotation("error", message, title=fact.id, place=place)

    def _suite(self, checked: Checkup) -> Suite:
        name = checked.loaded.document.path
        return self._suites.setdefault(name, Suite(name))

    def _place_of(self, checked: Checkup, step: str) -> Place | None:
        """Return where the step is written that an instance is of, or is used by, if it is."""
        outer = outer_step(step)
        if checked.checked is not None and outer not in checked.checked.order:
            return None
        return self._from_root(checked.loaded.document.key_place(("steps", outer)))

    def _from_root(self, place: Place) -> Place:
        """Return a place as GitHub names files: from the root of the checkout."""
        path = Path.cwd() / place.path
        root = Path(self._root or ".").absolute()
        shown = path.relative_to(root) if path.is_relative_to(root) else path
        return Place(shown.as_posix(), place.line, place.column)


def _without_keys(document: bytes) -> bytes:
    return without_keys()(document.decode()).encode()
