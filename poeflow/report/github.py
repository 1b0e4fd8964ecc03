"""Reports for GitHub workflows: annotations for failures, and the summary of the job.

A summary has a bounded length, and no text from outside becomes markup in it.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import PurePosixPath
from typing import Final, Literal, TextIO

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.events import Event, Expected, FileWritten, StepFailed, Warned
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import NotTextError, text_of
from poeflow.problems import Place, Problem
from poeflow.project.project import FileProblem, Project
from poeflow.records import InstanceStatus
from poeflow.redact import visible
from poeflow.report.github_commands import annotation, results_text
from poeflow.report.plan import step_status
from poeflow.report.terminal.notes import Note
from poeflow.report.terminal.run_summary import final_lines
from poeflow.report.terminal.step_lines import outcome
from poeflow.report.terminal.text import UNICODE, paired
from poeflow.report.terminal.tree import Tree
from poeflow.store.git import Git

MAX_ANNOTATIONS: Final = 10
"""How many errors, and how many warnings, GitHub shows for a step of a job."""
MAX_NOTES: Final = 50
MAX_NOTE: Final = 1_000
"""How many characters of one message are in the summary."""
MAX_STEPS: Final = 200
MAX_OUTPUT: Final = 20_000
"""How many characters of one output are in the summary."""
MAX_OUTPUTS: Final = 100_000
"""How many characters of all outputs and files are in the summary of one flow."""
MAX_FILES: Final = 20
MAX_FILE_BYTES: Final = 256 * 1024
MAX_RESULTS: Final = 900_000
"""Bytes, in UTF-16, of all results of a command: GitHub accepts 1 MiB from a job."""
MAX_LINES: Final = 1_000
"""How many lines of a text are compared."""
CONTEXT: Final = 2
"""How many unchanged lines are shown around a change."""
_LEFT_OUT: Final = "not shown here, as the summary is long"
_PUNCTUATION: Final = lazy_pattern(r"[^\w\s,()\-]|_")
_NOT_NAME: Final = lazy_pattern(r"[^A-Za-z0-9_]")
_TICKS: Final = lazy_pattern("`+")


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a flow before a run: `outputs` of the last one, and files that `git` has."""

    outputs: Mapping[str, Json] = {}
    project: Project | None = None
    git: Git | None = None

    def file(self, path: str) -> tuple[str, str] | None:
        """Return the committed text of a file and its text now.

        None if it is not committed, or not text.
        """
        if self.project is None or self.git is None:
            return None
        old = next(self.git.versions(path), None)
        try:
            new = self.project.peek(f"//{path}", limit=MAX_FILE_BYTES)
            return None if old is None else (text_of(old), text_of(new))
        except (FileProblem, NotTextError):
            return None


class GitHubReport:
    """Listens to the run of one flow and writes annotations to `stream`, the log of the job.

    `place_of` returns the place of a step in its flow file. Outputs and files that differ from
    `earlier` ones are shown as differences.
    """

    def __init__(
        self,
        stream: TextIO,
        place_of: Callable[[str], Place | None],
        earlier: Earlier | None = None,
    ) -> None:
        self._stream = stream
        self._place_of = place_of
        self._earlier = earlier or Earlier()
        self._counts = {"error": 0, "warning": 0}
        self._files: dict[str, None] = {}
        self._tree = Tree()

    def __call__(self, event: Event) -> None:
        self._tree.hear(event, event.at)
        match event:
            case StepFailed(is_told=False, is_tolerated=False):
                self._annotate("error", event.step, event.message)
            case StepFailed(is_told=False) | Expected(level="warn") | Warned():
                self._annotate("warning", event.step or "", event.message)
            case FileWritten() if len(self._files) < MAX_FILES:
                self._files[event.path] = None
            case _:
                pass

    def job_summary(self) -> str:
        """Return the run as Markdown for the page of the job."""
        return "\n".join(self._summary()) + "\n"

    def _annotate(self, level: Literal["error", "warning"], step: str, message: str) -> None:
        self._counts[level] += 1
        if self._counts[level] > MAX_ANNOTATIONS:
            return
        place = self._place_of(step) if step else None
        self._stream.write(annotation(level, message, title=step or "poeflow", place=place) + "\n")
        self._stream.flush()

    def _summary(self) -> Iterator[str]:
        tree = self._tree
        finished = tree.finished
        is_ok = finished is not None and finished.exit_code == 0
        yield _head(tree.flow, is_ok=is_ok)
        if finished is not None:
            yield from (f"{escaped(line)}\n" for line in final_lines(finished))
        yield "| | step | what came of it |\n|---|---|---|"
        branches = tuple(tree.roots())
        for branch in branches[:MAX_STEPS]:
            name = f"{'&nbsp;&nbsp;' * branch.depth}{escaped(branch.name)}"
            yield f"| {UNICODE.of(branch.state)[0]} | {name} | {_note(outcome(branch))} |"
        yield from _more(len(branches) - MAX_STEPS, "| | and {:,} more | |")
        yield from _listed("Failures", tree.failures, tree.totals["failed"])
        yield from _listed("Warnings", tree.warnings, tree.totals["warnings"])
        yield from self._results({} if finished is None else finished.outputs)

    def _results(self, outputs: Mapping[str, Json]) -> Iterator[str]:
        """Yield the outputs, then the files that no output equals, each as what changed in it."""
        files = dict(self._changed_files())
        committed = {new.strip(): old for old, new in files.values()}
        texts = {name: text_of_output(value) for name, value in outputs.items()}
        found: list[tuple[str, str]] = []
        for name, new in texts.items():
            before = self._earlier.outputs.get(name)
            old = committed.get(new.strip()) if before is None else text_of_output(before)
            found.append((name, code_block(_cut(new)) if old in (None, new) else _change(old, new)))
        shown = {new.strip() for new in texts.values()}
        found += [
            (path, _change(*both)) for path, both in files.items() if both[1].strip() not in shown
        ]
        room = MAX_OUTPUTS
        for name, block in found:
            room -= len(block)
            yield f"\n**{escaped(name)}**\n\n{block if room >= 0 else _LEFT_OUT}"

    def _changed_files(self) -> Iterator[tuple[str, tuple[str, str]]]:
        for path in self._files:
            found = self._earlier.file(path)
            if found is not None and found[0] != found[1]:
                yield path, found


