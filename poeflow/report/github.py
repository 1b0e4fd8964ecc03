"""What a GitHub workflow gets of a run: annotations for failures, its page, its results."""

import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Final, Literal, TextIO

from poeflow.digest import Json
from poeflow.events import Event, Expected, FileWritten, RequestSent, StepFailed, Warned
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Place, Problem
from poeflow.records import step_of
from poeflow.report.github_commands import annotation, results_text
from poeflow.report.job_summary import MAX_FILES, Earlier, Links, RunPage, text_of_output
from poeflow.report.pass_rates import PassRates
from poeflow.report.terminal.notes import cause_of
from poeflow.report.terminal.tree import Tree

MAX_ANNOTATIONS: Final = 10
"""How many errors, and how many warnings, GitHub shows for a step of a job."""
MAX_RESULTS: Final = 900_000
"""Bytes, in UTF-16, of all results of a command: GitHub accepts 1 MiB from a job."""
_NOT_NAME: Final = lazy_pattern(r"[^A-Za-z0-9_]")


class GitHubReport:
    """Listens to the run of one flow and writes annotations to `stream`, the log of the job.

    `place_of` returns the place of a step in its flow file. Outputs and files that differ from
    `earlier` ones are shown as differences. Of a step one failure of each cause is annotated, as
    GitHub shows only a few.
    """

    def __init__(
        self,
        stream: TextIO,
        place_of: Callable[[str], Place | None],
        earlier: Earlier | None = None,
        links: Links | None = None,
    ) -> None:
        self._stream = stream
        self._place_of = place_of
        self._earlier = earlier or Earlier()
        self._links = links or Links()
        self._annotated: dict[str, set[tuple[str, str]]] = {"error": set(), "warning": set()}
        self._asked: Counter[tuple[str, str]] = Counter()
        self._files: dict[str, None] = {}
        self._written = 0
        self._rates = PassRates()
        self._tree = Tree()

    def __call__(self, event: Event) -> None:
        self._tree.hear(event, event.at)
        self._rates(event)
        match event:
            case StepFailed(is_told=False, is_tolerated=False):
                self._annotate("error", event.step, event.message)
            case StepFailed(is_told=False) | Expected(level="warn") | Warned():
                self._annotate("warning", event.step or "", event.message)
            case RequestSent():
                self._asked[event.model, event.purpose] += 1
            case FileWritten():
                self._written += 1
                if len(self._files) < MAX_FILES:
                    self._files[event.path] = None
            case _:
                pass

    def job_summary(self) -> str:
        """Return the run as Markdown for the page of the job."""
        return RunPage(
            tree=self._tree,
            rates=self._rates,
            asked=self._asked,
            files=tuple(self._files),
            written=self._written,
            place_of=self._place_of,
            earlier=self._earlier,
            links=self._links,
        ).text()

    def _annotate(self, level: Literal["error", "warning"], step: str, message: str) -> None:
        known = self._annotated[level]
        if len(known) >= MAX_ANNOTATIONS:
            return
        cause = (step_of(step) if step else "", cause_of(message))
        if cause in known:
            return
        known.add(cause)
        place = self._place_of(step) if step else None
        self._stream.write(annotation(level, message, title=step or "poeflow", place=place) + "\n")
        self._stream.flush()


def of_problem(problem: Problem) -> str:
    """Return the annotation of a problem."""
    message = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
    return annotation(problem.level, message, title="poeflow", place=problem.place)


def results_file(flows: Mapping[str, Mapping[str, Json]]) -> tuple[str, list[str]]:
    """Return the outputs of flows for `GITHUB_OUTPUT`, and annotations for those left out.

    Of several flows, the name of an output begins with that of its flow. What GitHub would not take
    is left out rather than cut.
    """
    found: dict[str, str] = {}
    left_out: list[str] = []
    room = MAX_RESULTS
    for flow, outputs in flows.items():
        before = f"{_NOT_NAME.sub('_', PurePosixPath(flow).stem)}_" if len(flows) > 1 else ""
        for name, text in ((f"{before}{key}", text_of_output(outputs[key])) for key in outputs):
            size = len(text.encode("utf-16-le", "replace"))
            if size > room:
                message = f"the output {name} is not handed on: GitHub takes 1 MiB of a job"
                left_out.append(annotation("warning", message, title="poeflow"))
                continue
            room -= size
            found[name] = text
    return results_text(found, lambda: secrets.token_hex(16)), left_out
