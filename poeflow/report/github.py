"""A run in a GitHub workflow: annotations for what went wrong, and the job's summary."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, TextIO

from poeflow.digest import Json, encode_json
from poeflow.events import Event, Expected, StepFailed, Warned
from poeflow.problems import Place, Problem
from poeflow.records import InstanceStatus, step_of
from poeflow.redact import visible
from poeflow.report.github_commands import annotation
from poeflow.report.log import ending
from poeflow.report.plan import told
from poeflow.report.terminal.step_lines import outcome
from poeflow.report.terminal.text import UNICODE, paired
from poeflow.report.terminal.tree import Note, Tree

MAX_ANNOTATIONS: Final = 10
"""How many errors, and how many warnings, GitHub shows of a step of a job."""
MAX_NOTES: Final = 50
MAX_OUTPUT: Final = 20_000
"""How many characters of one output are in the summary."""
_PUNCTUATION: Final = re.compile(r"[^\w\s,()\-]|_")
_TICKS: Final = re.compile("`+")


class GitHubReport:
    """Listens to the run of one flow and annotates it on `stream`, where its log goes.

    `place_of` says where a step is written.
    """

    def __init__(self, stream: TextIO, place_of: Callable[[str], Place | None]) -> None:
        self._stream = stream
        self._place_of = place_of
        self._told = {"error": 0, "warning": 0}
        self._tree = Tree()

    def __call__(self, event: Event) -> None:
        self._tree.hear(event, event.at)
        match event:
            case StepFailed(is_told=False, is_tolerated=False):
                self._annotate("error", event.step, event.message)
            case StepFailed(is_told=False) | Expected(level="warn") | Warned():
                self._annotate("warning", event.step or "", event.message)
            case _:
                pass

    def job_summary(self) -> str:
        """Return the run as Markdown for the job's page. Nothing in it is live but its table."""
        return "\n".join(self._summary()) + "\n"

    def _annotate(self, level: Literal["error", "warning"], step: str, message: str) -> None:
        self._told[level] += 1
        if self._told[level] > MAX_ANNOTATIONS:
            return
        place = self._place_of(step_of(step)) if step else None
        self._stream.write(annotation(level, message, title=step or "poeflow", place=place) + "\n")
        self._stream.flush()

    def _summary(self) -> Iterator[str]:
        tree = self._tree
        finished = tree.finished
        is_ok = finished is not None and finished.exit_code == 0
        yield _head(tree.flow, is_ok=is_ok)
        if finished is not None:
            yield from (f"{escaped(line)}\n" for line in ending(finished))
        yield "| | step | what came of it |\n|---|---|---|"
        for branch in tree.roots():
            name = f"{'&nbsp;&nbsp;' * branch.depth}{escaped(branch.name)}"
            yield f"| {UNICODE.of(branch.state)[0]} | {name} | {escaped(outcome(branch))} |"
        yield from _listed("Failures", tree.failures, tree.totals["failed"])
        yield from _listed("Warnings", tree.warnings, tree.totals["warnings"])
        for output, value in (finished.outputs if finished is not None else {}).items():
            yield f"\n**{escaped(output)}**\n\n{fenced(_text(value))}"


def standing_summary(
    flow: str, steps: Mapping[str, Sequence[InstanceStatus]], faults: Sequence[str]
) -> str:
    """Return how a flow stands by its lock as Markdown: its steps, and what else is wrong."""
    is_ok = not faults and all(one.is_current for facts in steps.values() for one in facts)
    lines = [_head(flow, is_ok=is_ok), *(f"- {escaped(fault)}" for fault in faults)]
    if faults:
        lines.append("")
    if steps:
        lines.append("| | step | how it stands |\n|---|---|---|")
    for step, facts in steps.items():
        mark = UNICODE.done if all(one.is_current for one in facts) else UNICODE.failed
        lines.append(f"| {mark} | {escaped(step)} | {escaped(told(facts))} |")
    return "\n".join(lines) + "\n"


def problems_summary(flow: str, problems: Sequence[Problem]) -> str:
    """Return what is wrong in a flow as Markdown."""
    is_ok = not any(problem.level == "error" for problem in problems)
    lines = [_head(flow, is_ok=is_ok)]
    lines += [f"- {escaped(str(problem))}" for problem in problems[:MAX_NOTES]]
    if len(problems) > MAX_NOTES:
        lines.append(f"- and {len(problems) - MAX_NOTES:,} more")
    return "\n".join(lines).rstrip("\n") + "\n"


def _head(flow: str, *, is_ok: bool) -> str:
    return f"### {UNICODE.done if is_ok else UNICODE.failed} {escaped(flow)}\n"


def of_problem(problem: Problem) -> str:
    """Return the annotation of what is wrong in a file."""
    message = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
    return annotation(problem.level, message, title="poeflow", place=problem.place)


def escaped(text: str) -> str:
    """Return `text` for a line of Markdown: it stays text, and no link, tag or picture."""
    line = " ".join(visible(paired(text)).split())
    return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", line)


def fenced(text: str) -> str:
    """Return `text` in a code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return f"{fence}text\n{text}\n{fence}"


def _listed(head: str, notes: list[Note], total: int) -> Iterator[str]:
    if notes:
        yield f"\n**{head}**\n"
    for note in notes[:MAX_NOTES]:
        yield f"- {escaped(note.step or 'run')}: {escaped(note.message)}"
    if total > MAX_NOTES:
        yield f"- and {total - MAX_NOTES:,} more"


def _text(value: Json) -> str:
    text = value if isinstance(value, str) else encode_json(value).decode()
    shown = visible(paired(text).replace("\r\n", "\n"))
    if len(shown) <= MAX_OUTPUT:
        return shown
    return f"{shown[:MAX_OUTPUT]}\n[{len(shown) - MAX_OUTPUT:,} more characters]"