def status_summary(
    flow: str,
    steps: Mapping[str, Sequence[InstanceStatus]],
    faults: Sequence[str],
    *,
    note: str = "",
) -> str:
    """Return the status of a flow as Markdown: its steps, other `faults`, and a `note`."""
    is_ok = not faults and all(one.is_current for statuses in steps.values() for one in statuses)
    lines = [_head(flow, is_ok=is_ok), *(f"- {_note(fault)}" for fault in faults)]
    if faults:
        lines.append("")
    if note:
        lines.append(f"{_note(note)}\n")
    if steps:
        lines.append("| | step | status |\n|---|---|---|")
    for step, statuses in islice(steps.items(), MAX_STEPS):
        mark = UNICODE.done if all(one.is_current for one in statuses) else UNICODE.failed
        lines.append(f"| {mark} | {escaped(step)} | {_note(step_status(statuses))} |")
    lines += _more(len(steps) - MAX_STEPS, "| | and {:,} more | |")
    return "\n".join(lines) + "\n"


def problems_summary(flow: str, problems: Sequence[Problem]) -> str:
    """Return the problems of a flow as Markdown."""
    is_ok = not any(problem.level == "error" for problem in problems)
    lines = [_head(flow, is_ok=is_ok)]
    lines += [f"- {_note(str(problem))}" for problem in problems[:MAX_NOTES]]
    lines += _more(len(problems) - MAX_NOTES, "- and {:,} more")
    return "\n".join(lines).rstrip("\n") + "\n"


def of_problem(problem: Problem) -> str:
    """Return the annotation of a problem."""
    message = f"{problem.message}; {problem.hint}" if problem.hint else problem.message
    return annotation(problem.level, message, title="poeflow", place=problem.place)


def escaped(text: str) -> str:
    """Return `text` escaped for a line of Markdown, so that nothing in it is markup."""
    line = " ".join(visible(paired(text)).split())
    return _PUNCTUATION.sub(lambda found: f"&#{ord(found[0])};", line)


def code_block(text: str, *, language: str = "text") -> str:
    """Return `text` in a code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    fence = "`" * max(longest + 1, 3)
    return f"{fence}{language}\n{text}\n{fence}"


def text_of_output(value: Json) -> str:
    """Return an output as text: as it is, or as JSON."""
    return value if isinstance(value, str) else encode_json(value).decode("utf-8", "replace")


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


def _change(old: str | None, new: str) -> str:
    """Return the lines that changed in a text in a code block, marked with `-` and `+`."""
    import difflib  # only if a text changed

    both = (_lines(old or ""), _lines(new))
    lines = islice(difflib.unified_diff(*both, lineterm="", n=CONTEXT), 2, None)
    return code_block(_cut("\n".join(lines)), language="diff")


def _lines(text: str) -> list[str]:
    """Return the lines to compare of a text: not too many, as the time grows with their square."""
    lines = _cut(text).splitlines()
    more = len(lines) - MAX_LINES
    return [*lines[:MAX_LINES], f"[{more:,} more lines]"] if more > 0 else lines


def _head(flow: str, *, is_ok: bool) -> str:
    return f"### {UNICODE.done if is_ok else UNICODE.failed} {escaped(flow)}\n"


def _listed(head: str, notes: list[Note], total: int) -> Iterator[str]:
    if notes:
        yield f"\n**{head}**\n"
    for note in notes[:MAX_NOTES]:
        yield f"- {escaped(note.step or 'run')}: {_note(note.message)}"
    yield from _more(total - MAX_NOTES, "- and {:,} more")


def _more(count: int, form: str) -> Iterator[str]:
    if count > 0:
        yield form.format(count)


def _note(message: str) -> str:
    """Return a message for a line of Markdown, cut if it is very long."""
    return escaped(message if len(message) <= MAX_NOTE else f"{message[:MAX_NOTE]} ...")


def _cut(text: str) -> str:
    """Return a text as it is shown, without what is too long."""
    shown = visible(paired(text).replace("\r\n", "\n"))
    if len(shown) <= MAX_OUTPUT:
        return shown
    return f"{shown[:MAX_OUTPUT]}\n[{len(shown) - MAX_OUTPUT:,} more characters]"
