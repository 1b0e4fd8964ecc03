"""The pages of a job: what a run did, or the status or problems of a flow, as Markdown.

A page has a bounded length, and no text from outside becomes markup in it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, Self
from urllib.parse import quote

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import NotTextError, text_of
from poeflow.problems import Place, Problem
from poeflow.project.project import FileProblem, Project
from poeflow.records import InstanceStatus
from poeflow.redact import visible
from poeflow.report.pass_rates import PassRates, Rate
from poeflow.report.plan import step_status
from poeflow.report.terminal.notes import Note, Told, by_cause
from poeflow.report.terminal.run_summary import final_lines
from poeflow.report.terminal.step_lines import outcome
from poeflow.report.terminal.text import UNICODE, paired
from poeflow.report.terminal.tree import Tree
from poeflow.store.git import Git

MAX_PAGE: Final = 290_000
"""How many bytes the page of one flow has."""
MAX_NOTES: Final = 50
MAX_NOTE: Final = 1_000
"""How many characters of one message are in a page."""
MAX_NAMES: Final = 10
"""How many instances of one cause are named."""
MAX_STEPS: Final = 200
MAX_OUTPUT: Final = 20_000
"""How many characters of one output are in a page."""
MAX_OUTPUTS: Final = 100_000
"""How many characters of all outputs and files are in a page."""
MAX_FILES: Final = 20
MAX_FILE_BYTES: Final = 256 * 1024
MAX_LINES: Final = 1_000
"""How many lines of a text are compared."""
CONTEXT: Final = 2
"""How many unchanged lines are shown around a change."""
LAST_LINE: Final = 100
"""How many bytes the line with the number of pages that are left out may have."""
LEFT_OUT: Final = "not shown here, as the summary is long"
_PUNCTUATION: Final = lazy_pattern(r"[^\w\s,()\-]|_")
_TICKS: Final = lazy_pattern("`+")


class Links(msgspec.Struct, frozen=True, kw_only=True):
    """Where the files of a job's commit are shown: `files` begins their addresses.

    Without it nothing is a link. `folder` is that of the project in the repository.
    """

    files: str = ""
    folder: str = ""

    @classmethod
    def to_commit(cls, server: str, repository: str, commit: str, *, folder: str) -> Self:
        """Return links to the files of a commit, as GitHub shows them; none if one is empty."""
        if not (server and repository and commit):
            return cls()
        return cls(files=f"{server}/{quote(repository)}/blob/{quote(commit)}/", folder=folder)

    def to_place(self, text: str, place: Place | None) -> str:
        """Return a text that leads to a line, whose path begins in the repository."""
        return self._link(text, place.path, f"#L{place.line}") if place else escaped(text)

    def to_output(self, path: str) -> str:
        """Return the path of a file of the project, which leads to that file."""
        return self._link(path, f"{self.folder}/{path}".lstrip("/"))

    def _link(self, text: str, path: str, part: str = "") -> str:
        if not self.files or path.startswith(("/", "../")):
            return escaped(text)
        return f"[{escaped(text)}]({self.files}{quote(path, errors='surrogateescape')}{part})"


class Earlier(msgspec.Struct, frozen=True, kw_only=True):
    """The results of a flow before a run: `outputs` of the last one, and files that `git` has."""

    outputs: Mapping[str, Json] = {}
    project: Project | None = None
    git: Git | None = None

    def committed(self, path: str) -> bytes | None:
        """Return a file as it was committed last, None if it was not."""
        return None if self.git is None else next(self.git.versions(path), None)

    def change(self, path: str, committed: bytes) -> tuple[str, str] | None:
        """Return the committed text of a file and its text now, None if it is not text."""
        if self.project is None:
            return None
        try:
            new = self.project.peek(f"//{path}", limit=MAX_FILE_BYTES)
            return text_of(committed), text_of(new)
        except (FileProblem, NotTextError):
            return None


class RunPage(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run: its `tree`, what passed, the models it `asked` and for what.

    `files` are the first of the `written` ones. `place_of` returns that of a step in the flow.
    """

    tree: Tree
    rates: PassRates
    asked: Mapping[tuple[str, str], int]
    files: Sequence[str]
    written: int
    place_of: Callable[[str], Place | None]
    earlier: Earlier
    links: Links

    def text(self) -> str:
        """Return the page."""
        return _within(self._blocks(), MAX_PAGE)

    def _blocks(self) -> Iterator[str]:
        tree = self.tree
        finished = tree.finished
        yield _head(tree.flow, is_ok=finished is not None and finished.exit_code == 0)
        if finished is not None:
            yield from (f"{escaped(line)}\n" for line in final_lines(finished))
        yield from _asked(self.asked)
        yield from self._steps()
        yield from _passed(self.rates)
        yield from _listed("Failures", tree.failures, tree.totals["failed"])
        yield from _listed("Warnings", tree.warnings, tree.totals["warnings"])
        yield from self._results({} if finished is None else finished.outputs)

    def _steps(self) -> Iterator[str]:
        yield "| | step | what came of it |\n|---|---|---|"
        branches = tuple(self.tree.roots())
        for branch in branches[:MAX_STEPS]:
            place = None if branch.depth else self.place_of(branch.name)
            name = f"{'&nbsp;&nbsp;' * branch.depth}{self.links.to_place(branch.name, place)}"
            yield f"| {UNICODE.of(branch.state)[0]} | {name} | {_note(outcome(branch))} |"
        yield from _more(len(branches) - MAX_STEPS, "| | and {:,} more | |")

    def _results(self, outputs: Mapping[str, Json]) -> Iterator[str]:
        """Yield the outputs, then the files that no output equals, each as what changed in it."""
        before = {path: self.earlier.committed(path) for path in self.files}
        files = dict(self._changes(before))
        committed = {new.strip(): old for old, new in files.values()}
        texts = {name: text_of_output(value) for name, value in outputs.items()}
        found: list[tuple[str, str]] = []
        for name, new in texts.items():
            last = self.earlier.outputs.get(name)
            old = committed.get(new.strip()) if last is None else text_of_output(last)
            block = code_block(_cut(new)) if old in (None, new) else _change(old, new)
            found.append((escaped(name), block))
        shown = {new.strip() for new in texts.values()}
        found += [
            (self.links.to_output(path), _change(*both))
            for path, both in files.items()
            if both[1].strip() not in shown
        ]
        yield from self._written(before)
        room = MAX_OUTPUTS
        for name, block in found:
            room -= len(block)
            yield f"\n**{name}**\n\n{block if room >= 0 else LEFT_OUT}"

    def _changes(self, before: Mapping[str, bytes | None]) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield the files whose text is another than the committed one, with both texts."""
        for path, committed in before.items():
            both = None if committed is None else self.earlier.change(path, committed)
            if both is not None and both[0] != both[1]:
                yield path, both

    def _written(self, before: Mapping[str, bytes | None]) -> Iterator[str]:
        """Yield the files that the run wrote; those that git has are links to the commit."""
        if before:
            yield "\n**Files**\n"
        for path, old in before.items():
            name = escaped(path) if old is None else self.links.to_output(path)
            yield f"- {name}{', new' if old is None and self.earlier.git is not None else ''}"
        yield from _more(self.written - len(before), "- and {:,} more")


def status_summary(
    flow: str,
    steps: Mapping[str, Sequence[InstanceStatus]],
    faults: Sequence[str],
    *,
    note: str = "",
    link: Callable[[str], str] | None = None,
) -> str:
    """Return the status of a flow as Markdown: its steps, other `faults`, and a `note`.

    `link` returns the name of a step as Markdown.
    """
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
        name = (link or escaped)(step)
        lines.append(f"| {mark} | {name} | {_note(step_status(statuses))} |")
    lines += _more(len(steps) - MAX_STEPS, "| | and {:,} more | |")
    return _within(lines, MAX_PAGE)


def problems_summary(flow: str, problems: Sequence[Problem]) -> str:
    """Return the problems of a flow as Markdown."""
    is_ok = not any(problem.level == "error" for problem in problems)
    lines = [_head(flow, is_ok=is_ok)]
    lines += [f"- {_note(str(problem))}" for problem in problems[:MAX_NOTES]]
    lines += _more(len(problems) - MAX_NOTES, "- and {:,} more")
    return f"{_within(lines, MAX_PAGE).rstrip()}\n"


def pages_within(pages: Sequence[str], room: int) -> str:
    """Return pages that have at most `room` bytes together.

    A page for which there is no room is its first line, so that every flow is named.
    """
    heads = [f"{page.partition(chr(10))[0]}\n\n{LEFT_OUT}\n" for page in pages]
    kept = sum(map(_size, heads))
    room -= LAST_LINE
    shown: list[str] = []
    for page, head in zip(pages, heads, strict=True):
        kept -= _size(head)
        text = page if _size(page) + kept <= room else head
        room -= _size(text)
        if room < 0:
            break
        shown.append(text)
    return "\n".join([*shown, *_more(len(pages) - len(shown), "and {:,} more")])


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


def _asked(asked: Mapping[tuple[str, str], int]) -> Iterator[str]:
    """Yield which models were asked how often, and for what if not for an answer."""
    told = [
        f"{model} {_times(count)}{'' if purpose == 'answer' else f' ({purpose})'}"
        for (model, purpose), count in islice(asked.items(), MAX_NOTES)
    ]
    if told:
        yield f"asked {escaped(', '.join(told))}\n"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count) or f"{count:,} times"


def _passed(rates: PassRates) -> Iterator[str]:
    """Yield a table of what passed: each loop, then each value of its axes."""
    rows = [
        f"| {'' if rate.axis else escaped(step)} | {_part(rate)} | {_rate(rate)} |"
        for step, those in islice(rates, MAX_STEPS)
        for rate in those
    ]
    if rows:
        yield "\n| step | | passed | score | tokens | cost |\n|---|---|---:|---:|---:|---:|"
    yield from rows


def _part(rate: Rate) -> str:
    return _note(f"{rate.axis} {rate.value}")


def _rate(rate: Rate) -> str:
    share = f"{rate.passed:,} of {rate.judged:,} ({rate.passed * 100 // rate.judged} %)"
    score = "" if rate.mean_score is None else f"{rate.mean_score:.2f}"
    tokens = f"{rate.tokens:,}" if rate.tokens else ""
    cost = f"{rate.cost_usd:.4f} USD" if rate.cost_usd else ""
    return f"{share} | {score} | {tokens} | {cost}"


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
    """Yield messages by their causes, those of most instances first."""
    told = sorted(by_cause(notes), key=lambda one: -len(one.steps))[:MAX_NOTES]
    if told:
        yield f"\n**{head}**\n"
    yield from map(_cause, told)
    yield from _more(total - sum(len(one.steps) for one in told), "- and {:,} more")


def _cause(told: Told) -> str:
    count = len(told.steps)
    if count == 1:
        return f"- {escaped(told.steps[0] or 'run')}: {_note(told.message)}"
    names = ", ".join(escaped(step or "run") for step in told.steps[:MAX_NAMES])
    more = "".join(_more(count - MAX_NAMES, " and {:,} more"))
    return f"- **{count:,}**, {_note(told.said)}\n  <br>{names}{more}"


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


def _size(text: str) -> int:
    """Return how many bytes a text has in a file, with the end of its line."""
    return len(text.encode("utf-8", "replace")) + 1


def _within(blocks: Iterable[str], room: int) -> str:
    """Return the blocks of a page that have at most `room` bytes together, each whole."""
    shown: list[str] = []
    for block in blocks:
        room -= _size(block)
        if room < 0:
            shown.append(f"\nThe rest is {LEFT_OUT}.")
            break
        shown.append(block)
    return "\n".join(shown) + "\n"
